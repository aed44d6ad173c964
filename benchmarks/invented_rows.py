"""A training set of invented rows. Run in the modelling environment.

python -m benchmarks.invented_rows FOLDER TRAINING_ROWS
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.modelling.dataset import TrainingSet

SNAPSHOTS, FEATURES = {"train": 8, "validation": 2, "test": 2}, 26


def training_set(folder: Path, rows: int) -> TrainingSet:
    """Rows with a weak signal in some columns, as churn has it: about 5% events; `rows` for training."""
    random = np.random.default_rng(0)
    names = [f"feature_{number}" for number in range(FEATURES)]
    dates = list(pd.date_range("2025-01-01", periods=sum(SNAPSHOTS.values()), freq="30D", tz="UTC"))
    folder.mkdir()
    snapshots: dict[str, list[str]] = {}
    for part, count in SNAPSHOTS.items():
        chosen, dates = dates[:count], dates[count:]
        snapshots[part] = [f"{date:%Y-%m-%d}" for date in chosen]
        parts = [_snapshot(date, rows // SNAPSHOTS["train"], names, random) for date in chosen]
        pd.concat(parts, ignore_index=True).to_parquet(folder / f"{part}.parquet")
    description = {
        "entity": "entity",
        "label": "event",
        "features": [{"name": name, "type": "numeric"} for name in names],
        "sensitive": [],
        "feature_service": "benchmark",
        "feature_version": "invented",
        "snapshots": snapshots,
    }
    TrainingSetDescription.model_validate(description).write(folder)
    (folder / "feature_repo").mkdir()
    return TrainingSet(folder)


def _snapshot(date: pd.Timestamp, rows: int, names: list[str], random: np.random.Generator) -> pd.DataFrame:
    values = random.normal(size=(rows, FEATURES))
    logit = -3.6 + values[:, :6] @ np.array([0.8, 0.6, -0.5, 0.4, 0.3, -0.3]) + 0.4 * values[:, 6] * values[:, 7]
    event = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    frame = pd.DataFrame(values, columns=names)
    return frame.assign(event=event, entity=random.permutation(rows), event_timestamp=date)


if __name__ == "__main__":
    training_set(Path(sys.argv[1]), int(sys.argv[2]))
