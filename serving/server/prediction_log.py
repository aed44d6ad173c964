"""Prediction log: every served prediction, in Arrow batches, written off the request path by a thread of its own.

A request hands its columns over and goes on; nobody is woken. Twice a second the thread makes one batch of what has
come and appends it to the hour's segment, so a server that is killed loses a second at the most. Where the log's folder
is full, gone or slow, batches go to a spool on this machine's disk, are counted, and are brought over when it is well
again. An object store takes whole files only: there the spool is where segments grow, and they are brought once a
minute. What a killed server left in its spool the next one on the machine brings.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

from kfp_lifecycle.artifacts.prediction_log import day_folder, hashed_caller, hashed_key
from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE, LoggedKey, LogPolicy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.log_storage import Spool, storage_of, waiting_bytes
from kfp_lifecycle.serving.server.served import Served

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.log_batch import BatchMaker
    from kfp_lifecycle.serving.server.log_segment import Segment

LOGGER = logging.getLogger(__name__)

_OF_MODEL = ["model_name", "model_version"]
WRITTEN = Counter("prediction_log_written", "Predictions written to the log", _OF_MODEL)
DROPPED = Counter(
    "prediction_log_dropped",
    "Predictions that are not in the log, because it could not be written as fast as they came, or at all",
    _OF_MODEL,
)
SPILLED = Counter(
    "prediction_log_spilled",
    "Predictions kept on the server's own disk, since the log's folder or store refused them",
    _OF_MODEL,
)
DEATHS = Counter("prediction_log_thread_deaths", "How often the thread that writes the log has died", _OF_MODEL)

USUAL = LogPolicy()
# Rows that may wait; a row of thirty features is a quarter of a kilobyte.
CAPACITY = 200_000
FLUSH_SECONDS = 0.5
SEGMENT_BYTES = 64 * 2**20
SPILL_BYTES = 256 * 2**20
# A folder that takes longer for one batch is slow; it is tried again after a while.
SLOW_SECONDS = 5.0
TRY_AGAIN_SECONDS = 10.0
# How long an object store waits for what was logged.
UPLOAD_SECONDS = 60.0
CLOSE_SECONDS = 20.0
# So many are remembered, since a digest takes longer than to look one up.
MOST_CALLERS = 10_000
DEATHS_TOO_MANY = 3


class PredictionLog:
    """Writes what is served; a full queue or disk costs records, never requests."""

    def __init__(
        self,
        location: str | Path,
        model: str,
        version: str,
        numeric: Sequence[str],
        categorical: Sequence[str],
        policy: LogPolicy = USUAL,
        capacity: int = CAPACITY,
        caller_secret: str = "",
    ) -> None:
        """Start writing below `<location>/<model>/`.

        Args:
            location: The log of all models: a folder, or one of an object store (`s3://`, `gs://`, `minio://`).
            model: The model's name.
            version: Its version.
            numeric: Names of its numeric features, in the order of `Served.numbers`.
            categorical: Names of its categorical features, in the order of `Served.texts`.
            policy: What is logged, and how long it is kept.
            capacity: Rows that may wait.
            caller_secret: What all servers of the model share, to hash callers with where there is no secret for keys;
                where it is empty, each server calls a caller otherwise.

        Raises:
            OSError: the folder cannot be made.
            ContractViolation: keys are to be hashed, and there is no secret.
        """
        self._storage = storage_of(str(location), model)
        self.name = self._storage.name
        self.model, self.version = model, version
        self.policy = policy
        self._features = (list(numeric), list(categorical)) if policy.features else ([], [])
        self.written, self.dropped, self.spilled, self.deaths = (
            counter.labels(model, version) for counter in (WRITTEN, DROPPED, SPILLED, DEATHS)
        )
        self._capacity = capacity
        self._waiting: deque[Served] = deque()
        # Each is changed by one thread alone; their difference is what waits.
        self._accepted = self._taken = 0
        self._in_hand = self._died = 0
        self._wake, self._closed = threading.Event(), False
        self._segment: Segment | None = None
        self._spool: Spool | None = None
        self._left: list[Spool] = []
        # Whether the log refuses what it is given, and when it is given the next.
        self._refuses, self._bring_at = False, 0.0
        self._batches: BatchMaker | None = None
        self._secret = os.environ.get(LOG_SECRET_VARIABLE, "").encode()
        if policy.needs_secret and not self._secret:
            raise ContractViolation(
                "keys are to be logged hashed, and the secret to hash them with is not there: set "
                f"{LOG_SECRET_VARIABLE} (on a cluster, name a secret with this variable in the target), or log them "
                "plain or not at all"
            )
        self._caller_secret = self._secret or (caller_secret or secrets.token_hex()).encode()
        self._called = lru_cache(MOST_CALLERS)(self._hashed_caller)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write what is handed over, before and from now on."""
        self._thread = threading.Thread(target=self._write_until_closed, name="prediction-log", daemon=True)
        self._thread.start()

    def write(self, served: Served) -> None:
        """Hand predictions over; returns at once."""
        if not self.policy.enabled:
            return
        rows = len(served.scores)
        if self._accepted - self._taken + rows > self._capacity:
            self.dropped.inc(rows)
            return
        self._waiting.append(served)
        self._accepted += rows
        if self._accepted - self._taken > self._capacity // 4:
            self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether the log is being written: its thread lives, and has not died again and again."""
        return (self._thread is None or self._thread.is_alive()) and self._died < DEATHS_TOO_MANY

    def revive(self) -> None:
        """Start the thread again where it has died."""
        if self._thread is None or self._thread.is_alive() or self._closed:
            return
        self._died += 1
        self.deaths.inc()
        self.dropped.inc(self._in_hand)
        self._taken, self._in_hand, self._segment = self._taken + self._in_hand, 0, None
        LOGGER.error("the thread of the prediction log %s died; it is started again", self.name)
        self.start()

    def close(self) -> None:
        """Write what is waiting, and stop; a disk that hangs is not waited for."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        if self._thread is not None and self._thread.is_alive():
            rows = self._accepted - self._taken
            self.dropped.inc(rows)
            LOGGER.error("the prediction log %s does not take what is written; %d are lost", self.name, rows)
        for spool in self._spools():
            spool.release()
        self._left, self._spool = [], None

    def _write_until_closed(self) -> None:
        # Arrow takes a while to import; nobody who waits for the server waits for it.
        from kfp_lifecycle.serving.server.log_batch import BatchMaker

        self._batches = BatchMaker(self.model, self.version, *self._features)
        self._look_after()
        while not self._closed:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._flush()
        self._flush()
        self._finish()
        self._bring_over()

    def _flush(self) -> None:
        """Write what has come, by its hour."""
        from kfp_lifecycle.serving.server.log_segment import hour_of

        by_hour: dict[Any, list[Served]] = {}
        while self._waiting:
            served = self._waiting.popleft()
            self._in_hand += len(served.scores)
            by_hour.setdefault(hour_of(served.time), []).append(served)
        for hour, found in by_hour.items():
            self._write(hour, found)
            rows = sum(len(served.scores) for served in found)
            self._taken, self._in_hand = self._taken + rows, self._in_hand - rows
        if self._segment is not None and self._segment.hour != hour_of(time.time()):
            self._finish()
            self._look_after()
        if self._spools() and time.monotonic() >= self._bring_at:
            if self._spool is not None:
                self._finish()
            self._bring_over()

    def _write(self, hour: Any, found: list[Served]) -> None:
        assert self._batches is not None
        rows = sum(len(served.scores) for served in found)
        try:
            message = self._batches.message(found, self._named, self._called)
        except Exception:
            if len(found) > 1:
                # One of them cannot be written: the others are not lost with it.
                for served in found:
                    self._write(hour, [served])
                return
            self.dropped.inc(rows)
            LOGGER.exception("%d predictions cannot be written to the log %s", rows, self.name)
            return
        try:
            self._append(hour, message)
        except OSError as error:
            self._spill(hour, message, rows, error)
        else:
            (self.spilled if self._refuses else self.written).inc(rows)

    def _append(self, hour: Any, message: Any) -> None:
        from kfp_lifecycle.serving.server.log_segment import Segment

        assert self._batches is not None
        if self._segment is not None and (self._segment.hour != hour or self._segment.size > SEGMENT_BYTES):
            self._finish()
        if self._segment is None:
            folder = self._storage.folder
            if folder is None or self._refuses:
                self._spool = self._spool or Spool.begin(self.name)
                if waiting_bytes(self._spools()) > SPILL_BYTES:
                    raise OSError(f"{self._spool.folder} holds as much as it may")
                folder = self._spool.folder
            self._segment = Segment(folder, hour, self.version, self._batches.schema)
        began = time.monotonic()
        self._segment.append(message)
        if self._spool is None and time.monotonic() - began > SLOW_SECONDS:
            self._leave(TimeoutError(f"a batch took {time.monotonic() - began:.0f} s"))

    def _spill(self, hour: Any, message: Any, rows: int, error: OSError) -> None:
        """Keep a batch that the log's folder refuses on this machine's own disk."""
        try:
            if self._spool is not None:
                raise error
            self._leave(error)
            self._append(hour, message)
        except OSError as refused:
            self._segment = None
            self.dropped.inc(rows)
            LOGGER.error("%d predictions are in no log, neither %s nor here: %s", rows, self.name, refused)
        else:
            self.spilled.inc(rows)

    def _leave(self, error: OSError) -> None:
        LOGGER.error("the prediction log %s cannot be written (%s); it is kept here meanwhile", self.name, error)
        self._finish()
        self._refuses, self._bring_at = True, time.monotonic() + TRY_AGAIN_SECONDS

    def _finish(self) -> None:
        """Turn the segment into Parquet; where that cannot be, it stays as it is, and can be read."""
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        try:
            segment.finish()
        except Exception as error:
            LOGGER.warning("%s stays as it is: %s", segment.path, error)

    def _spools(self) -> list[Spool]:
        return [*self._left, *([self._spool] if self._spool is not None else [])]

    def _bring_over(self) -> None:
        """Bring what is kept here to the log, if that takes it now."""
        try:
            for spool in self._spools():
                for file in spool.files():
                    self._storage.bring(file)
        except OSError as error:
            LOGGER.warning("the prediction log %s cannot be written: %s", self.name, error)
            self._refuses, self._bring_at = self._spool is not None, time.monotonic() + TRY_AGAIN_SECONDS
            return
        for spool in self._spools():
            spool.release()
        self._left, self._spool, self._refuses = [], None, False
        self._bring_at = time.monotonic() + (UPLOAD_SECONDS if self._storage.folder is None else 0.0)

    def _look_after(self) -> None:
        """Adopt what killed servers left, and remove what is too old or too much."""
        from kfp_lifecycle.serving.server.log_segment import hour_of

        oldest = hour_of(time.time()) - timedelta(days=self.policy.retention_days)
        try:
            self._left += Spool.left(self.name)
            removed = self._storage.prune(day_folder(oldest), self.policy.max_mb * 2**20)
        except OSError as error:
            LOGGER.warning("the prediction log %s cannot be looked after: %s", self.name, error)
        else:
            if removed:
                LOGGER.info("%d files of the prediction log %s were removed for age or size", removed, self.name)

    def _named(self, key: int | str | None) -> str | None:
        """An entity as the log names it."""
        if key is None or self.policy.key is LoggedKey.none:
            return None
        if self.policy.key is LoggedKey.hashed:
            return hashed_key(self._secret, str(key))
        return str(key)

    def _hashed_caller(self, caller: str) -> str | None:
        """Who asked as the log names it: never plain, since it may be a person's address."""
        if not caller or self.policy.key is LoggedKey.none:
            return None
        return hashed_caller(self._caller_secret, caller)
