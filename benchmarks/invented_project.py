"""A project for rows that a benchmark invents: label `event`, records in a file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations, local_locations

# A search space for histogram gradient boosting.
SPACE = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True},
    "max_leaf_nodes": {"type": "int", "low": 7, "high": 63, "log": True},
    "min_samples_leaf": {"type": "int", "low": 10, "high": 200, "log": True},
    "l2_regularization": {"type": "float", "low": 0.001, "high": 10, "log": True},
}


def write_project(
    folder: Path, key: str, evaluation: dict[str, Any] | None = None, tuning: dict[str, Any] | None = None
) -> None:
    """Write `pipeline.yaml`.

    Args:
        folder: The project's folder.
        key: Column of the entity key.
        evaluation: How thoroughly candidates are examined.
        tuning: How settings are searched for.
    """
    configuration = {
        "name": "benchmark",
        "title": "Who does it",
        "entity": {"name": "one", "key": key},
        "source": {"url": "file:///none", "format": "csv", "tables": {"ones": {"key": [key], "event_time": "seen"}}},
        "label": {"name": "event", "title": "does it", "horizon_days": 30},
        "features": {"service": "benchmark"},
        "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.6}]},
        "deployment": {"model": "benchmark"},
        "evaluation": evaluation or {},
        "tuning": tuning or {},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), "utf-8")


def read_project(folder: Path) -> tuple[Configuration, Locations]:
    """The project's settings, and locations in its folder: MLflow's records are in `mlflow.db`."""
    return load_configuration(folder), local_locations(folder, "benchmark")
