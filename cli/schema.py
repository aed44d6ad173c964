"""`lifecycle schema`: what a project's tables must be like, proposed from data and kept by people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, Project, err, naming, out, project_folder, refuse
from kfp_lifecycle.local.environment_module import run_module

schema = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="What a project's tables must be like: propose it from data, show it, compare it with newer data, accept what "
    "changed.",
)

Tables = Annotated[list[str] | None, typer.Argument(metavar="TABLE", help="The tables meant; by default all.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="A folder of tables; by default what the project's newest run read.",
    ),
]


@schema.command()
def infer(
    tables: Tables = None,
    project: Project = None,
    data: Data = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace schemas that are there.")] = False,
) -> None:
    """Propose a schema for each table that has none, from good data: types, presence, the values of text with few.

    A proposal knows one batch only. Review it, and add what it cannot know: what else can rightly come, and what never
    may, such as the least and the largest number. Then commit it with the project.

    Example: `lifecycle schema infer purchases --project examples/cdnow`

    Exit codes: 0 written, 1 the data cannot be read, 2 the command is wrong or there is nothing to propose.
    """
    folder, expectations = _places(project)
    source = _newest_data(folder, data)
    names = tables or _tables_of(source)
    written = [name for name in names if (expectations / f"{name}.pbtxt").exists() and not replace]
    if tables and written:
        told = "See with `lifecycle schema diff` whether data still agree with it, or propose anew with --replace"
        refuse(f"{', '.join(written)}: there is a schema already. {naming(told, folder)}")
    missing = [name for name in names if name not in written]
    if not missing:
        refuse(naming("every table has a schema; `lifecycle schema diff` compares them with the data", folder))
    for name, proposal in _review("infer", source, expectations, missing).items():
        file = expectations / f"{name}.pbtxt"
        _write(file, proposal["text"])
        out.say(f"{_shown(file)}: proposed, to be reviewed")
        _print_lines(proposal["words"])


@schema.command()
def show(tables: Tables = None, project: Project = None) -> None:
    """Say in words what the schemas demand of each column.

    Example: `lifecycle schema show customers`

    Exit codes: 0 shown, 1 a schema is missing or cannot be read, 2 the command is wrong.
    """
    folder, expectations = _places(project)
    for name, lines in _review("show", folder, expectations, tables or []).items():
        out.print(f"[bold]{name}[/]")
        _print_lines(lines)


@schema.command()
def diff(tables: Tables = None, project: Project = None, data: Data = None) -> None:
    """Compare the newest data with the schemas, and name what is not as they say: rows, share and examples.

    Example: `lifecycle schema diff purchases`

    Exit codes: 0 all agree, 1 something differs or cannot be read, 2 the command is wrong.
    """
    folder, expectations = _places(project)
    if _print_differences(_review("diff", _newest_data(folder, data), expectations, tables or [])):
        raise typer.Exit(EXIT_FAILED)


@schema.command()
def accept(
    tables: Tables = None,
    project: Project = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Change the schemas, as little as possible, so that the newest data agree with them: this is how it is now.

    What differs is shown first, and nothing is written without a yes.

    Example: `lifecycle schema accept subscriptions --yes`

    Exit codes: 0 written or nothing to do, 1 declined or something cannot be read, 2 the command is wrong.
    """
    folder, expectations = _places(project)
    source = _newest_data(folder, data)
    if not yes and not sys.stdin.isatty():
        told = "nobody is here to say yes; see with `lifecycle schema diff` what would change, and add --yes"
        refuse(naming(told, folder))
    found = _review("accept", source, expectations, tables or [])
    if not _print_differences(found):
        return
    changed = {name: each["text"] for name, each in found.items() if each["differences"]}
    if not yes and not typer.confirm(f"Is this how {', '.join(changed)} should be from now on?"):
        err.print("nothing was changed")
        raise typer.Exit(EXIT_FAILED)
    for name, text in changed.items():
        file = expectations / f"{name}.pbtxt"
        _write(file, text)
        out.say(f"{_shown(file)}: changed; review and commit it")


def _places(project: Path | None) -> tuple[Path, Path]:
    """The project's folder, and that of its expectations."""
    from kfp_lifecycle.config.loading import load_configuration

    folder = project_folder(project)
    configuration = load_configuration(folder)
    return folder, folder / configuration.validation.expectations


def _newest_data(project: Path, data: Path | None) -> Path:
    """The folder of tables that is meant: the one named, else what the project's newest run read."""
    from kfp_lifecycle.artifacts.tables import Manifest
    from kfp_lifecycle.local.run_records import all_runs

    if data is not None:
        if not (data / Manifest.FILE).is_file():
            refuse(
                f"--data {data}: there is no finished folder of tables (a {Manifest.FILE} and a Parquet file for each)"
            )
        return data.resolve()
    read = (run.progress().artifact("tables") for run in all_runs() if Path(run.project_folder) == project)
    newest = next((Path(path) for path, _ in filter(None, read) if (Path(path) / Manifest.FILE).is_file()), None)
    if newest is None:
        told = "Start one with `lifecycle run training`, which stops where a schema is missing, or name a folder of "
        refuse(f"no run of this project has read its source yet. {naming(told, project)}tables with --data")
    return newest


def _tables_of(data: Path) -> list[str]:
    from kfp_lifecycle.artifacts.tables import Manifest
    from kfp_lifecycle.runtime.contract import ContractViolation

    try:
        return list(Manifest.read(data).tables)
    except ContractViolation as violation:
        refuse(str(violation))


def _review(action: str, data: Path, expectations: Path, tables: Sequence[str]) -> dict[str, Any]:
    """Have schemas looked at in the environment that has TFDV; its answer by table."""
    module = "kfp_lifecycle.components.data.validate_data.schema_review"
    printed = run_module("validation", module, action, str(data), str(expectations), *tables)
    answer: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answer


def _print_differences(found: dict[str, Any]) -> bool:
    """Print what differs, by table; whether anything does."""
    for name, each in found.items():
        out.print(f"[bold]{name}[/]" + ("" if each["differences"] else ": as its schema says"))
        _print_lines(each["differences"])
    return any(each["differences"] for each in found.values())


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        out.say(f"  {line}")


def _write(file: Path, text: str) -> None:
    """Write a schema whole, below the remarks at the head of the one that is there."""
    remarks = ""
    if file.exists():
        for line in file.read_text("utf-8").splitlines(keepends=True):
            if not line.startswith("#"):
                break
            remarks += line
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(remarks + text, "utf-8")
    unfinished.replace(file)


def _shown(file: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
