"""`lifecycle`: run pipelines on this machine, and look after what they made."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.main import get_command

from kfp_lifecycle.cli.add import add
from kfp_lifecycle.cli.alerts import alerts
from kfp_lifecycle.cli.approval import approve, reject
from kfp_lifecycle.cli.audit import audit
from kfp_lifecycle.cli.check import check
from kfp_lifecycle.cli.compilation import compile_pipelines
from kfp_lifecycle.cli.config import config
from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    err,
)
from kfp_lifecycle.cli.dashboard import dashboard
from kfp_lifecycle.cli.data import data
from kfp_lifecycle.cli.data_sheet import sheet
from kfp_lifecycle.cli.doctor import doctor
from kfp_lifecycle.cli.examples import example
from kfp_lifecycle.cli.forget import forget
from kfp_lifecycle.cli.init import init
from kfp_lifecycle.cli.lineage import lineage
from kfp_lifecycle.cli.releases import promote, release, releases, rollback
from kfp_lifecycle.cli.report import report
from kfp_lifecycle.cli.reproduce import reproduce
from kfp_lifecycle.cli.run import run
from kfp_lifecycle.cli.runs import artifacts, cancel, compare, logs, resume, runs, watch
from kfp_lifecycle.cli.schedules import schedule
from kfp_lifecycle.cli.schema import schema
from kfp_lifecycle.cli.served import down, predict, serve, status
from kfp_lifecycle.cli.setup import setup
from kfp_lifecycle.cli.simulate import simulate
from kfp_lifecycle.cli.triggers import trigger
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.environments.locks import EnvironmentMissing
from kfp_lifecycle.local.environment_module import ModuleFailed
from kfp_lifecycle.local.state import trouble
from kfp_lifecycle.runtime.closure import PACKAGE
from kfp_lifecycle.runtime.contract import ContractViolation

# What a command, or the project it is about, has wrong; whatever command it is.
REFUSALS = (ConfigurationError, EnvironmentMissing)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Run a production model's life on this machine: ingest, validate, train, evaluate, deploy, monitor.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"kfp-lifecycle {version('kfp-lifecycle')}\n")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself; a command's own follow its name."""


app.command()(init)
app.command()(check)
app.add_typer(add, name="add")
app.add_typer(config, name="config")
app.command()(example)
app.command()(setup)
app.command("compile")(compile_pipelines)
app.command()(run)
app.command()(doctor)
app.command()(runs)
app.command()(watch)
app.command()(logs)
app.command()(cancel)
app.command()(resume)
app.command()(artifacts)
app.command()(compare)
app.command()(releases)
app.command()(release)
app.command()(promote)
app.command()(rollback)
app.command()(approve)
app.command()(reject)
app.command()(alerts)
app.command()(dashboard)
app.add_typer(audit, name="audit")
app.command()(forget)
app.command()(lineage)
app.command()(status)
app.command()(predict)
app.command()(report)
app.command()(reproduce)
app.command()(serve)
app.command()(down)
app.command()(simulate)
app.add_typer(schedule, name="schedule")
app.add_typer(trigger, name="trigger")
data.command()(sheet)
app.add_typer(data, name="data")
app.add_typer(schema, name="schema")


def _in_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale would have paths and output in less than all letters."""
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONUTF8": "1"})


@functools.cache
def _command() -> Callable[..., Any]:
    """The commands as they are run; made once, however many a process is given."""
    return get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `lifecycle` command.

    Args:
        arguments: The command line; by default this process's own.

    Returns:
        The exit code.
    """
    _in_utf8()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A letter that the terminal does not have is shown by its number, as in errors, and ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _command()(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (*REFUSALS, ModuleNotFoundError, OSError, ContractViolation, ModuleFailed) as error:
        code, told = _ending(error)
        if told is None:
            raise
        err.say(f"error: {told}")
        return code
    return 0


def _ending(error: Exception) -> tuple[int, str | None]:
    """The exit code of an error that no command foresaw, and what a person is told; None where it is a mistake here."""
    if isinstance(error, ModuleNotFoundError):
        library = (error.name or "").partition(".")[0]
        needed = f"this needs {library}, which is not installed here: pip install 'kfp-lifecycle[local]'"
        return EXIT_USAGE, None if library == PACKAGE else needed
    if isinstance(error, REFUSALS):
        return EXIT_USAGE, str(error)
    return EXIT_FAILED, trouble(error) if isinstance(error, OSError) else str(error)
