"""Distances between two sets of statistics, by TFDV's comparators, and how far apart chance alone puts them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kfp_lifecycle.data.table_statistics import Statistics, feature_type, features_of
from kfp_lifecycle.data.tfdv import validate_statistics

Comparator: TypeAlias = Literal["drift", "skew"]

STANDARD_ERRORS = 3.0
# Of the histograms that TFDV compares: ten buckets in each, whose edges may all differ.
BUCKETS = 20


def distances(
    columns: Mapping[str, str], statistics: Statistics, others: Statistics, threshold: float, by: Comparator
) -> dict[str, tuple[float, float]]:
    """How far TFDV's comparator finds columns apart, and how far they may be: the threshold, and what chance explains.

    Args:
        columns: DuckDB type by name.
        statistics: Of the columns.
        others: Of the same columns: in an earlier dataset for `drift`, in production for `skew`.
        threshold: Largest allowed distance, 0 to 1: Jensen-Shannon for numbers, L-infinity for categories.
        by: TFDV's comparator.

    Returns:
        Distance and bound of each column that has values in both, of the same type.
    """
    features, other_features = features_of(statistics), features_of(others)
    schema, allowed = schema_pb2.Schema(), {}
    for column, duckdb_type in columns.items():
        feature, other = features.get(column), other_features.get(column)
        if feature is None or other is None or feature.type != other.type:
            continue
        rows, other_rows = present_of(feature), present_of(other)
        if not rows or not other_rows:
            continue
        is_text = feature.type == statistics_pb2.FeatureNameStatistics.STRING
        is_number = feature_type(duckdb_type) != schema_pb2.BYTES
        kind = schema_pb2.BYTES if is_text else feature_type(duckdb_type)
        comparator = getattr(schema.feature.add(name=column, type=kind), f"{by}_comparator")
        if is_number:
            values = feature.string_stats.unique + other.string_stats.unique if is_text else BUCKETS
            allowed[column] = threshold + chance_of_numbers(rows, other_rows, values)
            comparator.jensen_shannon_divergence.threshold = allowed[column]
        else:
            allowed[column] = threshold + chance_of_categories(rows, other_rows)
            comparator.infinity_norm.threshold = allowed[column]
    compared_with = {"previous_statistics" if by == "drift" else "serving_statistics": others}
    found = validate_statistics(statistics, schema, **compared_with).drift_skew_info if allowed else ()
    return {
        measured.path.step[0]: (measurement.value, allowed[measured.path.step[0]])
        for measured in found
        for measurement in getattr(measured, f"{by}_measurements")
    }


def chance_of_categories(rows: int, before_rows: int) -> float:
    """How far chance alone moves the share that moves most, hardly ever farther (L-infinity, 0 to 1).

    The standard error of a difference of shares is sqrt(p (1 - p) (1/n + 1/m)), largest at p = 1/2.

    Args:
        rows: Values in one sample, n > 0.
        before_rows: Values in the other, m > 0.
    """
    return STANDARD_ERRORS * math.sqrt(0.25 * (1 / rows + 1 / before_rows))


def chance_of_numbers(rows: int, before_rows: int, values: int) -> float:
    """How far apart chance alone puts two histograms of one distribution, hardly ever farther.

    Their Jensen-Shannon divergence, in bits, is about chi-squared of k - 1 degrees of freedom times
    (1/n + 1/m) / (8 ln 2) (Grosse et al., Phys. Rev. E 65, 041905, 2002).

    Args:
        rows: Values in one sample, n > 0.
        before_rows: Values in the other, m > 0.
        values: Buckets, or different values, k > 0.
    """
    freedom = values - 1
    spread = freedom + STANDARD_ERRORS * math.sqrt(2 * freedom)
    return spread * (1 / rows + 1 / before_rows) / (8 * math.log(2))


def missing_of(feature: statistics_pb2.FeatureNameStatistics) -> int:
    """Rows without a value."""
    return int(_common(feature).num_missing)


def present_of(feature: statistics_pb2.FeatureNameStatistics) -> int:
    """Rows with a value."""
    return int(_common(feature).num_non_missing)


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    is_text = feature.type == statistics_pb2.FeatureNameStatistics.STRING
    return (feature.string_stats if is_text else feature.num_stats).common_stats
