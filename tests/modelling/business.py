"""A small project and a training set of invented customers, as the feature step would write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.config.locations import Locations
from tests.projects import save_locations

FEATURES = [
    {"name": "charge", "type": "numeric"},
    {"name": "days_away", "type": "numeric"},
    {"name": "tickets", "type": "numeric"},
    {"name": "noise", "type": "numeric"},
    {"name": "plan", "type": "categorical"},
    {"name": "channel", "type": "categorical"},
]
DATES = {"train": ["2025-01-01", "2025-02-01", "2025-03-01"], "validation": ["2025-05-01"], "test": ["2025-07-01"]}


def customers(rows: int, date: str, random: np.random.Generator, entities: int) -> pd.DataFrame:
    """Rows of one snapshot: leaving depends on absence, tickets and plan; some values are missing."""
    frame = pd.DataFrame(
        {
            "account": random.permutation(entities)[:rows],
            "event_timestamp": pd.Timestamp(date, tz="UTC"),
            "charge": random.gamma(4, 10, rows),
            "days_away": random.exponential(20, rows),
            "tickets": random.poisson(0.7, rows).astype(float),
            "noise": random.normal(size=rows),
            "plan": random.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2]),
            "channel": random.choice(["web", "shop", "phone"], rows),
            "group": random.choice(["a", "b"], rows),
            "rare": random.choice(["x", "y", "tiny"], rows, p=[0.5, 0.49, 0.01]),
        }
    )
    logit = -2.6 + 0.05 * frame.days_away + 0.7 * frame.tickets - 0.8 * (frame.plan == "pro")
    frame["best_possible"] = 1 / (1 + np.exp(-logit))
    frame["gone"] = (random.random(rows) < frame.best_possible).astype(int)
    frame.loc[random.random(rows) < 0.1, "charge"] = np.nan
    frame.loc[random.random(rows) < 0.05, "plan"] = None
    if date >= "2025-07":
        frame.loc[random.random(rows) < 0.1, "channel"] = "app"
    return frame


def write_training_set(
    folder: Path, rows: int = 1000, seed: int = 0, features: list[dict[str, str]] = FEATURES, change: Any = None
) -> Path:
    """Write a training set; `change(part name, frame)` may damage a part first."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    counts, positives = {}, {}
    for part, dates in DATES.items():
        frame = pd.concat([customers(rows, date, random, 2 * rows) for date in dates], ignore_index=True)
        if change:
            frame = change(part, frame)
        frame.to_parquet(folder / f"{part}.parquet", index=False)
        counts[part] = len(frame)
        positives[part] = int((frame["gone"] == 1).sum())
    description = {
        "entity": "account",
        "key_type": "BIGINT",
        "label": "gone",
        "features": features,
        "sensitive": ["group", "rare"],
        "feature_service": "leaving",
        "feature_version": "f00d",
        "snapshots": DATES,
        "rows": counts,
        "positives": positives,
        "as_of": "2025-08-01T00:00:00+00:00",
    }
    TrainingSetDescription.model_validate(description).write(folder)
    write_definitions(folder)
    return folder


def write_definitions(folder: Path) -> None:
    """Write a feature repository into a project's folder or a training set."""
    (folder / "feature_repo").mkdir(parents=True)
    (folder / "feature_repo" / "features.py").write_text("# definitions\n", "utf-8")


def write_project(folder: Path, state: Path, **sections: Any) -> Path:
    """Write a project's folder; keyword arguments update the configuration's sections."""
    write_definitions(folder)
    configuration: dict[str, Any] = {
        "name": "leaving",
        "title": "Who leaves",
        "entity": {"name": "account", "key": "account"},
        "source": {
            "url": "file:///data",
            "format": "parquet",
            "tables": {"accounts": {"key": ["account"], "event_time": "seen_at"}},
        },
        "label": {"name": "gone", "title": "leaves within 30 days", "horizon_days": 30},
        "features": {"service": "leaving", "sensitive": ["profile:group", "profile:rare"]},
        "tuning": {"trials": 3, "space": {"learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True}}},
        "training": {
            "parameters": {"max_iter": 30},
            "costs": {"saved": 240, "action": 15, "success_rate": 0.3},
        },
        "evaluation": {"bootstrap_replicates": 100, "explained_rows": 60, "latency_requests": 50},
        "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.6}]},
        "deployment": {"model": "leaving"},
    }
    for section, values in sections.items():
        configuration[section] = {**configuration.get(section, {}), **values}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    locations = Locations(
        tracking_uri=f"sqlite:///{state / 'mlflow.db'}",
        dataset_remote="remote",
        online_store="online.db",
        prediction_log="predictions",
        serving=f"local:{state / 'serving'}",
    )
    save_locations(locations, folder)
    return folder
