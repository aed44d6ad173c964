"""Predictions in the log of this machine: one by its request's id, and how many each version gave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.prediction_log import DAYS, FINISHED, GROWING

COLUMNS = ("model", "version", "request_id", "time", "entity", "score")


@dataclass(frozen=True)
class Prediction:
    """A row of the log."""

    model: str
    version: str
    request_id: str
    time: datetime
    entity: str | None
    score: float
    file: str


@dataclass(frozen=True)
class Served:
    """How many predictions a version gave, by the log that is kept."""

    model: str
    version: str
    predictions: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Log:
    """The log of all models."""

    folder: Path

    def files(self, suffix: str) -> list[Path]:
        """Its files of one kind; a growing one of which there is a finished one is about to go."""
        found = sorted(self.folder.glob(f"*/{DAYS}/*{suffix}"))
        return [file for file in found if suffix == FINISHED or not file.with_suffix(FINISHED).exists()]

    def find(self, request_id: str) -> list[Prediction]:
        """The rows of a request, the oldest first."""
        rows = [
            (*row, file)
            for file, row in self._finished(f"SELECT {', '.join(COLUMNS)} FROM log WHERE request_id = ?", [request_id])
        ]
        for file in self.files(GROWING):
            rows += [(*row, str(file)) for row in _growing(file, COLUMNS) if row[2] == request_id]
        return sorted((Prediction(*row) for row in rows), key=lambda found: found.time)

    def served(self) -> list[Served]:
        """Of each version of each model, by model and version."""
        counted: dict[tuple[str, str], list[Any]] = {}

        def add(model: str, version: str, number: int, first: datetime, last: datetime) -> None:
            known = counted.setdefault((model, version), [0, first, last])
            known[:] = [known[0] + number, min(known[1], first), max(known[2], last)]

        query = "SELECT model, version, count(*), min(time), max(time) FROM log GROUP BY ALL"
        for _, row in self._finished(query, []):
            add(*row)
        for file in self.files(GROWING):
            for model, version, time in _growing(file, ("model", "version", "time")):
                add(model, version, 1, time, time)
        return [Served(model, version, *values) for (model, version), values in sorted(counted.items())]

    def _finished(self, query: str, given: list[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """A query to each finished file, and what it answers; a file that is none of a log's answers nothing."""
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for file in self.files(FINISHED):
                with contextlib.suppress(duckdb.Error):
                    asked = query.replace(
                        " FROM log", f" FROM read_parquet('{str(file).replace(chr(39), chr(39) * 2)}')"
                    )
                    for row in connection.execute(asked, given).fetchall():
                        yield str(file), row


def _growing(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Some columns of a growing file, as far as it is whole."""
    import nanoarrow

    with contextlib.suppress(RuntimeError, OSError, ValueError), file.open("rb") as stream:
        batches = nanoarrow.ArrayStream.from_readable(stream)
        names = [field.name for field in batches.schema.fields]
        if not set(columns) <= set(names):
            return
        for batch in batches.iter_chunks():
            yield from zip(*(batch.child(names.index(name)).to_pylist() for name in columns), strict=True)
