"""A column as a few numbers and bars, from its statistics; beside it the last accepted dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kfp_lifecycle.artifacts.tables import TableSummary
from kfp_lifecycle.data.table_statistics import Statistics, features_of, is_time

Feature: TypeAlias = statistics_pb2.FeatureNameStatistics

NUMBER_BARS = 20
TEXT_BARS = 8


@dataclass(frozen=True)
class Bar:
    """A share of a column's values, 0 to 1, now and in the last accepted dataset."""

    label: str
    share: float
    reference: float | None
    allowed: bool = True
    """Whether the schema allows these values."""
    low: float = math.nan
    high: float = math.nan
    """The range of numbers that it stands for."""


@dataclass(frozen=True)
class ColumnProfile:
    """What a report shows of a column."""

    name: str
    kind: str
    is_text: bool
    is_time: bool
    missing: float
    """Share of rows without a value, 0 to 1."""
    facts: str
    """Its range, or how many values it has."""
    bars: list[Bar]
    lowest: str = ""
    """Lower end of the first bar, of numbers and times."""
    highest: str = ""
    """Upper end of the last one."""


def profile_table(
    summary: TableSummary, statistics: Statistics, accepted: Statistics | None, schema: schema_pb2.Schema
) -> dict[str, ColumnProfile]:
    """Profile each column of a table.

    Args:
        summary: Its column types.
        statistics: Of this dataset.
        accepted: Of the last accepted one, if there is one.
        schema: What it allows.
    """
    now, before = features_of(statistics), features_of(accepted) if accepted else {}
    described = {feature.name: feature for feature in schema.feature}
    domains = {domain.name: domain for domain in schema.string_domain}
    profiles = {}
    for name, kind in summary.columns.items():
        if name in now:
            profile = _profile(name, kind, now[name], before.get(name))
            rule = described.get(name, schema_pb2.Feature())
            values = rule.string_domain if rule.HasField("string_domain") else domains.get(rule.domain)
            low, high = _range(rule)
            bars = [
                replace(
                    bar,
                    allowed=values is None or bar.label in values.value
                    if profile.is_text
                    else bar.high > low and bar.low <= high,
                )
                for bar in profile.bars
            ]
            profiles[name] = replace(profile, bars=bars)
    return profiles


def _range(rule: schema_pb2.Feature) -> tuple[float, float]:
    """What the schema allows a number to be."""
    low, high = -math.inf, math.inf
    for name in ("int_domain", "float_domain"):
        if rule.HasField(name):
            domain = getattr(rule, name)
            low, high = (
                (domain.min if domain.HasField("min") else low),
                (domain.max if domain.HasField("max") else high),
            )
    return low, high


def mass_between(edges: Sequence[float], counts: Sequence[float], low: float, high: float) -> float:
    """How much of a histogram lies in [low, high), its buckets taken as even.

    Args:
        edges: Bounds of the buckets, rising; one more than there are buckets.
        counts: Mass of each bucket.
        low: Lower bound.
        high: Upper bound, above `low`.
    """
    mass = 0.0
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        if right > left:
            mass += count * max(0.0, min(right, high) - max(left, low)) / (right - left)
        elif low <= left < high:
            mass += count
    return mass


def _profile(name: str, kind: str, feature: Feature, reference: Feature | None) -> ColumnProfile:
    is_text = feature.type == statistics_pb2.FeatureNameStatistics.STRING
    common = (feature.string_stats if is_text else feature.num_stats).common_stats
    rows = common.num_missing + common.num_non_missing
    missing = common.num_missing / rows if rows else 1.0
    if reference is not None and (reference.type == statistics_pb2.FeatureNameStatistics.STRING) != is_text:
        reference = None
    if is_text:
        facts, bars = f"{feature.string_stats.unique:,} values", _text_bars(feature, reference)
    else:
        low, high = (_number(edge, kind) for edge in (feature.num_stats.min, feature.num_stats.max))
        facts = f"{low} to {high}, median {_number(feature.num_stats.median, kind)}"
        bars = _number_bars(feature, reference, kind)
    ends = (_number(bars[0].low, kind), _number(bars[-1].high, kind)) if bars and not is_text else ("", "")
    return ColumnProfile(
        name, kind, is_text, is_time(kind), missing, facts if missing < 1 else "no value at all", bars, *ends
    )


def _text_bars(feature: Feature, reference: Feature | None) -> list[Bar]:
    def shares(one: Feature) -> dict[str, float]:
        total = one.string_stats.common_stats.num_non_missing or 1
        return {bucket.label: bucket.sample_count / total for bucket in one.string_stats.rank_histogram.buckets}

    now, before = shares(feature), shares(reference) if reference else None
    labels = dict.fromkeys([*list(now)[:TEXT_BARS], *list(before or ())[:TEXT_BARS]])
    return [
        Bar(label, now.get(label, 0.0), None if before is None else before.get(label, 0.0))
        for label in list(labels)[:TEXT_BARS]
    ]


def _number_bars(feature: Feature, reference: Feature | None, kind: str) -> list[Bar]:
    now, before = _histogram(feature), _histogram(reference) if reference else None
    if now is None:
        return []
    ends = [*now[0], *(before[0] if before else ())]
    low, high = min(ends), max(ends)
    width = (high - low) / NUMBER_BARS or 1.0
    bars = []
    for index in range(NUMBER_BARS):
        left, right = low + index * width, low + (index + 1) * width
        # The last bar holds what lies on its upper end too.
        end = right if index < NUMBER_BARS - 1 else float("inf")
        bars.append(
            Bar(
                f"{_number(left, kind)} to {_number(right, kind)}",
                mass_between(*now, left, end) / (sum(now[1]) or 1),
                mass_between(*before, left, end) / (sum(before[1]) or 1) if before else None,
                low=left,
                high=right,
            )
        )
    return bars


def _histogram(feature: Feature) -> tuple[list[float], list[float]] | None:
    for histogram in feature.num_stats.histograms:
        if histogram.type == statistics_pb2.Histogram.STANDARD and histogram.buckets:
            edges = [histogram.buckets[0].low_value, *(bucket.high_value for bucket in histogram.buckets)]
            return edges, [bucket.sample_count for bucket in histogram.buckets]
    return None


def _number(value: float, kind: str) -> str:
    if is_time(kind):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.4g}"
