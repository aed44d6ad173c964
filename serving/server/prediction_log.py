"""Every served prediction as a line of JSON, written off the request path."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import Counter

logger = logging.getLogger(__name__)

WRITTEN = Counter("prediction_log_written", "Predictions written to the log", ["model_name", "model_version"])
DROPPED = Counter(
    "prediction_log_dropped",
    "Predictions that are not in the log, because it could not be written as fast as they came, or at all",
    ["model_name", "model_version"],
)

# Records waiting to be written; at 1 kB each no more than 20 MB.
CAPACITY = 20_000
# Records written, and made visible to readers, at once.
BATCH = 500


@dataclass(frozen=True)
class Prediction:
    """One line of the log."""

    time: datetime
    request_id: str
    model: str
    version: str
    entity: str | int | None
    features: dict[str, Any]
    score: float
    decision: bool
    latency_ms: float
    shadow: bool


class PredictionLog:
    """Appends predictions to one file a day and process; a full queue or disk costs records, never requests."""

    def __init__(self, folder: Path, model: str, version: str, capacity: int = CAPACITY) -> None:
        """Start writing below `<folder>/<model>/`.

        Raises:
            OSError: the folder cannot be made.
        """
        self.folder = folder / model
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{version}-{os.getpid()}.jsonl"
        self.written = WRITTEN.labels(model, version)
        self.dropped = DROPPED.labels(model, version)
        self._waiting: queue.Queue[Prediction | None] = queue.Queue(capacity)
        self._file: FileIO | None = None
        self._day = ""
        self._thread = threading.Thread(target=self._write_until_closed, name="prediction-log", daemon=True)
        self._thread.start()

    def write(self, predictions: Iterable[Prediction]) -> None:
        """Hand over predictions; returns at once."""
        for prediction in predictions:
            try:
                self._waiting.put_nowait(prediction)
            except queue.Full:
                self.dropped.inc()

    def close(self) -> None:
        """Write what is waiting, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _write_until_closed(self) -> None:
        open_for_more = True
        while open_for_more:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            open_for_more = None not in batch
            self._append([prediction for prediction in batch if prediction is not None])
        if self._file is not None:
            self._file.close()

    def _append(self, predictions: list[Prediction]) -> None:
        by_day: dict[str, list[Prediction]] = {}
        for prediction in predictions:
            by_day.setdefault(prediction.time.astimezone(UTC).date().isoformat(), []).append(prediction)
        for day, records in by_day.items():
            lines = b"".join(orjson.dumps(asdict(record), option=orjson.OPT_APPEND_NEWLINE) for record in records)
            try:
                _append_whole(self._file_of(day), lines)
            except OSError as error:
                self.dropped.inc(len(records))
                logger.error("%d predictions are not in the log %s: %s", len(records), self.folder / day, error)
            else:
                self.written.inc(len(records))

    def _file_of(self, day: str) -> FileIO:
        if self._file is None or self._day != day:
            if self._file is not None:
                self._file.close()
            self._file = None
            place = self.folder / day
            place.mkdir(exist_ok=True)
            self._file, self._day = (place / self.name).open("ab", buffering=0), day
        return self._file


def _append_whole(file: FileIO, lines: bytes) -> None:
    """Append all of it or, where the disk refuses, none: a reader never meets half a line."""
    end = file.seek(0, os.SEEK_END)
    remaining = memoryview(lines)
    try:
        while remaining:
            remaining = remaining[file.write(remaining) :]
    except OSError:
        file.truncate(end)
        raise
