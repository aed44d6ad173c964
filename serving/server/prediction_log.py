"""Prediction log: every served prediction as a line of JSON, written off the request path.

Many servers write to one folder, such as a volume that all replicas mount. Each has files of its own, which nobody
else opens for writing: their names hold the host and a random part, since every container's process has the number 1.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import secrets
import socket
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
        self.name = file_name(version)
        self.version = version
        self.written = WRITTEN.labels(model, version)
        self.dropped = DROPPED.labels(model, version)
        self._waiting: queue.Queue[Prediction | None] = queue.Queue(capacity)
        self._file: FileIO | None = None
        self._day = ""
        self._begun: set[str] = set()
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
                if isinstance(error, HalfALine):
                    self._begin_other_files()
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
            # A file that is there already is somebody else's, unless this log began it.
            only_new = 0 if day in self._begun else os.O_EXCL
            number = os.open(place / self.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | only_new, 0o644)
            self._file, self._day = FileIO(number, "ab"), day
            self._begun.add(day)
        return self._file

    def _begin_other_files(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._begun, self.name = None, set(), file_name(self.version)


class HalfALine(OSError):
    """A write broke off, and what it left could not be taken back."""


def file_name(version: str) -> str:
    """The name of a log's files, which no other process has: `3-churn-predictor-7f9c-5d1e8a02.jsonl`."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:63] or "host"
    return f"{version}-{host}-{secrets.token_hex(4)}.jsonl"


def _append_whole(file: FileIO, lines: bytes) -> None:
    """Append all of it or, where the disk refuses, none: a reader never meets half a line.

    Only what this write left is taken back. Where somebody else has written to the file meanwhile, it stays.

    Raises:
        HalfALine: it could not be taken back.
        OSError: the disk refuses; the file is as it was.
    """
    end = file.seek(0, os.SEEK_END)
    remaining = memoryview(lines)
    try:
        while remaining:
            remaining = remaining[file.write(remaining) :]
    except OSError as error:
        written = len(lines) - len(remaining)
        if written and not _taken_back(file, end, written):
            raise HalfALine(error.errno, error.strerror) from error
        raise


def _taken_back(file: FileIO, end: int, written: int) -> bool:
    """Take back what a broken write left at the end of a file; whether the file is as it was before."""
    try:
        if file.seek(0, os.SEEK_END) != end + written:
            return False
        file.truncate(end)
    except OSError:
        return False
    return True
