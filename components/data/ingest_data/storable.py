"""Types that a Parquet file keeps: what it would change is cast where that gives every value back, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from kfp_lifecycle.data.checks import shown, shown_value
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.runtime.contract import ContractViolation

# DuckDB writes these as DOUBLE, which keeps 15 of their 39 digits.
WIDE = ("HUGEINT", "UHUGEINT")
BIGINT_RANGE = (-(2**63), 2**63 - 1)
LARGEST_DECIMAL = 10**38 - 1
# A Parquet file has a time of day without a zone, and no type that is one of several.
WITHOUT_FORM = ("TIME WITH TIME ZONE", "UNION")
FIRST_YEAR, LAST_YEAR = 1, 9999


def storable_types(
    connection: duckdb.DuckDBPyConnection, name: str, rows: str, columns: Mapping[str, str]
) -> dict[str, str]:
    """SQL types that columns are cast to so that a Parquet file keeps their values; of those that need a cast.

    Raises:
        ContractViolation: there is no such type; the message names the column, and the value.
    """
    casts: dict[str, str] = {}
    for column, kind in columns.items():
        if kind in WIDE:
            casts[column] = _type_of_wide(connection, name, rows, column, kind)
        elif any(wide in kind for wide in WIDE) or kind.startswith(WITHOUT_FORM):
            raise ContractViolation(
                f"{name}.{column} is {kind}, whose values a Parquet file would change. Cast it in "
                f"source.tables.{name}.query: SELECT * REPLACE (CAST({quoted(column)} AS VARCHAR) AS {quoted(column)}) "
                "FROM source."
            )
    return casts


def _type_of_wide(connection: duckdb.DuckDBPyConnection, name: str, rows: str, column: str, kind: str) -> str:
    least, most = connection.execute(f"SELECT min({quoted(column)}), max({quoted(column)}) FROM ({rows})").fetchall()[0]
    if least is None or (BIGINT_RANGE[0] <= least and most <= BIGINT_RANGE[1]):
        return "BIGINT"
    if least >= -LARGEST_DECIMAL and most <= LARGEST_DECIMAL:
        return "DECIMAL(38,0)"
    raise ContractViolation(
        f"{name}.{column} is {kind} and holds {shown_value(max(abs(least), abs(most)))}, which has more than 38 "
        f"digits: no number of a Parquet file keeps it. Cast it to text in source.tables.{name}.query."
    )


def check_years(
    connection: duckdb.DuckDBPyConnection, name: str, file: str, columns: Mapping[str, str], key: Sequence[str]
) -> None:
    """Refuse times that other programs cannot hold: before the year 1, or after 9999.

    Args:
        file: SQL of the written table.
        columns: Its DuckDB types by name.
        key: What identifies a row, for the message.

    Raises:
        ContractViolation: naming the column, a value and its row's key.
    """
    times = [column for column, kind in columns.items() if kind.startswith(("DATE", "TIMESTAMP"))]
    if not times:
        return
    bounds = ", ".join(
        f"year(min({quoted(column)}) FILTER (isfinite({quoted(column)}))), "
        f"year(max({quoted(column)}) FILTER (isfinite({quoted(column)})))"
        for column in times
    )
    found = connection.execute(f"SELECT {bounds} FROM {file}").fetchall()[0]
    for column, least, most in zip(times, found[::2], found[1::2], strict=True):
        if least is None or (least >= FIRST_YEAR and most <= LAST_YEAR):
            continue
        place = quoted(column)
        row = connection.execute(
            f"SELECT CAST({place} AS VARCHAR), {', '.join(f'CAST({quoted(part)} AS VARCHAR)' for part in key)} "
            f"FROM {file} WHERE isfinite({place}) AND year({place}) NOT BETWEEN {FIRST_YEAR} AND {LAST_YEAR} LIMIT 1"
        ).fetchall()[0]
        where = f"{' and '.join(key)} is {shown(dict(zip(key, row[1:], strict=True)))}"
        raise ContractViolation(
            f"{name}.{column} is {row[0]} where {where}: a time before the year {FIRST_YEAR} or after {LAST_YEAR}, "
            f"which most programs cannot hold. Mend the source, or leave such rows out with source.tables.{name}.query."
        )
