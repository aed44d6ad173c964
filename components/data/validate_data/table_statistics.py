"""TFDV statistics of a table, read by DuckDB and handed over as Arrow."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import duckdb

# Read at import: TensorFlow would tell every step which processor features it was not built for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tensorflow_data_validation import StatsOptions
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.data.tables import TableSummary, quoted

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

WHOLE_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "BOOLEAN")
TIMES = ("DATE", "TIMESTAMP")


def feature_type(kind: str) -> int:
    """TFDV's type of a column of a DuckDB type: whole numbers and times INT, other numbers FLOAT, all else BYTES."""
    if kind in WHOLE_NUMBERS or is_time(kind):
        return int(schema_pb2.INT)
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        return int(schema_pb2.FLOAT)
    return int(schema_pb2.BYTES)


def is_time(kind: str) -> bool:
    """Whether a DuckDB type is a moment; TFDV sees it as seconds since 1970."""
    return kind.startswith(TIMES)


def sampling(key: Sequence[str], rows: int, sample_rows: int) -> str | None:
    """SQL condition that keeps about `sample_rows` of a table, the same each time; None where all are kept."""
    if rows <= sample_rows:
        return None
    return f"hash({', '.join(map(quoted, key))}) % {math.ceil(rows / sample_rows)} = 0"


def table_statistics(
    connection: duckdb.DuckDBPyConnection, table: str, summary: TableSummary, sample: str | None
) -> Statistics:
    """Compute TFDV's statistics of a table.

    Args:
        connection: A session with a view for each table.
        table: The table.
        summary: Its rows and column types.
        sample: SQL condition for the rows to look at; None for all.
    """
    # TFDV wants every cell as a list of values, none for a missing one.
    cells = ", ".join(
        f"CASE WHEN {value} IS NOT NULL THEN [{value}] END AS {quoted(name)}"
        for name, value in _values(summary.columns).items()
    )
    where = f" WHERE {sample}" if sample else ""
    rows = connection.sql(f"SELECT {cells} FROM {quoted(table)}{where}").to_arrow_table()
    return generate_statistics_in_memory(rows.combine_chunks().to_batches()[0], StatsOptions())


def _values(columns: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for name, kind in columns.items():
        column = quoted(name)
        if is_time(kind):
            values[name] = f"CASE WHEN isfinite({column}) THEN CAST(floor(epoch({column})) AS BIGINT) END"
        elif feature_type(kind) == schema_pb2.FLOAT:
            # No histogram has room for infinity; the check of finite numbers reports it.
            values[name] = f"CASE WHEN isinf({column}) THEN 'nan'::DOUBLE ELSE CAST({column} AS DOUBLE) END"
        else:
            values[name] = f"CAST({column} AS {'BIGINT' if feature_type(kind) == schema_pb2.INT else 'VARCHAR'})"
    return values
