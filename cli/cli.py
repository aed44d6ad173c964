"""`lifecycle`: run pipelines on this machine, and look after what they made."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

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
    AsJson,
    Project,
    err,
    out,
    project_folder,
    refuse,
    write_json,
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
from kfp_lifecycle.cli.run import run
from kfp_lifecycle.cli.runs import artifacts, cancel, compare, logs, resume, runs, watch
from kfp_lifecycle.cli.schedules import schedule
from kfp_lifecycle.cli.schema import schema
from kfp_lifecycle.cli.setup import setup
from kfp_lifecycle.cli.triggers import trigger
from kfp_lifecycle.local.state import trouble
from kfp_lifecycle.runtime.closure import PACKAGE
from kfp_lifecycle.runtime.contract import ContractViolation

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
app.add_typer(schedule, name="schedule")
app.add_typer(trigger, name="trigger")
data.command()(sheet)
app.add_typer(data, name="data")
app.add_typer(schema, name="schema")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show what is served and how the last runs ended.

    Example: `lifecycle status --json`
    """
    from kfp_lifecycle.cli.outcome import describe_status, status_as_json

    if as_json:
        write_json(status_as_json())
    else:
        describe_status(out)


@app.command()
def predict(
    entity: Annotated[
        list[str] | None, typer.Option("--entity", metavar="ID", help="Entity to score from the online store.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="A v2 inference request; `-` reads standard input.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to ask; by default the one released last.")
    ] = None,
) -> None:
    """Ask the model that is served, in the v2 (Open Inference) protocol, and print its answer.

    Example: `lifecycle predict --entity 17`

    Example: `lifecycle predict --json request.json`
    """
    from kfp_lifecycle.cli.inference import InferenceError, entity_request, infer, read_request
    from kfp_lifecycle.cli.outcome import chosen_endpoint

    if bool(entity) == bool(file):
        refuse("name either --entity ID or --json FILE")
    try:
        endpoint = chosen_endpoint(model)
        request = read_request(file) if file else entity_request(endpoint, entity or [])
        answer = infer(endpoint, request)
    except InferenceError as error:
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    write_json(answer, ensure_ascii=False)


@app.command()
def report(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="The run; by default the newest.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print the path of a run's report.

    Example: `lifecycle report --open`
    """
    from kfp_lifecycle.local.run_records import all_runs

    runs = [record for record in all_runs() if run_id in (None, record.id) and record.report]
    if not runs:
        refuse(
            f"run {run_id} has no report" if run_id else "no run has a report yet: start with `lifecycle run training`"
        )
    if open_it:
        webbrowser.open(Path(runs[0].report or "").as_uri())
    sys.stdout.write(f"{runs[0].report}\n")


@app.command()
def reproduce(
    model: Annotated[
        str, typer.Argument(metavar="RUN|VERSION", help="A run here, an MLflow run, or a version: `3` or `churn/3`.")
    ],
    project: Project = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Train with another setting, to see what it changes."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow server that knows it; by default this checkout's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model again from its recorded data, code and environment, and compare byte by byte.

    Example: `lifecycle reproduce 3`

    Exit codes: 0 the same bytes, 1 they differ, and it says how, 2 it cannot be trained again.
    """
    from kfp_lifecycle.cli.reproduce import reproduce_model

    if not reproduce_model(model, project_folder(project), settings or [], tracking_uri, out, err, as_json):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def serve() -> None:
    """Start again what was released: after `lifecycle down`, or after the machine was restarted.

    Example: `lifecycle serve`
    """
    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.serving.release.local.operations import start

    endpoints = start(serving_folder())
    if not endpoints:
        refuse("nothing was released yet: start with `lifecycle run training`")
    for endpoint in endpoints:
        out.print(f"{endpoint.model} version {endpoint.version} answers at {endpoint.url}")


@app.command()
def down() -> None:
    """Stop all servers. What they serve is kept: `lifecycle serve` starts them again.

    Example: `lifecycle down`
    """
    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.serving.release.local.operations import stop

    stopped = stop(serving_folder())
    out.print("all servers are stopped" if stopped else "nothing was running")


@app.command()
def simulate(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="The DuckDB file to write, or a .csv.")
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="Customers who ever sign up.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, help="Days of business.")] = 1095,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day of business.")] = datetime(
        2026, 6, 30
    ),
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Read the database at the end of this day; by default, the last."),
    ] = None,
    inject: Annotated[
        list[str] | None, typer.Option("--inject", metavar="NAME", help="Something that happens; may be repeated.")
    ] = None,
    list_injections: Annotated[bool, typer.Option("--list", help="List what can be injected.")] = False,
) -> None:
    """Write the event tables of a simulated subscription business.

    A file that ends in .csv becomes one flat table, as somebody would export it: a row for each customer of a day, and
    whether they left within the next 30 days.

    Example: `lifecycle simulate --output bad.duckdb --customers 2000 --inject refund_bug`

    Example: `lifecycle simulate --output customers.csv --customers 20000 --days 730`
    """
    from kfp_lifecycle.simulation.business import INJECTIONS
    from kfp_lifecycle.simulation.business import simulate as write_business

    if list_injections:
        for name, effect in INJECTIONS.items():
            sys.stdout.write(f"{name}  {effect}\n")
        return
    if output is None:
        refuse("name the file to write: --output FILE")
    if output.suffix == ".csv" and (inject or until):
        refuse("--inject and --until are of event tables: write a .duckdb file")
    try:
        with err.status("simulating …") as progress:
            if output.suffix == ".csv":
                from kfp_lifecycle.simulation.one_table import write_one_table

                rows = write_one_table(output, customers=customers, days=days, seed=seed, end=end.date())
                out.print(f"{output}: {rows:,} customers, a row for each", markup=False, soft_wrap=True)
                return
            summary = write_business(
                output,
                customers=customers,
                days=days,
                seed=seed,
                end=end.date(),
                until=until.date() if until else None,
                inject=inject or [],
                progress=lambda done, whole: progress.update(f"simulating customers: {done:,} of {whole:,}"),
            )
    except ValueError as error:
        refuse(str(error))
    tables = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in summary.rows.items())
    out.print(f"{output}: {summary.first_day} to {summary.last_day}, {tables}", markup=False, soft_wrap=True)


def _in_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale would have paths and output in less than all letters."""
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONUTF8": "1"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `lifecycle` command.

    Args:
        arguments: The command line; by default this process's own.

    Returns:
        The exit code.
    """
    _in_utf8()
    try:
        app(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library == PACKAGE:
            raise
        err.print(
            f"error: this needs {library}, which is not installed here: pip install 'kfp-lifecycle[local]'",
            markup=False,
            soft_wrap=True,
        )
        return EXIT_USAGE
    except OSError as error:
        told = trouble(error)
        if told is None:
            raise
        err.print(f"error: {told}", markup=False, soft_wrap=True)
        return EXIT_FAILED
    except ContractViolation as violation:
        err.print(f"error: {violation}", markup=False, soft_wrap=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
