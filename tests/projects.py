"""Test projects as folders: what a target takes apart for the steps, read from one place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.runtime.closure import ROOT

LOCATIONS_FILE = "locations.yaml"


@dataclass(frozen=True)
class Project:
    """A project's folder as the steps are given it."""

    folder: Path
    settings: Configuration
    """The whole configuration: it has every section."""
    locations: Locations
    feature_repo: Path
    """Folder with `features.py` and the views' SQL."""
    label_query: Path
    """The SQL file that labels entities."""
    expectations: Path
    """Folder with the tables' schemas and rules; it need not be there."""


def read_project(folder: Path, overrides: Sequence[str] = ()) -> Project:
    """Read `pipeline.yaml`, and `locations.yaml` as `save_locations` wrote it; without one, all is kept beside the
    folder.

    Args:
        folder: The project's folder.
        overrides: `KEY=VALUE` pairs that replace settings, as the command line has them.
    """
    settings = load_configuration(folder, overrides)
    return Project(
        folder=folder,
        settings=settings,
        locations=load_locations(folder)
        if (folder / LOCATIONS_FILE).exists()
        else local_locations(folder.parent / "state", settings.name),
        feature_repo=folder / settings.features.repository,
        label_query=folder / settings.label.query,
        expectations=folder / settings.validation.expectations,
    )


def load_locations(folder: Path) -> Locations:
    """Read `locations.yaml` of a test's project."""
    return Locations.model_validate(yaml.safe_load((folder / LOCATIONS_FILE).read_text("utf-8")))


def save_locations(locations: Locations, folder: Path) -> None:
    """Write `locations.yaml` into a test's project."""
    text = yaml.safe_dump(locations.model_dump(mode="json"), sort_keys=False)
    (folder / LOCATIONS_FILE).write_text(text, encoding="utf-8")


def keep_records_at(folder: Path, tracking_uri: str) -> None:
    """Name another MLflow server in the locations of a test's project."""
    save_locations(Locations(**{**load_locations(folder).model_dump(), "tracking_uri": tracking_uri}), folder)


def targets_of_the_docs() -> dict[str, dict[str, Any]]:
    """The targets that docs/deploy.md says are to be written, by name."""
    blocks = re.findall(r"```yaml\n(targets:.*?)```", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.DOTALL)
    targets = [yaml.safe_load(block)["targets"] for block in blocks]
    return {name: target for each in targets for name, target in each.items() if name != "default"}
