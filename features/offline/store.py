"""Offline store: what computes the views for training sets and batch scores, DuckDB in the step or a warehouse.

A warehouse is shown the validated tables and runs the same definitions, transpiled; only the views' values come back.
What follows is one path for all: the same checks of the result, the same files, the same join.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.connections.retries import Deadline, TooSlow, in_time
from kfp_lifecycle.connections.secrets import Revealed, reveal
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.offline import point_in_time
from kfp_lifecycle.features.offline.point_in_time import (
    RESULT,
    checked_query,
    checked_result,
    session,
    validated_file,
    view_columns,
    write_values,
)
from kfp_lifecycle.features.offline.transpilation import Shown, transpile
from kfp_lifecycle.runtime.contract import ContractViolation

DUCKDB = "duckdb"
# What a warehouse is shown: all types that mean the same everywhere, times as UTC without a zone.
SHOWN_AS = {
    "BOOLEAN": "BOOLEAN", "TINYINT": "BIGINT", "SMALLINT": "BIGINT", "INTEGER": "BIGINT", "BIGINT": "BIGINT",
    "UTINYINT": "BIGINT", "USMALLINT": "BIGINT", "UINTEGER": "BIGINT", "FLOAT": "DOUBLE", "DOUBLE": "DOUBLE",
    "VARCHAR": "VARCHAR", "DATE": "DATE", "TIMESTAMP": "TIMESTAMP", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "TIMESTAMP_S": "TIMESTAMP", "TIMESTAMP_MS": "TIMESTAMP", "TIMESTAMP_NS": "TIMESTAMP",
}  # fmt: skip
CLOSING_SECONDS = 30.0
# The second line often says what; Spark goes on with its plan and its stack.
LONGEST_REASON = 400

T = TypeVar("T")


class Warehouse(Protocol):
    """A session with a warehouse. Whatever it makes there is gone when it is closed, or goes by itself."""

    dialect: str
    """As sqlglot calls it."""
    reads_in_place: bool
    """Whether it reads the artifact itself, and casts; else it is given a file of the types that it is shown."""

    def open(self) -> None:
        """Begin. Nothing before asks the network."""
        ...

    def show(self, name: str, columns: Mapping[str, str], file: str) -> str:
        """Make a Parquet file readable there as a table.

        Args:
            name: The table's name.
            columns: Types (values of SHOWN_AS, or DECIMAL) by name.
            file: The table: a path, or its URI where it is read in place.

        Returns:
            Its name there, as SQL writes it.
        """
        ...

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The rows of a statement; the first batch may be empty, and is there for its columns."""
        ...

    def close(self) -> None:
        """Leave nothing behind, whether or not it was opened."""
        ...


def compute_view_values(
    location: str,
    validated: Path,
    uri: str,
    configuration: Configuration,
    definitions: Definitions,
    views: Iterable[str],
    moments: Iterable[datetime],
    folder: Path,
) -> None:
    """Write the values of views as of several moments, computed where the target's `offline_store` says.

    Args:
        location: `duckdb` or a warehouse's URL, with `${NAME}` in place of secrets.
        validated: The tables artifact.
        uri: Where the artifact is kept, for Spark to read it there; a path where it is on this machine.
        configuration: The project's configuration.
        definitions: Its feature definitions.
        views: Names of the views.
        moments: Every table is cut at each of them before a view's SQL runs.
        folder: Where to write, as `point_in_time.write_view_values` does.

    Raises:
        ContractViolation: a table or a view's SQL is at fault, a view cannot be transpiled, or the warehouse cannot be
            reached, refuses, or takes longer than `features.warehouse_timeout_seconds`. It names no secret.
    """
    tables = configuration.source.tables
    if location == DUCKDB:
        point_in_time.write_view_values(validated, tables, definitions, views, moments, folder)
        return
    views, seconds = list(views), configuration.features.warehouse_timeout_seconds
    for view in views:
        (folder / view).mkdir(parents=True)
    queries = {view: checked_query(definitions.sql_file(view), ["as_of"])[0] for view in views}
    with session(validated, writable=folder) as connection, _opened(location, seconds) as asked:
        shown = asked.show_tables(connection, validated, uri, tables, folder)
        for moment in moments:
            for view in views:
                file = definitions.sql_file(view)
                statement = transpile(file, queries[view], asked.dialect, tables, shown, moment)
                _fill_result(connection, asked.rows(statement, f"run {file}"))
                values = checked_result(connection, definitions, str(file), view_columns(definitions, view), moment)
                write_values(values, view, moment, folder)


