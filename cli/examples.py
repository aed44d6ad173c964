"""`lifecycle example`: a project to begin with, copied into a folder."""

from __future__ import annotations

import json
import re
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import out, refuse
from kfp_lifecycle.runtime.closure import ROOT

CONFIGURATION = "pipeline.yaml"
SCHEMA = "pipeline.schema.json"
README = "README.md"
PARTS = (CONFIGURATION, "feature_repo", "expectations")
SIMULATED = "data/churn.duckdb"


class ExampleOption(StrEnum):
    """The projects that come with the library."""

    churn = "churn"
    cdnow = "cdnow"


def example(
    name: Annotated[
        ExampleOption,
        typer.Argument(metavar="NAME", help="churn, a simulated subscription business, or cdnow, real purchases."),
    ] = ExampleOption.churn,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to; by default a new folder of the example's name.")
    ] = None,
) -> None:
    """Copy an example project into a folder: its configuration, feature definitions, schemas and rules.

    Nothing that is there is overwritten.

    Example: `lifecycle example churn`

    Example: `lifecycle example cdnow .`

    Exit codes: 0 copied, 2 the folder has a project already.
    """
    from kfp_lifecycle.config.loading import configuration_schema

    destination = folder or Path(name)
    taken = [part for part in (*PARTS, SCHEMA) if (destination / part).exists()]
    if taken:
        refuse(f"{destination} has {', '.join(taken)} already: name another folder, `lifecycle example {name} FOLDER`")
    source = example_folder(name)
    destination.mkdir(parents=True, exist_ok=True)
    for part in PARTS[1:]:
        shutil.copytree(source / part, destination / part, ignore=shutil.ignore_patterns("__pycache__"))
    if source != ROOT and (source / README).is_file():
        shutil.copy(source / README, destination)
    configuration = (source / CONFIGURATION).read_text("utf-8")
    # Editors complete from the schema beside it, and the simulated business lies where a person looks for it.
    configuration = re.sub(r"\$schema=\S+", f"$schema={SCHEMA}", configuration, count=1)
    configuration = re.sub(r"duckdb:///\S+", f"duckdb:///{SIMULATED}", configuration, count=1)
    (destination / CONFIGURATION).write_text(configuration, "utf-8")
    (destination / SCHEMA).write_text(json.dumps(configuration_schema(), indent=1) + "\n", "utf-8")
    out.print(f"{destination}: the project {name}. To train and serve its model on this machine:", soft_wrap=True)
    simulation = [f"lifecycle simulate --output {SIMULATED}"] if name is ExampleOption.churn else []
    there = [] if destination.resolve() == Path.cwd() else [f"cd {destination}"]
    for command in (*there, *simulation, "lifecycle setup", "lifecycle run training"):
        out.say(f"  {command}")


def example_folder(name: ExampleOption) -> Path:
    """Where an example stands: below `examples/`, save the reference project, which is a checkout's own folder."""
    folder = ROOT / "examples" / name
    return folder if folder.is_dir() else ROOT
