"""A table beside itself in the last accepted dataset: rows, missing values, distributions and outliers.

The newest days are compared with the newest days of then, so that a change shows at once and not only when it
outweighs years of history, and so that what is always missing of the newest rows is missing in both.

Every bound is widened by what chance explains, three standard errors of the difference, or few rows would alarm often.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import duckdb
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kfp_lifecycle.artifacts.tables import TableSummary
from kfp_lifecycle.config.validation import Validation
from kfp_lifecycle.data.checks import Check, count_where, examples_where, percent
from kfp_lifecycle.data.comparison import STANDARD_ERRORS, distances, missing_of, present_of
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.data.table_statistics import (
    Statistics,
    TableStatistics,
    feature_type,
    features_of,
    is_time,
    text_columns,
)


def comparison_checks(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    summary: TableSummary,
    now: TableStatistics,
    accepted: TableStatistics,
    identifiers: Collection[str],
    settings: Validation,
) -> list[Check]:
    """Compare a table with the last accepted dataset's.

    Args:
        connection: A session with a view for each table.
        table: The table.
        summary: Its rows and column types.
        now: Statistics of this dataset.
        accepted: Of the last one that passed.
        identifiers: Columns that name things: they differ each time by nature, as times do.
        settings: The bounds.
    """
    compared = [name for name, kind in summary.columns.items() if name not in identifiers and not is_time(kind)]
    return [
        _rows_check(table, now.recent_rows, accepted.recent_rows, settings),
        *_null_checks(table, compared, now.recent, accepted.recent, settings),
        *_drift_checks(table, compared, summary, now, accepted, settings),
        *_outlier_checks(connection, table, compared, summary, accepted.whole, settings),
    ]


def _rows_check(table: str, rows: int, before: int, settings: Validation) -> Check:
    # The logarithm of a ratio of two counts has the variance 1/n + 1/m; one row more keeps zero in range.
    change = math.log((rows + 1) / (before + 1))
    chance = STANDARD_ERRORS * math.sqrt(1 / (rows + 1) + 1 / (before + 1))
    return Check(
        table=table,
        column=None,
        layer="statistics",
        rule=f"its newest {settings.recent_days} days have about as many rows as those of the last accepted dataset "
        f"({rows:,} now, {before:,} then)",
        severity="warning",
        passed=abs(change) <= math.log(settings.max_row_change) + chance,
        remedy="See whether a load is incomplete or ran twice, or whether the business did change.",
        recent=True,
    )


def _null_checks(
    table: str, compared: list[str], now: Statistics, accepted: Statistics, settings: Validation
) -> Iterator[Check]:
    rows, before_rows = now.datasets[0].num_examples, accepted.datasets[0].num_examples
    features, before_features = features_of(now), features_of(accepted)
    if not rows or not before_rows:
        return
    for column in compared:
        if column not in features or column not in before_features:
            continue
        missing, before = missing_of(features[column]), missing_of(before_features[column])
        pooled = (missing + before) / (rows + before_rows)
        chance = STANDARD_ERRORS * math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / before_rows))
        share, before_share = missing / rows, before / before_rows
        yield Check(
            table=table,
            column=column,
            layer="statistics",
            rule=f"it is about as often empty in the newest {settings.recent_days} days as in those of the last "
            f"accepted dataset ({percent(share)} now, {percent(before_share)} then)",
            severity="critical",
            passed=share - before_share <= settings.max_null_increase + chance,
            remedy="Find out why the source lost it; if it is meant to be, raise validation.max_null_increase.",
            recent=True,
        )


def _drift_checks(
    table: str,
    compared: list[str],
    summary: TableSummary,
    now: TableStatistics,
    accepted: TableStatistics,
    settings: Validation,
) -> Iterator[Check]:
    recently, everywhere = f"in the newest {settings.recent_days} days", "in all rows"
    categories = text_columns(now.recent) - text_columns(now.whole)
    kinds = {column: summary.columns[column] for column in compared}
    found = {
        recently: distances(kinds, now.recent, accepted.recent, settings.drift_threshold, "drift"),
        everywhere: distances(kinds, now.whole, accepted.whole, settings.drift_threshold, "drift"),
    }
    for column in compared:
        measured = {where: distances[column] for where, distances in found.items() if column in distances}
        if column in categories:
            measured.pop(everywhere, None)
        if not measured:
            continue
        where = max(measured, key=lambda place: measured[place][0] - measured[place][1])
        distance, allowed = measured[where]
        yield Check(
            table=table,
            column=column,
            layer="statistics",
            rule=f"it is distributed as in the last accepted dataset (distance {distance:.3f} {where}, "
            f"at most {allowed:.3g})",
            severity="warning",
            passed=distance <= allowed,
            remedy="See in the report how it changed; a model trained on it will have changed too.",
            recent=where == recently,
        )


def _outlier_checks(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    compared: list[str],
    summary: TableSummary,
    accepted: Statistics,
    settings: Validation,
) -> Iterator[Check]:
    before = features_of(accepted)
    fences = {}
    for column in compared:
        kind = feature_type(summary.columns[column])
        if column in before and kind != schema_pb2.BYTES and summary.columns[column] != "BOOLEAN":
            numbers = before[column].num_stats
            if before[column].type != statistics_pb2.FeatureNameStatistics.STRING and present_of(before[column]):
                fences[column] = _fence(numbers, settings.outlier_distance)
    conditions = {
        # Infinity is not for this check: that of finite numbers reports it.
        column: f"isfinite({quoted(column)}::DOUBLE) "
        f"AND {quoted(column)} NOT BETWEEN '{low}'::DOUBLE AND '{high}'::DOUBLE"
        for column, (low, high) in fences.items()
    }
    counts = count_where(connection, table, list(conditions.values()))
    for (column, condition), rows in zip(conditions.items(), counts, strict=True):
        low, high = fences[column]
        yield Check(
            table=table,
            column=column,
            layer="statistics",
            rule=f"no value is far beyond those of the last accepted dataset ({low:,.6g} to {high:,.6g})",
            severity="warning",
            passed=not rows,
            rows=rows,
            share=rows / summary.rows,
            examples=examples_where(connection, table, [column], condition, settings.examples) if rows else (),
            remedy="Look for a changed unit, a slipped decimal point or a default such as 999999 in the source.",
        )


def _fence(numbers: statistics_pb2.NumericStatistics, distance: float) -> tuple[float, float]:
    """Where outliers begin below and above; nowhere on a side that had no values to judge by."""
    low = numbers.median - distance * (numbers.median - numbers.min)
    high = numbers.median + distance * (numbers.max - numbers.median)
    return (
        low if numbers.min < numbers.median else -math.inf,
        high if numbers.max > numbers.median else math.inf,
    )
