"""Where a target keeps what outlives a run: read by the steps from the project artifact."""

from __future__ import annotations

from pathlib import Path

import yaml

from kfp_lifecycle.config.locations import Locations

STORES_FILE = "stores.yaml"


def load_stores(project: Path) -> Locations:
    """Read the stores that `load_project` wrote into the project artifact.

    Raises:
        FileNotFoundError: the folder is not a project artifact.
        pydantic.ValidationError: a store is missing or unknown.
    """
    return Locations.model_validate(yaml.safe_load((project / STORES_FILE).read_text(encoding="utf-8")))


def save_stores(stores: Locations, project: Path) -> None:
    """Write the stores beside the configuration."""
    (project / STORES_FILE).write_text(yaml.safe_dump(stores.model_dump(mode="json"), sort_keys=False), "utf-8")


def local_stores(state: Path, project_name: str) -> Locations:
    """The stores of this machine: everything under the state folder."""
    return Locations(
        tracking_uri=f"sqlite:///{state / 'mlflow.db'}",
        dataset_remote=str(state / "datasets" / project_name),
        online_store=str(state / "online" / f"{project_name}.db"),
        prediction_log=str(state / "predictions"),
        serving=f"local:{state / 'serving'}",
        study_store=str(state / "studies"),
    )