class _Asked:
    """A warehouse that is asked with patience, but not for ever; what it answers is told without secrets."""

    def __init__(self, location: str, where: Revealed, seconds: float) -> None:
        self._location, self._where, self._seconds = location, where, seconds
        self._warehouse = _warehouse(where.url, seconds)
        self.dialect = self._warehouse.dialect

    def open(self) -> None:
        """Begin the session."""
        self._one(self._warehouse.open, "be opened")

    def show_tables(
        self,
        connection: duckdb.DuckDBPyConnection,
        validated: Path,
        uri: str,
        tables: Mapping[str, Table],
        scratch: Path,
    ) -> dict[str, Shown]:
        """Show the tables that features may be computed from; what of them cannot be shown is left out."""
        shown = {}
        for name, table in tables.items():
            if table.label_only:
                continue
            original = validated_file(validated, name)
            rows = f"SELECT * FROM read_parquet({literal(str(original))})"
            found = columns_of(connection, rows)
            columns = {
                column: kind if kind.startswith("DECIMAL") else SHOWN_AS[kind]
                for column, kind in found.items()
                if kind.startswith("DECIMAL") or kind in SHOWN_AS
            }
            file = str(original)
            if self._warehouse.reads_in_place:
                file = f"{uri}/{original.name}" if "://" in uri else original.as_uri()
            elif columns != found:
                file = str(scratch.resolve() / f"{name}.parquet")
                casts = ", ".join(f"{quoted(column)}::{kind} AS {quoted(column)}" for column, kind in columns.items())
                connection.execute(f"COPY (SELECT {casts} FROM ({rows})) TO {literal(file)} (FORMAT parquet)")
            place = self._one(partial(self._warehouse.show, name, columns, file), f"read the table {name}")
            shown[name] = Shown(place, {column.lower(): kind for column, kind in columns.items()})
        return shown

    def rows(self, statement: str, what: str) -> Iterator[pa.RecordBatch]:
        """The rows of a statement."""
        with self._speaking(what):
            yield from in_time(partial(self._warehouse.batches, statement), Deadline(self._seconds))

    def close(self) -> None:
        """Close the session. Where that fails it is only told: what was shown goes by itself, and values are there."""
        try:
            next(in_time(partial(_once, self._warehouse.close), Deadline(CLOSING_SECONDS)))
        except Exception as error:
            reason = self._where.hide(first_line(error))
            print(f"The session with {self._location} was not closed, and ends by itself: {reason}", flush=True)

    def _one(self, work: Callable[[], T], what: str) -> T:
        with self._speaking(what):
            return next(in_time(partial(_once, work), Deadline(self._seconds)))

    @contextlib.contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        try:
            yield
        except ContractViolation:
            raise
        except TooSlow:
            raise ContractViolation(
                f"The offline store {self._location} did not {what} within {self._seconds:g} s "
                "(features.warehouse_timeout_seconds). Nothing was written. See what holds it up, or allow more time; "
                "then resume the run."
            ) from None
        except Exception as error:
            # Not chained: a driver's error may hold the URL with its secrets, and a log shows the whole chain.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = self._where.hide(" ".join(lines[:2]))[:LONGEST_REASON].rstrip(".")
            raise ContractViolation(
                f"The offline store {self._location} could not {what}: {type(error).__name__}: {reason}. Nothing was "
                "written. See that it is up and reachable from where the step runs, that its user may do so, and that "
                "the definition suits it; then resume the run."
            ) from None


@contextlib.contextmanager
def _opened(location: str, seconds: float) -> Iterator[_Asked]:
    asked = _Asked(location, reveal(location), seconds)
    try:
        asked.open()
        yield asked
    finally:
        asked.close()


def _warehouse(url: str, seconds: float) -> Warehouse:
    """Only the client in use is imported."""
    if url.startswith("bigquery:"):
        from kfp_lifecycle.features.offline.bigquery import BigQuery

        return BigQuery(url, seconds)
    if url.startswith("snowflake:"):
        from kfp_lifecycle.features.offline.snowflake import Snowflake

        return Snowflake(url, seconds)
    from kfp_lifecycle.features.offline.spark import Spark

    return Spark(url)


def _fill_result(connection: duckdb.DuckDBPyConnection, batches: Iterator[pa.RecordBatch]) -> None:
    """Put rows where `checked_result` looks for them, one batch in memory at a time."""
    connection.execute(f"DROP TABLE IF EXISTS {RESULT}")
    for number, batch in enumerate(batches):
        connection.register("batch", pa.Table.from_batches([batch]))
        verb = f"INSERT INTO {RESULT}" if number else f"CREATE TEMP TABLE {RESULT} AS"
        connection.execute(f"{verb} SELECT * FROM batch")
        connection.unregister("batch")


def _once(work: Callable[[], T]) -> Iterator[T]:
    yield work()
