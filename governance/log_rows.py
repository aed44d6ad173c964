"""Rows of a person in the prediction log and in what was made of it: files are written anew without them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyarrow import compute, parquet

from kfp_lifecycle.artifacts.prediction_log import DAYS, FINISHED, GROWING

# No reader looks for such a name; what a killed attempt left is removed by the next.
REWRITING = ".forgetting"
# A server closes the file of an hour when the hour is over, or with its last words.
GROWS_FOR = timedelta(hours=2)


@dataclass(frozen=True)
class Rewritten:
    """A file that held rows of a person."""

    file: str
    """Below the folder that was looked through."""
    rows: int
    """Of the person, before."""
    before: str
    """SHA-256 of its bytes."""
    after: str
    """SHA-256 of its bytes now; empty where it is gone, since nothing was left in it, or was not written yet."""


def files_with(folder: Path, patterns: Iterable[str], column: str, names: Collection[str]) -> dict[Path, int]:
    """Parquet files, and growing ones that nobody writes to any more, with how many rows name the person."""
    found = {}
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        with contextlib.suppress(FileNotFoundError, pa.ArrowException):
            rows = count(read(file, [column]), column, names)
            if rows:
                found[file] = rows
    return found


def read(file: Path, columns: list[str] | None = None) -> pa.Table:
    """A finished or growing file, as far as it is whole.

    Raises:
        pyarrow.ArrowException: it is no such file, or lacks a column.
    """
    if file.suffix != GROWING:
        with pa.OSFile(str(file)) as source:
            return parquet.ParquetFile(source).read(columns)
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
        batches = []
        # Its writer was killed within a batch, or is writing one.
        with contextlib.suppress(StopIteration, pa.ArrowException, OSError):
            while True:
                batches.append(stream.read_next_batch())
        table = pa.Table.from_batches(batches, stream.schema)
    return table if columns is None else table.select(columns)


def count(table: pa.Table, column: str, names: Collection[str]) -> int:
    """How many rows name the person; none where there is no such column."""
    if column not in table.column_names:
        return 0
    return compute.sum(_named(table, column, names)).as_py() or 0


def _named(table: pa.Table, column: str, names: Collection[str]) -> pa.ChunkedArray:
    values = table[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return compute.fill_null(compute.is_in(values.cast(pa.string()), value_set=pa.array(sorted(names))), False)


def grows(file: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> bool:
    """Whether a server may still append to a file of the log."""
    if file.suffix != GROWING:
        return False
    hour = datetime.fromisoformat(f"{file.parent.name}T{file.name[:2]}:00:00+00:00")
    return now() - hour < GROWS_FOR


def without(file: Path, folder: Path, column: str, names: Collection[str]) -> Rewritten:
    """Write a file anew without the person's rows: whoever reads finds the old one or the new one, whole.

    A growing file that its writer left becomes a finished one; a file with nothing left in it goes.

    Raises:
        OSError: it cannot be written. The old one stays.
    """
    table = read(file)
    rows, before = count(table, column, names), digest(file)
    kept = table.filter(compute.invert(_named(table, column, names)))
    finished, coming = file.with_suffix(FINISHED), file.with_suffix(REWRITING)
    try:
        if kept.num_rows:
            parquet.write_table(kept, coming, compression="zstd")
            with coming.open("rb+") as stream:
                os.fsync(stream.fileno())
            coming.replace(finished)
        if finished != file or not kept.num_rows:
            file.unlink()
    finally:
        coming.unlink(missing_ok=True)
    return Rewritten(str(file.relative_to(folder)), rows, before, digest(finished) if kept.num_rows else "")


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


LOG_FILES = tuple(f"*/{DAYS}/*{suffix}" for suffix in (FINISHED, GROWING))
