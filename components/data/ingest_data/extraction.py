"""Bring a table from a database into a Parquet file, as Arrow batches: memory holds a few of them, never the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from pyarrow import parquet

from kfp_lifecycle.components.data.ingest_data.columns import selected
from kfp_lifecycle.config.data import Connection, Table
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import Refused
from kfp_lifecycle.connections.retries import Deadline, failure, in_time, persistently
from kfp_lifecycle.connections.secrets import Revealed
from kfp_lifecycle.runtime.contract import ContractViolation

# A row group of the file is as large as either allows.
GROUP_ROWS = 250_000
GROUP_BYTES = 32 << 20
# No clock is farther from UTC, and an hour more where it is put back. The caller leaves out what is too old.
MARGIN = timedelta(hours=15)

Batches = Callable[[str, str, float], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Dialect:
    """How a database is asked."""

    batches: Batches
    quote: str
    """The character around a name; none where quoting would change its meaning."""
    compares_times: bool = True
    """Whether it compares a time column with a time that is written as text."""

    def statement(self, table: str, extract: str | None, watermark: str | None, since: datetime | None) -> str:
        """The SELECT for a table's rows; with a watermark, those not older than `since`, which is UTC without zone.

        Some older ones are among them: the database compares times as it keeps them, which may be by a local clock.
        """
        rows = f"(\n{extract.strip().rstrip(';')}\n) AS extracted" if extract else self._quoted(table)
        if watermark is None or since is None or not self.compares_times:
            return f"SELECT * FROM {rows}"
        column = self._quoted(watermark)
        return f"SELECT * FROM {rows} WHERE {column} >= '{since - MARGIN:%Y-%m-%d %H:%M:%S.%f}' OR {column} IS NULL"

    def _quoted(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"


def dialect_of(scheme: str, file: Path | None) -> Dialect:
    """The dialect of a database by its URL's scheme. Only its own driver is imported.

    Args:
        file: The database file, of SQLite.
    """
    if scheme == "postgresql":
        from kfp_lifecycle.connections import postgresql

        return Dialect(postgresql.batches, '"')
    if scheme in ("mysql", "mariadb"):
        from kfp_lifecycle.connections import mysql

        return Dialect(mysql.batches, "`")
    if scheme == "sqlite":
        from kfp_lifecycle.connections import sqlite

        # Its times are text in whatever form they were written; DuckDB compares them after the table's query.
        return Dialect(lambda _, statement, seconds: sqlite.batches(file or Path(), statement, seconds), '"', False)
    if scheme == "bigquery":
        from kfp_lifecycle.connections import bigquery

        return Dialect(bigquery.batches, "`")
    from kfp_lifecycle.connections import snowflake

    return Dialect(snowflake.batches, "")


def extract(
    place: Connection, where: Revealed, dialect: Dialect, name: str, table: Table, since: datetime | None, file: Path
) -> str:
    """Write a table's rows to a Parquet file, once more from the start whenever the connection was dropped.

    Returns:
        The SELECT list that makes of the file's columns what they were in the database.

    Raises:
        ContractViolation: the database cannot be reached, refuses, hangs, or has a column that a file cannot hold.
            It names the table and what to do, and no secret.
    """
    watermark = table.incremental.watermark if table.incremental else None
    statement = dialect.statement(name, table.extract, watermark, since)
    deadline = Deadline(place.timeout_seconds)

    def attempt() -> str:
        arriving = in_time(partial(dialect.batches, where.url, statement, max(1.0, deadline.left())), deadline)
        return _write(name, arriving, file)

    try:
        return persistently(attempt, place.attempts, deadline, where.hide)
    except Refused as refusal:
        raise ContractViolation(f"table {name} of {place.url}: {refusal}. {refusal.remedy}") from None
    except ContractViolation:
        raise
    except Exception as error:
        # Not chained: a driver's error may hold the URL with its secrets, and a log shows the whole chain.
        raise ContractViolation(failure(place, where, f"table {name}", error)) from None


def _write(name: str, batches: Iterator[pa.RecordBatch], file: Path) -> str:
    first = next(batches)
    schema = first.schema
    folded = [column.casefold() for column in schema.names]
    twice = [column for column in schema.names if folded.count(column.casefold()) > 1]
    if twice:
        what = "comes twice" if len(set(twice)) == 1 else f"comes as {' and '.join(twice)}, which SQL cannot tell apart"
        raise Refused(f"column {twice[0]}", what, f"Give each column its own name in {name}'s extract.")
    fields = [field.with_type(_storable(field)).remove_metadata() for field in schema]
    stored = pa.schema(fields)
    pending: list[pa.RecordBatch] = []
    with parquet.ParquetWriter(file, stored, version="2.6", compression="snappy") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_batches(pending, schema).cast(stored))
            pending.clear()

        for batch in batches:
            pending.append(batch)
            rows, size = sum(batch.num_rows for batch in pending), sum(batch.nbytes for batch in pending)
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                flush()
        if pending:
            flush()
    return ", ".join(selected(field) for field in schema)


def _storable(field: pa.Field) -> pa.DataType:
    if pa.types.is_null(field.type):
        return pa.string()
    if pa.types.is_interval(field.type) or pa.types.is_duration(field.type):
        raise Refused(
            f"column {field.name}",
            f"is a span of time ({field.type}), which a Parquet file does not have",
            f"Make a number of it in the table's extract, such as its seconds AS {field.name}.",
        )
    return field.type
