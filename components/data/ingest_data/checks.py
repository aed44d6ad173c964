"""What a table must have before it is written: its key, and times that are times."""

from __future__ import annotations

import duckdb

from kfp_lifecycle.components.data.ingest_data.files import nearest
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

EXAMPLES = 3


def times_of(table: Table) -> list[str]:
    """Columns of a table that must be times."""
    watermark = table.incremental.watermark if table.incremental else None
    return [column for column in dict.fromkeys((*table.times, watermark)) if column]


def check_columns(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, query: str, columns: dict[str, str]
) -> None:
    """Refuse a table that lacks its key, event or arrival column, or whose times are not times.

    Args:
        columns: DuckDB type by name of the table's columns.

    Raises:
        ContractViolation: naming the column, what there is instead and what to do.
    """
    for column in [*table.key, *times_of(table)]:
        if column not in columns:
            raise ContractViolation(
                f"{name} has no column {column}; {nearest(column, columns)}. Restore the column, or correct "
                f"source.tables.{name} in pipeline.yaml."
            )
    for column in times_of(table):
        if not columns[column].startswith(("TIMESTAMP", "DATE")):
            found = _examples(connection, query, column) if columns[column] == "VARCHAR" else ""
            if found is None:
                continue
            raise ContractViolation(
                f"{name}.{column} is {columns[column]}, not a time{found}. Write ISO 8601 times, all with a zone or "
                f"none, or say in source.tables.{name}.query what they are: SELECT * REPLACE "
                f"(strptime({quoted(column)}, '%d/%m/%Y') AS {quoted(column)}) FROM source, or "
                f"CAST({quoted(column)} AS TIMESTAMP) where they are ISO 8601 already."
            )


def check_zone(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, query: str, columns: dict[str, str]
) -> None:
    """Refuse times that the table's zone never had, since its clocks went from before them to after them.

    Args:
        columns: DuckDB type by name of the table's columns.

    Raises:
        ContractViolation: naming the column, the zone and the times; or the zone is unknown.
    """
    if not table.time_zone:
        return
    known = connection.execute("SELECT count(*) FROM pg_timezone_names() WHERE name = ?", [table.time_zone]).fetchall()
    if not known[0][0]:
        raise ContractViolation(
            f"source.tables.{name}.time_zone is {table.time_zone}, which is no time zone. Write a name such as "
            "Europe/Berlin."
        )
    zone = literal(table.time_zone)
    days = [column for column in times_of(table) if columns[column] == "DATE"]
    moments = [column for column, kind in columns.items() if kind.startswith("TIMESTAMP") and "ZONE" not in kind]
    for column in [*moments, *days]:
        time = f"CAST({quoted(column)} AS TIMESTAMP)"
        there_and_back = f"timezone({zone}, timezone({zone}, {time}))"
        skipped = connection.execute(
            f"SELECT {time}::VARCHAR FROM ({query}) WHERE {there_and_back} <> {time} LIMIT {EXAMPLES}"
        ).fetchall()
        if skipped:
            raise ContractViolation(
                f"{name}.{column} holds times that {table.time_zone} never had, since its clocks skipped them: "
                f"{', '.join(value for (value,) in skipped)}. Write times with their zone, or in UTC."
            )


def check_precision(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, query: str, columns: dict[str, str]
) -> None:
    """Refuse event, arrival and watermark times with nanoseconds: they are kept to the microsecond.

    Raises:
        ContractViolation: naming the column and a value.
    """
    for column in times_of(table):
        if columns[column] == "TIMESTAMP_NS":
            time = quoted(column)
            finer = connection.execute(
                f"SELECT CAST({time} AS VARCHAR) FROM ({query}) WHERE CAST(CAST({time} AS TIMESTAMP) AS TIMESTAMP_NS) "
                f"<> {time} LIMIT 1"
            ).fetchall()
            if finer:
                raise ContractViolation(
                    f"{name}.{column} holds {finer[0][0]}, which is finer than the microseconds that are kept. Round "
                    f"it in source.tables.{name}.query."
                )


def _examples(connection: duckdb.DuckDBPyConnection, query: str, column: str) -> str | None:
    """What is wrong with texts as times; None where there is no text at all."""
    time = quoted(column)
    zoned = f"regexp_matches({time}, '(Z|UTC|[-+]\\d{{2}}(:?\\d{{2}})?)$') AND TRY_CAST({time} AS DATE) IS NOT NULL"
    others, with_zone, all_of_them = connection.execute(
        f"SELECT list(DISTINCT {time}) FILTER (TRY_CAST({time} AS TIMESTAMPTZ) IS NULL)[:{EXAMPLES}], "
        f"count(*) FILTER ({zoned}), count({time}) FROM ({query})"
    ).fetchall()[0]
    if not all_of_them:
        return None
    if others:
        return f": it holds {', '.join(repr(value)[:60] for value in sorted(others))}"
    if 0 < with_zone < all_of_them:
        return f": {with_zone:,} of {all_of_them:,} values have a time zone, the others none"
    return ""
