"""TFDV statistics of a table, read by DuckDB and handed over as Arrow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.data.tables import TableSummary, quoted, tables_database
from components.data.validate_data.checks import CONDITIONS_IN_A_QUERY, batched
from components.data.validate_data.tfdv import StatsOptions, generate_statistics_in_memory
from components.data.validate_data.workers import cores, workers

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

WHOLE_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "BOOLEAN")
TIMES = ("DATE", "TIMESTAMP")

# Numbers of so few different values are compared as categories: TFDV's histogram of them says more of the least and the
# largest than of the shares.
FEW_VALUES = 50

# Beyond so many cells the columns are shared by all cores. TFDV takes seconds for them, and as long to be imported by
# one more process.
CELLS_OF_ONE_CORE = 30_000_000


@dataclass(frozen=True)
class TableStatistics:
    """What is known of a table's values: all of them, and those of the newest days."""

    rows: int
    whole: Statistics
    recent_rows: int
    recent: Statistics


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


def few_valued(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], condition: str
) -> set[str]:
    """The columns of numbers that have few different values in some rows.

    Args:
        connection: A session with a view for each table.
        table: The table.
        columns: DuckDB type by name.
        condition: SQL condition for the rows.
    """
    numbers = [name for name, kind in columns.items() if feature_type(kind) != schema_pb2.BYTES and not is_time(kind)]
    few = set()
    for part in batched(numbers, CONDITIONS_IN_A_QUERY):
        counts = ", ".join(f"count(DISTINCT {quoted(name)})" for name in part)
        found = connection.execute(f"SELECT {counts} FROM {quoted(table)} WHERE {condition}").fetchall()[0]
        few |= {name for name, count in zip(part, found, strict=True) if count <= FEW_VALUES}
    return few


def text_columns(statistics: Statistics) -> set[str]:
    """The columns that were taken for text."""
    features = statistics.datasets[0].features
    return {feature.path.step[0] for feature in features if feature.type == statistics_pb2.FeatureNameStatistics.STRING}


def table_statistics(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    table: str,
    summary: TableSummary,
    condition: str | None = None,
    as_text: Collection[str] = (),
) -> Statistics:
    """Compute TFDV's statistics of a table, on all cores where it is large.

    Args:
        connection: A session with a view for each table.
        folder: The folder of tables, for the other cores.
        table: The table.
        summary: Its rows and column types.
        condition: SQL condition for the rows to look at; None for all.
        as_text: Columns to be taken for text, whatever they hold.
    """
    if condition is not None or summary.rows * len(summary.columns) <= CELLS_OF_ONE_CORE or cores() == 1:
        kinds = {name: "VARCHAR" if name in as_text else kind for name, kind in summary.columns.items()}
        return column_statistics(connection, table, kinds, condition)
    # Columns of a kind cost about the same, so each core gets as many of each. What it gives does not depend on which.
    ordered = sorted(summary.columns, key=lambda name: feature_type(summary.columns[name]))
    groups = [{name: summary.columns[name] for name in ordered[core :: cores()]} for core in range(cores())]
    others = [workers().submit(_statistics_elsewhere, folder, table, group) for group in groups[1:] if group]
    merged = column_statistics(connection, table, groups[0], None)
    for other in others:
        merged.datasets[0].features.extend(Statistics.FromString(other.result()).datasets[0].features)
    features = {feature.path.step[0]: feature for feature in merged.datasets[0].features}
    in_order = [features[name] for name in summary.columns]
    del merged.datasets[0].features[:]
    merged.datasets[0].features.extend(in_order)
    return merged


def column_statistics(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], condition: str | None
) -> Statistics:
    """Compute TFDV's statistics of some columns in this process.

    Args:
        connection: A session with a view for each table.
        table: The table.
        columns: DuckDB type by name, as which TFDV is to see it.
        condition: SQL condition for the rows to look at; None for all.
    """
    cells = ", ".join(f"{value} AS {quoted(name)}" for name, value in _values(columns).items())
    where = f" WHERE {condition}" if condition else ""
    rows = connection.sql(f"SELECT {cells} FROM {quoted(table)}{where}").to_arrow_table().combine_chunks()
    lists = [_as_lists(column) for column in rows.columns]
    return generate_statistics_in_memory(pa.RecordBatch.from_arrays(lists, names=rows.column_names), StatsOptions())


def _statistics_elsewhere(folder: Path, table: str, columns: Mapping[str, str]) -> bytes:
    with tables_database(folder, [table]) as connection:
        return bytes(column_statistics(connection, table, columns, None).SerializeToString())


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    """TFDV wants every cell as a list of values, and no list for a missing one."""
    values = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    present = values.is_valid()
    ends = pc.cumulative_sum(present.cast(pa.int32()))
    starts = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    if values.null_count:
        # A list without a start is none; the last number is the end of the last list.
        starts = pc.if_else(pa.concat_arrays([present, pa.array([True])]), starts, pa.scalar(None, pa.int32()))
    return pa.ListArray.from_arrays(starts, values.drop_null())


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
