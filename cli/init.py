"""`lifecycle init`: a project from a table, by a few questions."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, EXIT_INTERRUPTED, err, out, refuse
from kfp_lifecycle.local.environment_module import ModuleFailed, run_module
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from kfp_lifecycle.projects.joining import JoinedTable
    from kfp_lifecycle.projects.place import Place
    from kfp_lifecycle.projects.profile import Column, Profile
    from kfp_lifecycle.projects.questions import Ask, Question, Refused

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's name, and that of its new folder.")],
    sources: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="FILE|URL[#TABLE]",
            help="CSV, xlsx, Parquet, JSON lines, or a database and its table. Further ones are joined to the first, "
            "which has the label, by the entity's key.",
        ),
    ],
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="What is to be predicted.")] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", metavar="VALUE", help="The label's value that is the event.")
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option("--entity", metavar="COLUMN", help="Who it is predicted for; row_id numbers the rows."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="COLUMN", help="When a row happened, where rows are events; or none."),
    ] = None,
    sensitive: Annotated[
        str | None,
        typer.Option("--sensitive", metavar="COLUMNS", help="What it must be fair by, with commas; or none."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the guesses, and ask nothing.")] = False,
) -> None:
    """Begin a project from a table: look at it, ask what it cannot say, and write all files that a first run needs.

    Several tables are joined by the entity's key; of one with several rows for an entity, sums and counts are made.

    Each question comes with a guess and its reason. Without a terminal the guesses are taken, and said.

    Example: `lifecycle init churn --from customers.csv`

    Example: `lifecycle init churn --from customers.xlsx#2025 --label Left --positive yes --yes`

    Example: `lifecycle init churn --from customers.csv --from billing.xlsx --from sqlite:///shop.db#orders --yes`

    Example: `lifecycle init lapse --from sqlite:///shop.db#orders --entity customer_id --time ordered_at --yes`

    Exit codes: 0 written, 1 the table cannot be used, and the message says why, 2 the command is wrong.
    """
    if not NAME.fullmatch(name):
        refuse(
            f"{name!r:.60} cannot be a project's name: it is of small letters, digits and underscores, at most 41, "
            "with a letter first, such as churn_2026"
        )
    folder = Path(name)
    if folder.exists():
        refuse(f"{folder} is there already: choose another name, or remove it")
    given = {"label": label, "positive": positive, "entity": entity, "time": time, "sensitive": sensitive}
    asks = not yes and sys.stdin.isatty()
    asked: list[tuple[Question, str]] = []

    def ask(question: Question) -> str:
        answer = given[question.option]
        if answer is not None:
            why = "it was given"
        elif asks:
            out.say(f"\n{question.text}\n  guess: {question.guess or '?'}, since {question.why}")
            answer = _typed(question)
            why = question.why if answer == question.guess else "it was answered"
        else:
            answer, why = question.guess, f"guessed: {question.why}"
            out.say(f"guessed --{question.option} {question.guess!r}: {question.why}")
        asked.append((replace(question, why=why), answer))
        return answer

    def refused(question: Question, violation: ContractViolation) -> None:
        if not asks or given[question.option] is not None:
            raise violation
        err.say(f"error: {violation}")
        # With it what was asked because of it.
        del asked[[each.option for each, _ in asked].index(question.option) :]

    with tempfile.TemporaryDirectory(prefix="init-") as work:
        project = Path(work) / name
        try:
            _write(project, sources, ask, refused, asked)
            # As its runs will: what cannot be read is told now, and nothing is left behind.
            _reading("first_reading", " and ".join(sources), str(project))
        except ContractViolation as violation:
            err.say(f"error: {violation}")
            raise typer.Exit(EXIT_FAILED) from None
        shutil.copytree(project, folder)
    files = sorted(str(file) for file in folder.rglob("*") if file.is_file())
    out.say(f"wrote {', '.join(files)}")
    out.say("Review what was guessed, then:")
    for command in (f"cd {name}", "lifecycle check", "lifecycle run training"):
        out.say(f"  {command}")


def _typed(question: Question) -> str:
    """What somebody answers at the terminal; the guess is taken by Enter.

    Raises:
        typer.Exit: they gave up.
    """
    try:
        answer = str(typer.prompt(f"  --{question.option}", default=question.guess, show_default=bool(question.guess)))
    except typer.Abort:
        err.say("\ninterrupted; nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    return answer if answer == question.guess else answer.strip()


def _write(
    project: Path, sources: Sequence[str], ask: Ask, refused: Refused, asked: list[tuple[Question, str]]
) -> None:
    """Look at the tables, ask what they cannot say, and write a project beside them.

    Raises:
        ContractViolation: a table, or an answer about it, makes no project.
    """
    from kfp_lifecycle.projects.joining import join
    from kfp_lifecycle.projects.place import place_of
    from kfp_lifecycle.projects.questions import ask_all
    from kfp_lifecycle.projects.scaffold import write_project

    place, *further = [place_of(source, Path.cwd()) for source in sources]
    tables = [each.table for each in (place, *further)]
    for table in tables:
        if tables.count(table) > 1:
            refuse(f"two tables would be called {table}: give one of the files another name")
    settings, profile = _look(place, sources[0], project.parent)
    answers = ask_all(profile, ask, not further, refused)
    _tell(answers.left_out, answers.notes)
    joined: list[JoinedTable] = []
    taken = {column.name for column in profile.columns}
    for each, source in zip(further, sources[1:], strict=True):
        table_settings, table_profile = _look(each, source, project.parent)
        base = project.parent / f"{place.table}.parquet"
        joined.append(join(answers, base, each, table_settings, table_profile, taken))
        taken |= {column.name for column in joined[-1].columns}
        _tell(joined[-1].left_out, joined[-1].notes)
    write_project(project, project.name, place, settings, answers, asked, joined)


def _look(place: Place, source: str, folder: Path) -> tuple[dict[str, Any], Profile]:
    """How a table can be read, and what it is like; its rows are left in `<table>.parquet`."""
    from kfp_lifecycle.projects.profile import profile_of

    read = read_source(place, source, folder)
    profile = profile_of(folder / f"{place.table}.parquet")
    out.say(f"{source}: {profile.rows:,} rows, {len(profile.columns)} columns")
    for finding in read["findings"]:
        out.say(f"  {finding}")
    return read["settings"], profile


def read_source(place: Place, source: str, folder: Path) -> dict[str, Any]:
    """The `settings` by which a table can be read, and `findings` in sentences; its rows are left in `<table>.parquet`.

    Raises:
        ContractViolation: it cannot be read; the message names `source`, which was given.
    """
    printed = _reading("source_dialect", source, place.url, place.part, place.table, str(folder))
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def _reading(module: str, source: str, *words: str) -> str:
    """What a module prints that reads a source.

    Raises:
        ContractViolation: it cannot be read.
    """
    from kfp_lifecycle.projects.place import as_given

    try:
        return run_module("validation", f"kfp_lifecycle.projects.{module}", *words)
    except ModuleFailed as failed:
        raise ContractViolation(as_given(str(failed), source)) from None


def _tell(left_out: Sequence[tuple[Column, str]], notes: Sequence[str]) -> None:
    """Say what a table's columns are not, and what else was found."""
    for column, why in left_out:
        out.say(f"left out {column.title}: {why}")
    for note in notes:
        out.say(f"note: {note}")
