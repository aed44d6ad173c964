"""`lifecycle check`: everything that a project lacks, at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    AsJson,
    Project,
    option_of,
    out,
    project_folder,
    write_json,
)
from kfp_lifecycle.environments.locks import SETUP, is_built
from kfp_lifecycle.local.environment_module import begin_module, finish_module

if TYPE_CHECKING:
    from kfp_lifecycle.projects.lacks import Lack


def check(project: Project = None, as_json: AsJson = False) -> None:
    """Tell everything that a project lacks: configuration, files, feature definitions, estimators, the source and its
    columns.

    Nothing is run, and no run is waited for. Of a database one row of each table is asked for.

    Example: `lifecycle check`

    Example: `lifecycle check --project examples/cdnow --json`

    Exit codes: 0 nothing is lacking, 1 something is, 2 the command is wrong.
    """
    from kfp_lifecycle.projects.lacks import lacks_of_files

    folder = project_folder(project)
    named = option_of(folder)
    found, configuration = lacks_of_files(folder, named)
    if configuration is not None:
        looks = {"validation": "source_lacks"}
        defined = (folder / configuration.features.repository / "features.py").is_file()
        if configuration.features.tables or defined:
            looks["modelling"] = "definition_lacks"
        found += _asked(looks, folder)
    if as_json:
        write_json([asdict(lack) for lack in found], ensure_ascii=False)
    elif not found:
        out.say(f"nothing is lacking: `lifecycle run training{named}`")
    else:
        for lack in found:
            out.say(f"{lack.where}: {lack.what}")
    if found:
        raise typer.Exit(EXIT_FAILED)


def _asked(looks: Mapping[str, str], project: Path) -> list[Lack]:
    """What looks from environments of the steps find, a module of each: all at once, since imports take most of it."""
    from kfp_lifecycle.projects.lacks import Lack

    begun = {
        environment: begin_module(environment, f"kfp_lifecycle.projects.{module}", str(project))
        for environment, module in looks.items()
        if is_built(environment)
    }
    found: list[Lack] = []
    for environment in looks:
        if environment in begun:
            printed = finish_module(begun[environment])
            found += [Lack(where, what) for where, what in json.loads(printed.splitlines()[-1])]
        else:
            unseen = f"it is not built, so nothing was looked at with it: run `{SETUP}`"
            found.append(Lack(f"environment {environment}", unseen))
    return found
