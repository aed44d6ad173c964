"""Judging a window: the documents that are read, and the remedy that is written."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.components.monitoring.decide_remedy.decision import Evidence, decide
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.monitoring.log_files import Window, log_files
from kfp_lifecycle.monitoring.log_window import features_of
from kfp_lifecycle.registry.champion import registered_version
from kfp_lifecycle.runtime.outputs import complete_folder


def decide_remedy(settings: Configuration, locations: Locations, drift: Path, outcomes: Path, remedy: Path) -> Remedy:
    """Decide by what was found.

    Args:
        settings: What the step was given of the configuration.
        locations: `tracking_uri` says where the registry is, `prediction_log` where predictions are.
        drift: What `detect_drift` wrote.
        outcomes: What `join_outcomes` wrote.
        remedy: Folder to write; it appears whole or not at all.

    Raises:
        ContractViolation: a document is missing or damaged, or the log cannot be read.
    """
    moved, known = Drift.read(drift), Outcomes.read(outcomes)
    table = pd.read_parquet(outcomes / Outcomes.TABLE)
    found = decide(
        Evidence(
            drift=moved,
            outcomes=known,
            table=table,
            label=settings.label.name,
            costs=settings.training.costs,
            ratio=settings.monitoring.outcome_ratio,
            seed=settings.training.seed,
            features=lambda: logged_features(locations, known, table, moved.version),
        )
    )
    with complete_folder(remedy) as folder:
        found.write(folder)
    print(found.sentence)
    return found


def logged_features(locations: Locations, outcomes: Outcomes, table: pd.DataFrame, version: str) -> pd.DataFrame | None:
    """What was logged of the features of a version's predictions, at the places of the outcomes' table.

    Returns:
        None where nothing was, or the registry does not know the version.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        champion = registered_version(locations.tracking_uri, outcomes.model, version)
        own = table[table["version"] == version]
        if champion is None or own.empty:
            return None
        inputs = champion.description(scratch).inputs
        window = Window(outcomes.start, outcomes.until + timedelta(days=1), outcomes.until)
        files = log_files(locations.prediction_log, outcomes.model, window, scratch / "log")
        asked = pa.Table.from_pandas(own[["version", "entity", "time"]], preserve_index=False)
        found = features_of(files, inputs, asked, scratch / "features")
    return None if found is None else found.to_pandas().set_index(own.index).reindex(table.index)
