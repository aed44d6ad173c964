"""`lifecycle init`: a project from a table, by a few questions."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, err, out, refuse, run_module
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from kfp_lifecycle.projects.questions import Question

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's name, and that of its new folder.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="FILE|URL[#TABLE]", help="CSV, xlsx, Parquet, JSON lines, or a database and its table."
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

    Each question comes with a guess and its reason. Without a terminal the guesses are taken, and said.

    Example: `lifecycle init churn --from customers.csv`

    Example: `lifecycle init churn --from customers.xlsx#2025 --label Left --positive yes --yes`

    Example: `lifecycle init lapse --from sqlite:///shop.db#orders --entity customer_id --time ordered_at --yes`

    Exit codes: 0 written, 1 the table cannot be used, and the message says why, 2 the command is wrong.
    """
    from kfp_lifecycle.projects.place import place_of
    from kfp_lifecycle.projects.profile import profile_of
    from kfp_lifecycle.projects.questions import ask_all
    from kfp_lifecycle.projects.scaffold import write_project

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
            out.print(
                f"\n{question.text}\n  guess: {question.guess or '?'}, since {question.why}",
                markup=False,
                soft_wrap=True,
            )
            answer = str(
                typer.prompt(f"  --{question.option}", default=question.guess, show_default=bool(question.guess))
            )
            why = question.why if answer == question.guess else "it was answered"
        else:
            answer, why = question.guess, f"guessed: {question.why}"
            out.print(f"guessed --{question.option} {question.guess!r}: {question.why}", markup=False, soft_wrap=True)
        asked.append((replace(question, why=why), answer))
        return answer

    place = place_of(source, Path.cwd())
    with tempfile.TemporaryDirectory(prefix="init-") as work:
        printed = run_module("validation", "kfp_lifecycle.projects.source_dialect", place.url, place.part, work)
        read = json.loads(printed.splitlines()[-1])
        profile = profile_of(Path(work) / f"{place.table}.parquet")
        out.print(f"{source}: {profile.rows:,} rows, {len(profile.columns)} columns", markup=False, soft_wrap=True)
        for finding in read["findings"]:
            out.print(f"  {finding}", markup=False, soft_wrap=True)
        project = Path(work) / name
        try:
            answers = ask_all(profile, ask)
            for column, why in answers.left_out:
                out.print(f"left out {column.title}: {why}", markup=False, soft_wrap=True)
            for note in answers.notes:
                out.print(f"note: {note}", markup=False, soft_wrap=True)
            write_project(project, name, place, read["settings"], answers, asked)
        except ContractViolation as violation:
            err.print(f"error: {violation}", markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_FAILED) from None
        # As its runs will: what cannot be read is told now, and nothing is left behind.
        run_module("validation", "kfp_lifecycle.projects.first_reading", str(project))
        shutil.copytree(project, folder)
    files = sorted(str(file) for file in folder.rglob("*") if file.is_file())
    out.print(f"wrote {', '.join(files)}", markup=False, soft_wrap=True)
    out.print("Review what was guessed, then:", markup=False)
    for command in (f"cd {name}", "lifecycle check", "lifecycle run training"):
        out.print(f"  {command}", markup=False)
