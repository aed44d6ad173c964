"""Log segments: a file of Arrow record batches that grows, and becomes a Parquet file when it is done.

A growing segment (`.arrows`) is an Arrow stream without its end: each batch is whole in it or not at all, and whoever
reads it meanwhile, or after its writer was killed, finds every batch that was written. A finished one (`.parquet`) is
a tenth of its size. Each writer has segments of its own, which nobody else opens for writing: many servers may share
one folder, on a volume or in a mounted bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import pyarrow as pa

from kfp_lifecycle.artifacts.prediction_log import FINISHED, GROWING, day_folder
from kfp_lifecycle.serving.server.log_storage import UNFINISHED


class Segment:
    """One growing file of one hour."""

    def __init__(self, folder: Path, hour: datetime, version: str, schema: pa.Schema) -> None:
        """Begin a file that nobody has.

        Raises:
            OSError: it cannot be begun.
        """
        place = folder / day_folder(hour)
        place.mkdir(parents=True, exist_ok=True)
        self.hour = hour
        self.path = place / f"{hour:%H}-{writer_name(version)}{GROWING}"
        # Never a file that is there already: it is somebody else's.
        self._file = FileIO(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644), "ab")
        self.size = 0
        try:
            self.append(schema.serialize())
        except OSError:
            self.discard()
            raise

    def append(self, message: pa.Buffer) -> None:
        """Append all of an Arrow message or, where the disk refuses, none of it.

        Raises:
            OSError: the disk refuses. Where what it took could not be taken back, nothing is appended any more.
        """
        remaining = memoryview(message)
        try:
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
        except OSError:
            self._file.truncate(self.size)
            raise
        self.size += len(memoryview(message))

    def finish(self) -> Path:
        """Turn it into Parquet; the growing file goes when the finished one is there.

        Raises:
            OSError: it cannot be written. The growing file stays, and can be read.
        """
        # Not needed before: it takes a while to import.
        from pyarrow import parquet

        self._file.close()
        finished = self.path.with_suffix(FINISHED)
        unfinished = finished.with_suffix(UNFINISHED)
        try:
            with pa.memory_map(str(self.path)) as source:
                table = pa.ipc.open_stream(source).read_all()
                parquet.write_table(table, unfinished, compression="zstd")
            unfinished.replace(finished)
        except (OSError, pa.ArrowException):
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        self.path.unlink()
        return finished

    def discard(self) -> None:
        """Remove a file that holds nothing."""
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def writer_name(version: str) -> str:
    """What no other writer's files are called: `3-churn-predictor-7f9c-1-5d1e8a02`: version, host, process, chance.

    In a container every process has the number 1, so the host and the random part tell them apart.
    """
    parts = (version, socket.gethostname()[:63], str(os.getpid()), secrets.token_hex(4))
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part) or "none" for part in parts)


def hour_of(seconds: float) -> datetime:
    """The hour of a Unix time."""
    return datetime.fromtimestamp(seconds, UTC).replace(minute=0, second=0, microsecond=0)
