"""The prediction log as servers write it, for the tests of what reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.serving.server.log_batch import log_schema

Row = dict[str, Any]


def logged(features: Row, at: datetime, **changes: Any) -> Row:
    """One prediction."""
    usual: Row = {
        "time": at,
        "request_id": "r",
        "model": "devices",
        "version": "1",
        "entity": None,
        "features": features,
        "score": 0.5,
        "decision": True,
        "latency_ms": 1.5,
        "shadow": False,
    }
    return {**usual, **changes}


def write_log(folder: Path, rows: Sequence[Row], inputs: Sequence[Feature], name: str = "1-host-1-77") -> Path:
    """A finished file of the log of a model, in the folder of its first row's day.

    Args:
        folder: The model's.
        rows: As `logged` makes them.
        inputs: The model's inputs.
        name: The writer's.
    """
    numeric, categorical = ([item.name for item in inputs if item.type == kind] for kind in ("numeric", "categorical"))
    at = rows[0]["time"].astimezone(UTC)
    file = folder / f"{at:%Y-%m-%d}" / f"{at:%H}-{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows), log_schema(numeric, categorical)), file)
    return file


def read_log(folder: Path) -> list[Row]:
    """Every prediction below a folder, of finished and of growing files, by time."""
    rows: list[Row] = []
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            rows += parquet.read_table(file).to_pylist()
        elif file.suffix == ".arrows":
            with pa.OSFile(str(file)) as source:
                rows += pa.ipc.open_stream(source).read_all().to_pylist()
    return sorted(rows, key=lambda row: row["time"])
