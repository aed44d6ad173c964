"""Read a project's sources into one Parquet file for each table."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from kfp_lifecycle.artifacts.tables import Load, Manifest, TableSummary, parquet_file
from kfp_lifecycle.components.data.ingest_data.checks import check_columns, check_precision, check_zone, times_of
from kfp_lifecycle.components.data.ingest_data.delimited import Expected
from kfp_lifecycle.components.data.ingest_data.expected import expected_table
from kfp_lifecycle.components.data.ingest_data.increments import Increments, load_of, merged, since
from kfp_lifecycle.components.data.ingest_data.source import OpenSource, open_source
from kfp_lifecycle.components.data.ingest_data.storable import check_years, storable_types
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of, newest_event
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder


def ingest(settings: Configuration, locations: Locations, expectations: Path, tables: Path) -> Manifest:
    """Read every configured table from its source.

    Rows are ordered by event time and key, so that the same rows give the same bytes, in whatever order the source
    keeps them. Event and arrival times become TIMESTAMP, and times with a zone UTC without one. A table that is read
    incrementally comes out whole: what earlier runs read, and what is new.

    Args:
        settings: `source`, and `validation.max_rows`.
        locations: `dataset_remote`, which keeps what a table with `incremental` has had so far.
        expectations: Folder with the tables' schemas; a CSV table that has one is typed by it.
        tables: Folder to write `<table>.parquet` and `manifest.json` to. It does not exist after a failure.

    Raises:
        ContractViolation: a source, a table or one of its key, event or arrival columns is missing or cannot be read, a
            table is empty, or it has more rows than `validation.max_rows`. What it says holds no secret.
    """
    written: dict[str, _Written] = {}
    with complete_folder(tables) as result, tempfile.TemporaryDirectory(prefix="ingest-") as work:
        for number, (connection, place) in enumerate(settings.source.places().items()):
            scratch = Path(work) / str(number)
            scratch.mkdir()
            with open_source(place, scratch, writable=result) as source:
                for name, table in settings.source.tables.items():
                    if table.connection == connection:
                        written[name] = _TableWriter(settings, locations, expectations, source, name, result).write()
                        source.discard()
        # In the configuration's order, whichever place was read first.
        written = {name: written[name] for name in settings.source.tables}
        for table_written in written.values():
            table_written.commit()
        manifest = Manifest(
            as_of=max(each.newest for each in written.values()),
            tables={name: each.summary for name, each in written.items()},
        )
        manifest.write(result)
    return manifest


@dataclass(frozen=True)
class _Written:
    """A table in its file."""

    summary: TableSummary
    newest: datetime
    """Its newest event time, UTC; `TIMELESS` where its rows have none."""
    commit: Callable[[], None]
    """Remembers it for the next run; called when every table is written."""


class _TableWriter:
    """Writes one table."""

    def __init__(
        self,
        settings: Configuration,
        locations: Locations,
        expectations: Path,
        source: OpenSource,
        name: str,
        tables: Path,
    ):
        self.locations, self.source, self.name = locations, source, name
        self.table: Table = settings.source.tables[name]
        self.max_rows = settings.validation.max_rows
        self.file = parquet_file(tables, name).resolve()
        schema = expectations / f"{name}.pbtxt"
        # What other files hold has its type already, and a query makes something else of it.
        typed_by_schema = not self.table.query and source.reads_text
        self.expected: Expected | None = expected_table(schema) if typed_by_schema else None

    def write(self) -> _Written:
        if self.table.incremental is None:
            self._copy(self._rows(None), self.file)
            return self._written([], lambda: None)
        return self._write_incrementally(self.table.incremental.watermark)

    def _write_incrementally(self, watermark: str) -> _Written:
        increments = Increments(self.locations.dataset_remote, self.source.place, self.name, self.table)
        before, fresh = (self.source.scratch / f"{self.name}.{part}.parquet" for part in ("before", "fresh"))
        state = increments.fetch(before)
        start = since(state, self.table) if state else None
        self._copy(self._rows(start), fresh)
        if state and self._columns(before) != self._columns(fresh):
            print(f"{self.name} has other columns than before: it is read in full")
            state, start = None, None
            self._copy(self._rows(None), fresh)
        self._check_watermark(watermark, fresh)
        at = datetime.now(UTC).replace(microsecond=0)
        load: Load | None = None
        if state is None or start is None:
            self._copy(f"SELECT * FROM {_parquet(fresh)}", self.file)
        else:
            load = load_of(self._duckdb, _parquet(before), _parquet(fresh), self.table, start, at)
            if load is None:
                # The same file, not the same rows written again: nothing new is no new version.
                shutil.copyfile(before, self.file)
                return self._written(state.loads, lambda: None)
            self._copy(merged(_parquet(before), _parquet(fresh), self.table, start), self.file)
        rows, _ = self._check_written()
        first = Load(at=at, since=None, added=rows, changed=0, removed=0)
        loads = [*state.loads, load] if state and load else [first]
        # A watermark in the future would keep every later row from being read.
        up_to = self._duckdb.execute(
            f"SELECT max({quoted(watermark)}) FILTER ({quoted(watermark)} <= now()::TIMESTAMP) "
            f"FROM {_parquet(self.file)}"
        ).fetchall()[0][0]
        if up_to is None:
            raise ContractViolation(
                f"{self.name}.{watermark} is in the future in every row, and so no watermark. Name another column in "
                f"source.tables.{self.name}.incremental."
            )
        previous = state
        return self._written(loads, lambda: increments.commit(self.file, up_to, loads, previous))

    def _rows(self, start: datetime | None) -> str:
        """SQL of the table's rows as they are kept, those with a watermark before `start` left out."""
        query = self.source.select(self.name, self.table, self.expected, start)
        with self.source.reading(f"table {self.name}"):
            columns = columns_of(self._duckdb, query)
            check_columns(self._duckdb, self.name, self.table, query, columns)
            check_zone(self._duckdb, self.name, self.table, query, columns)
            if self.max_rows:
                self._check_size(query, self.max_rows)
            casts = storable_types(self._duckdb, self.name, query, columns)
            check_precision(self._duckdb, self.name, self.table, query, columns)
        selection = ", ".join(_selected(column, kind, self.table, casts) for column, kind in columns.items())
        rows = f"SELECT {selection} FROM ({query})"
        if start is None or self.table.incremental is None:
            return rows
        column = quoted(self.table.incremental.watermark)
        return f"SELECT * FROM ({rows}) WHERE {column} >= TIMESTAMP {literal(str(start))} OR {column} IS NULL"

    def _copy(self, rows: str, file: Path) -> None:
        order = ", ".join(quoted(column) for column in dict.fromkeys([*self.table.times[:1], *self.table.key]))
        with self.source.reading(f"table {self.name}"):
            self._duckdb.execute(
                f"COPY (SELECT * FROM ({rows}) ORDER BY {order}) TO {literal(str(file))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )

    def _check_size(self, query: str, max_rows: int) -> None:
        rows = self._duckdb.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
        if rows > max_rows:
            raise ContractViolation(
                f"{self.name} has {rows:,} rows, more than the {max_rows:,} that validation.max_rows allows. Find out "
                "why it grew, or raise the limit in pipeline.yaml."
            )

    def _check_watermark(self, watermark: str, fresh: Path) -> None:
        empty = self._duckdb.execute(
            f"SELECT count(*) FROM {_parquet(fresh)} WHERE {quoted(watermark)} IS NULL"
        ).fetchall()[0][0]
        if empty:
            raise ContractViolation(
                f"{self.name}.{watermark} is empty in {empty:,} rows, so nobody could tell whether they are new. Fill "
                f"it in the source, or name another column in source.tables.{self.name}.incremental."
            )

    def _check_written(self) -> tuple[int, datetime]:
        """Rows and newest event time of the file, which has what a table must; `TIMELESS` where it has no times."""
        check_years(self._duckdb, self.name, _parquet(self.file), self._columns(self.file), self.table.key)
        query = f"SELECT count(*), {newest_event(self.table.event_time)} FROM {_parquet(self.file)}"
        rows, newest = self._duckdb.execute(query).fetchall()[0]
        if not rows:
            raise ContractViolation(
                f"{self.name} is empty in {self.source.place.url}. Fill it, or take it out of source.tables in "
                "pipeline.yaml."
            )
        if newest is None:
            raise ContractViolation(
                f"{self.name}.{self.table.event_time} is empty in all {rows:,} rows, so nobody knows when they "
                f"happened. Mend the source, or name another event_time for {self.name} in pipeline.yaml."
            )
        fewest, most = (self.expected.fewest_rows, self.expected.most_rows) if self.expected else (None, None)
        if (fewest and rows < fewest) or (most and rows > most):
            raise ContractViolation(
                f"{self.name} of {self.source.place.url} has {rows:,} rows; the schema {self.name}.pbtxt allows "
                f"{fewest or 0:,} to {most or 'any number of'}. See that it was written to its end, or correct the "
                "schema."
            )
        return rows, newest

    def _written(self, loads: list[Load], commit: Callable[[], None]) -> _Written:
        rows, newest = self._check_written()
        summary = TableSummary(rows=rows, columns=self._columns(self.file), loads=loads)
        return _Written(summary, newest.replace(tzinfo=UTC), commit)

    def _columns(self, file: Path) -> dict[str, str]:
        return columns_of(self._duckdb, f"SELECT * FROM {_parquet(file)}")

    @property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        return self.source.connection


def _parquet(file: Path) -> str:
    return f"read_parquet({literal(str(file))})"


def _selected(column: str, kind: str, table: Table, casts: Mapping[str, str]) -> str:
    name = quoted(column)
    if column in casts:
        return f"CAST({name} AS {casts[column]}) AS {name}"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {name}) AS {name}"
    # A day that is a moment is its first one, by the same clock as those that have an hour.
    if table.time_zone and (kind.startswith("TIMESTAMP") or (kind == "DATE" and column in times_of(table))):
        return f"timezone('UTC', timezone({literal(table.time_zone)}, CAST({name} AS TIMESTAMP))) AS {name}"
    if column in times_of(table):
        return f"CAST({name} AS TIMESTAMP) AS {name}"
    return name
