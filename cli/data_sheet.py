"""`lifecycle data sheet`: what a version of the data holds, and which rules held, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import out, refuse
from kfp_lifecycle.cli.data import dataset_versions
from kfp_lifecycle.runtime.contract import ContractViolation


def sheet(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As `lifecycle data log` lists it, or in full.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Page to write: .html, or .md.")],
) -> None:
    """Write the data sheet of a version: rows, dates, columns, what is missing, its source, the rules that held.

    Example: `lifecycle data sheet a7e77a59 --output sheet.html`

    Exit codes: 0 written, 1 its tables are not here any more or the page cannot be written, 2 the command is wrong.
    """
    from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
    from kfp_lifecycle.governance.data_sheet import data_sheet
    from kfp_lifecycle.local.run_records import all_runs
    from kfp_lifecycle.reports.model_card import sections_as_html, sections_as_markdown

    known = [each for each in dataset_versions() if each.version.startswith(version)]
    if len(known) != 1:
        which = "no version begins" if not known else f"{len(known)} versions begin"
        refuse(f"{which} with {version}: name one of those that `lifecycle data log` lists")
    if output.suffix not in (".html", ".md"):
        refuse(f"--output {output}: name a file that ends in .html or .md")
    chosen = known[0]
    runs = {run.id: run for run in all_runs()}
    worked = [runs[name] for name in chosen.runs]
    found = [(run.progress().artifact("dataset"), run.progress().artifact("validated")) for run in worked]
    places = [Path(dataset[0]) for dataset, _ in found if dataset is not None and Path(dataset[0]).is_dir()]
    checked = [Path(each[0]) for _, each in found if each is not None and Path(each[0]).is_dir()]
    if not places:
        raise ContractViolation(
            f"the tables of {chosen.version} are in no run here any more: lifecycle data checkout, then run again"
        )
    learned = [run.progress().artifact("training_set") for run in worked]
    described = [Path(each[0]) for each in learned if each is not None and Path(each[0]).is_dir()]
    titles = TrainingSetDescription.read(described[0]).titles if described else {}
    origin = {"project": chosen.project, "kept in": chosen.remote}
    sections = data_sheet(chosen.version, places[0], checked[0] if checked else None, origin, chosen.runs, titles)
    title = f"{chosen.project}, {chosen.version[:8]}"
    render = sections_as_html if output.suffix == ".html" else sections_as_markdown
    try:
        output.write_text(render("Data sheet", title, sections), "utf-8")
    except OSError as error:
        raise ContractViolation(
            f"{output} cannot be written ({error.strerror}): name a file in a folder that is there"
        ) from error
    out.say(f"{output}: the data sheet of version {chosen.version}")
