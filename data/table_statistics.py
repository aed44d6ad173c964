"""TFDV statistics of a table, read by DuckDB and handed over as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow.compute as pc
from joblib import cpu_count
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.data.checks import batched
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.data.tfdv import StatsOptions, generate_statistics_in_memory
from kfp_lifecycle.data.workers import workers

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

WHOLE_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "BOOLEAN")
TIMES = ("DATE", "TIMESTAMP")

# Numbers of so few different values are compared as categories: TFDV's histogram of them says more of the least and the
# largest than of the shares.
FEW_VALUES = 50

# Beyond so many cells the columns are shared by all cores. TFDV takes seconds for them, and as long to be imported by
# one more process.
CELLS_OF_ONE_CORE = 30_000_000
# Each takes some megabytes on each thread, however few rows there are.
DISTINCT_COUNTS_IN_A_QUERY = 32


@dataclass(frozen=True)
class TableStatistics:
    """What is known of a table's values: all of them, and those of the newest days."""

    rows: int
    whole: Statistics
    recent_rows: int
    recent: Statistics


@dataclass(frozen=True)
class Selection:
    """The rows and columns of a table of which statistics are wanted."""

    table: str
    columns: Mapping[str, str]
    """DuckDB type by name, as which TFDV is to see it."""
    condition: str | None = None
    """SQL condition for the rows; None for all."""


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
    for part in batched(numbers, DISTINCT_COUNTS_IN_A_QUERY):
        counts = ", ".join(f"count(DISTINCT {quoted(name)})" for name in part)
        found = connection.execute(f"SELECT {counts} FROM {quoted(table)} WHERE {condition}").fetchall()[0]
        few |= {name for name, count in zip(part, found, strict=True) if count <= FEW_VALUES}
    return few


def features_of(statistics: Statistics) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    """Statistics of each column by its name."""
    return {".".join(feature.path.step): feature for feature in statistics.datasets[0].features}


def text_columns(statistics: Statistics) -> set[str]:
    """The columns that were taken for text."""
    features = statistics.datasets[0].features
    return {feature.path.step[0] for feature in features if feature.type == statistics_pb2.FeatureNameStatistics.STRING}


def table_statistics(
    connection: duckdb.DuckDBPyConnection, folder: Path, selection: Selection, rows: int
) -> Statistics:
    """Compute TFDV's statistics in this step, on all cores where a whole table is large.

    Args:
        connection: A session with a view for each table.
        folder: The folder of tables, for the other cores.
        selection: What of a table to look at.
        rows: How many rows the table has.
    """
    columns, cores = selection.columns, cpu_count()
    if selection.condition is not None or rows * len(columns) <= CELLS_OF_ONE_CORE or cores == 1:
        return _statistics_here(connection, selection)
    # Columns of a kind cost about the same, so each core gets as many of each. What it gives does not depend on which.
    ordered = sorted(columns, key=lambda name: feature_type(columns[name]))
    groups = [{name: columns[name] for name in ordered[core::cores]} for core in range(cores)]
    parts = [Selection(selection.table, group) for group in groups if group]
    others = [workers().submit(_statistics_elsewhere, folder, part) for part in parts[1:]]
    merged = _statistics_here(connection, parts[0])
    for other in others:
        merged.datasets[0].features.extend(Statistics.FromString(other.result()).datasets[0].features)
    return in_order(merged, columns)


def in_order(statistics: Statistics, columns: Iterable[str]) -> Statistics:
    """The statistics with their columns in this order; a column without any is left out."""
    features = {feature.path.step[0]: feature for feature in statistics.datasets[0].features}
    ordered = [features[name] for name in columns if name in features]
    del statistics.datasets[0].features[:]
    statistics.datasets[0].features.extend(ordered)
    return statistics


def _statistics_here(connection: duckdb.DuckDBPyConnection, selection: Selection) -> Statistics:
    rows = connection.sql(tfdv_rows(selection)).to_arrow_table().combine_chunks()
    lists = [_as_lists(column) for column in rows.columns]
    return generate_statistics_in_memory(pa.RecordBatch.from_arrays(lists, names=rows.column_names), StatsOptions())


def _statistics_elsewhere(folder: Path, selection: Selection) -> bytes:
    with tables_database(folder, [selection.table]) as connection:
        return bytes(_statistics_here(connection, selection).SerializeToString())


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


def tfdv_rows(selection: Selection, cell: str = "{value}") -> str:
    """SQL of the rows with every value as TFDV is to see it.

    Args:
        selection: The rows and columns.
        cell: What a cell is, of its `{value}`.
    """
    cells = (f"{cell.format(value=_value(name, kind))} AS {quoted(name)}" for name, kind in selection.columns.items())
    where = f" WHERE {selection.condition}" if selection.condition else ""
    return f"SELECT {', '.join(cells)} FROM {quoted(selection.table)}{where}"


def _value(name: str, kind: str) -> str:
    column = quoted(name)
    if is_time(kind):
        return f"CASE WHEN isfinite({column}) THEN CAST(floor(epoch({column})) AS BIGINT) END"
    if feature_type(kind) == schema_pb2.FLOAT:
        # No histogram has room for infinity; the check of finite numbers reports it.
        return f"CASE WHEN isinf({column}) THEN 'nan'::DOUBLE ELSE CAST({column} AS DOUBLE) END"
    return f"CAST({column} AS {'BIGINT' if feature_type(kind) == schema_pb2.INT else 'VARCHAR'})"
