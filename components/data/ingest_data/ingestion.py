"""Read a project's source into one Parquet file for each table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from components.contract import ContractViolation
from components.data.ingest_data.source import OpenSource, nearest, open_source
from components.data.tables import (
    Manifest,
    TableSummary,
    columns_of,
    literal,
    new_folder,
    parquet_file,
    quoted,
    write_manifest,
)
from project.data import Table
from project.loading import load_configuration


def ingest(project: Path, tables: Path) -> Manifest:
    """Read every configured table from the source.

    Rows are ordered by event time and key, so that the same rows give the same bytes, in whatever order the source
    keeps them. Event and arrival times become TIMESTAMP, and times with a zone UTC without one.

    Args:
        project: The project's folder.
        tables: Folder to write `<table>.parquet` and `manifest.json` to. It does not exist after a failure.

    Raises:
        ContractViolation: the source, a table or one of its key, event or arrival columns is missing or cannot be
            read, a table is empty, or it has more rows than `validation.max_rows`.
    """
    configuration = load_configuration(project)
    summaries: dict[str, TableSummary] = {}
    newest: list[datetime] = []
    with new_folder(tables):
        with open_source(configuration.source, writable=tables) as source:
            for name, table in configuration.source.tables.items():
                query = source.select(name)
                with source.reading(f"table {name}"):
                    columns = columns_of(source.connection, query)
                check_columns(name, table, columns)
                if configuration.validation.max_rows:
                    _check_size(source, name, query, configuration.validation.max_rows)
                summary, latest = _write_table(source, name, query, columns, parquet_file(tables, name))
                summaries[name] = summary
                newest.append(latest)
        manifest = Manifest(as_of=max(newest), tables=summaries)
        write_manifest(manifest, tables)
    return manifest


def check_columns(name: str, table: Table, columns: dict[str, str]) -> None:
    """Refuse a table that lacks its key, event or arrival column, or whose times are not times.

    Args:
        columns: DuckDB type by name of the table's columns.

    Raises:
        ContractViolation: naming the column, what there is instead and what to do.
    """
    times = [column for column in (table.event_time, table.arrival_time) if column]
    for column in [*table.key, *times]:
        if column not in columns:
            raise ContractViolation(
                f"{name} has no column {column}; {nearest(column, columns)}. Restore the column, or correct "
                f"source.tables.{name} in pipeline.yaml."
            )
    for column in times:
        if not columns[column].startswith(("TIMESTAMP", "DATE")):
            raise ContractViolation(
                f"{name}.{column} is {columns[column]}, not a time. Cast it in source.tables.{name}.query: "
                f"SELECT * REPLACE (CAST({quoted(column)} AS TIMESTAMP) AS {quoted(column)}) FROM …"
            )


def _check_size(source: OpenSource, name: str, query: str, max_rows: int) -> None:
    with source.reading(f"table {name}"):
        rows = source.connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
    if rows > max_rows:
        raise ContractViolation(
            f"{name} has {rows:,} rows, more than the {max_rows:,} that validation.max_rows allows. Find out why it "
            "grew, or raise the limit in pipeline.yaml."
        )


def _write_table(
    source: OpenSource, name: str, query: str, columns: dict[str, str], file: Path
) -> tuple[TableSummary, datetime]:
    """Write one table; its summary and its newest event time."""
    table = source.source.tables[name]
    selected = ", ".join(_selected(column, kind, table) for column, kind in columns.items())
    order = ", ".join(quoted(column) for column in dict.fromkeys([table.event_time, *table.key]))
    destination = literal(str(file.resolve()))
    with source.reading(f"table {name}"):
        source.connection.execute(
            f"COPY (SELECT {selected} FROM ({query}) ORDER BY {order}) TO {destination} "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
    written = f"SELECT * FROM read_parquet({destination})"
    time = quoted(table.event_time)
    rows, latest = source.connection.execute(
        f"SELECT count(*), max({time}) FILTER (isfinite({time})) FROM ({written})"
    ).fetchall()[0]
    if not rows:
        raise ContractViolation(
            f"{name} is empty in {source.source.url}. Fill it, or take it out of source.tables in pipeline.yaml."
        )
    if latest is None:
        raise ContractViolation(
            f"{name}.{table.event_time} is empty in all {rows:,} rows, so nobody knows when they happened. Mend the "
            f"source, or name another event_time for {name} in pipeline.yaml."
        )
    return TableSummary(rows=rows, columns=columns_of(source.connection, written)), latest.replace(tzinfo=UTC)


def _selected(column: str, kind: str, table: Table) -> str:
    name = quoted(column)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {name}) AS {name}"
    if column in (table.event_time, table.arrival_time):
        return f"CAST({name} AS TIMESTAMP) AS {name}"
    return name
