"""Drift rule: a column drifts when it differs from the newest training date by more than such dates differ among
themselves, and by enough to matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import SCORE, Aspect, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.titles import Titles
from kfp_lifecycle.components.monitoring.detect_drift.faults import faults
from kfp_lifecycle.components.monitoring.detect_drift.measures import (
    FEWEST_ROWS,
    CategoricalColumn,
    Measure,
    NumericColumn,
    as_the_model_takes_them,
    means_of,
    named,
    new_by_date,
)
from kfp_lifecycle.components.monitoring.detect_drift.statistics import (
    KS_SIGNIFICANCE,
    holm,
    homogeneity,
    kolmogorov_smirnov,
)
from kfp_lifecycle.components.monitoring.detect_drift.trend import Trend, trend_of
from kfp_lifecycle.components.monitoring.detect_drift.usual import (
    Difference,
    Mean,
    Variation,
    difference,
    moderated,
    variation_of,
)
from kfp_lifecycle.config.monitoring import Monitoring

DATE = "event_timestamp"
"""The column of the baseline that says which date a row is of."""
TIME = "(time)"
"""The column of a window that says when each row was asked for, called as no feature is."""
DAY = pd.Timedelta(days=1)
Distance = Callable[[pd.Series, pd.Series, str], float | None]


@dataclass(frozen=True)
class _Comparison:
    """The largest difference among the measures of one aspect of a column."""

    aspect: Aspect
    measure: Measure
    p_value: float
    effect: float
    before: Mean
    after: Mean


class Baseline:
    """What the model was trained and judged on, date by date: the newest to compare with, all to know what is usual."""

    def __init__(self, reference: pd.DataFrame, inputs: Sequence[Feature], titles: Titles | None = None) -> None:
        """Measure each date.

        Args:
            reference: A column for each input, `score`, and `event_timestamp` where there are several dates. NaN or
                None is missing, in a categorical column the empty text too. Not empty.
            inputs: The model's inputs.
            titles: What people call those whose name is another one.
        """
        self.titles: Titles = titles or {}
        if DATE in reference and DATE not in {item.name for item in inputs}:
            groups = [frame for _, frame in reference.groupby(DATE, sort=True)][::-1]
        else:
            groups = [reference]
        self.newest = groups[0]
        self.by_date = groups
        self.dates = len(groups)
        self.columns = {item.name: item for item in [Feature(SCORE, "numeric"), *inputs]}
        self._trends = self._trends_of(groups)
        self._columns: dict[str, NumericColumn | CategoricalColumn] = {}
        self._means: dict[str, dict[Measure, list[Mean]]] = {}
        for name, item in self.columns.items():
            dates = [group[name] for group in groups]
            column = NumericColumn(dates) if item.type == "numeric" else CategoricalColumn(dates)
            means = [means_of(column.rows(date)) for date in dates]
            self._columns[name] = column
            self._means[name] = {measure: [mean[measure] for mean in means] for measure in means[0]}
            for measure in self._means[name]:
                if measure.aspect == "new":
                    self._means[name][measure] = new_by_date(dates)
        self._variations = self._moderated()

    def _trends_of(self, groups: Sequence[pd.DataFrame]) -> dict[str, Trend]:
        """The numbers that move steadily from date to date, where dates are times."""
        if not isinstance(self.newest.get(DATE, self.newest.iloc[:, 0]).dtype, pd.DatetimeTZDtype):
            return {}
        days = [(group[DATE].iloc[0] - self.newest[DATE].iloc[0]) / DAY for group in groups]
        numbers = [name for name, item in self.columns.items() if item.type == "numeric"]
        trends = {name: trend_of([as_the_model_takes_them(group[name]) for group in groups], days) for name in numbers}
        return {name: trend for name, trend in trends.items() if trend is not None}

    def _as_of_the_newest_date(self, current: pd.DataFrame) -> Mapping[str, pd.Series]:
        """A window's columns without what would have moved anyway since the newest date."""
        if not self._trends or TIME not in current:
            return dict(current.items())
        days = (current[TIME].median() - self.newest[DATE].iloc[0]) / DAY
        moved = {
            name: pd.Series(trend.back(as_the_model_takes_them(current[name]), days), index=current.index)
            for name, trend in self._trends.items()
        }
        return {**dict(current.items()), **moved}

    def _moderated(self) -> dict[tuple[str, Measure], Variation | None]:
        """How much dates vary, of each measure of each column, by what measures of its kind are like."""
        kinds: dict[str, list[tuple[str, Measure]]] = {}
        for name, measures in self._means.items():
            for measure in measures:
                kinds.setdefault(measure.aspect if measure.share else measure.name, []).append((name, measure))
        found: dict[tuple[str, Measure], Variation | None] = {}
        for places in kinds.values():
            seen = [
                variation_of([mean for mean in self._means[name][measure] if mean.rows]) for name, measure in places
            ]
            found |= dict(zip(places, moderated(seen), strict=True))
        return found

    def rows(self, finding: Finding, values: pd.Series) -> NDArray[Any]:
        """What a finding is about, of each row of a window."""
        measured = self._columns[finding.column].rows(values)
        return next(
            rows
            for measure, rows in measured.items()
            if (measure.aspect, measure.name) == (finding.aspect, finding.measure)
        )

    def compare(self, current: pd.DataFrame, rule: Monitoring, distance: Distance | None = None) -> list[Finding]:
        """Compare every input and the score of a window with the newest date.

        Args:
            current: What the model predicted for, the same columns, and TIME, where it is known when; not empty.
            rule: `drift_rule`, `significance` and `min_effect`.
            distance: Computes the distance of two columns of a type; not asked where left out.

        Returns:
            The score's findings first, then those of the inputs in their order.
        """
        then = self._as_of_the_newest_date(current)
        comparisons = [(name, found) for name in self.columns for found in self._compared(name, then[name])]
        plain = rule.drift_rule == "ks_p_value"
        if plain:
            p_values = [self._plain(name, found.aspect, current[name]) for name, found in comparisons]
            corrected, limit, least = p_values, KS_SIGNIFICANCE, 0.0
        else:
            p_values = [found.p_value for _, found in comparisons]
            corrected, limit, least = holm(p_values), rule.significance, rule.min_effect
        findings = []
        for (name, found), p_value, adjusted in zip(comparisons, p_values, corrected, strict=True):
            before, after = self.newest[name], current[name]
            kind = self.columns[name].type
            findings.append(
                Finding(
                    column=name,
                    title=self.titles.get(name, ""),
                    aspect=found.aspect,
                    measure=found.measure.name,
                    test=_test(found, plain, kind),
                    p_value=p_value,
                    corrected_p_value=adjusted,
                    effect=found.effect,
                    distance=distance(before, after, kind) if distance and found.aspect == "values" else None,
                    drifted=adjusted < limit and (plain or abs(found.effect) > least),
                    sentence=_sentence(found, before, after),
                )
            )
        broken = faults(findings, self.newest, current, list(self.columns.values()))
        return [_with_fault(finding, broken.get((finding.column, finding.aspect))) for finding in findings]

    def _compared(self, name: str, values: pd.Series) -> list[_Comparison]:
        window = means_of(self._columns[name].rows(values))
        found: dict[Aspect, list[tuple[Difference, Measure, Mean, Mean]]] = {}
        for measure, every_date in self._means[name].items():
            dates, now = [mean for mean in every_date if mean.rows], window[measure]
            if not dates or now.rows < FEWEST_ROWS:
                continue
            usual = self._variations[name, measure]
            found.setdefault(measure.aspect, []).append(
                (difference(dates, now, measure.share, usual), measure, dates[0], now)
            )
        comparisons = []
        for aspect, differences in found.items():
            # Of equally unlikely differences the larger one is told.
            least, measure, before, after = min(differences, key=lambda item: (item[0].p_value, -abs(item[0].effect)))
            p_value = min(1.0, len(differences) * least.p_value)
            if aspect == "values" or least.p_value < 1:
                comparisons.append(_Comparison(aspect, measure, p_value, least.effect, before, after))
        return comparisons

    def _plain(self, name: str, aspect: Aspect, after: pd.Series) -> float:
        before = self.newest[name]
        if self.columns[name].type == "numeric" and aspect == "values":
            return kolmogorov_smirnov(*(as_the_model_takes_them(column.dropna()) for column in (before, after)))
        if aspect == "missing":
            before, after = (column.isna() | (column == "") for column in (before, after))
        both = pd.concat([named(column).value_counts() for column in (before, after)], axis=1).fillna(0)
        return homogeneity(*both.to_numpy(np.int64).T)


def _test(found: _Comparison, plain: bool, kind: str) -> str:
    if not plain:
        return "prediction interval"
    return "Kolmogorov-Smirnov" if kind == "numeric" and found.aspect == "values" else "chi-square"


def _with_fault(finding: Finding, fault: tuple[Any, str] | None) -> Finding:
    return finding if fault is None else finding.model_copy(update={"fault": fault[0], "sentence": fault[1]})


def _sentence(found: _Comparison, before: pd.Series, after: pd.Series) -> str:
    """From what to what, in the column's own unit."""
    name = found.measure.name
    if found.measure.share:
        return f"{name} {found.before.value:.1%} → {found.after.value:.1%}"
    numbers = [column.dropna().to_numpy(np.float64) for column in (before, after)]
    if name == "spread":
        ends = [f"{low:,.4g} to {high:,.4g}" for low, high in (np.quantile(values, [0.05, 0.95]) for values in numbers)]
        return f"nine tenths of the values lie in {ends[0]} → {ends[1]}"
    medians = [float(np.median(values)) for values in numbers]
    if math.isclose(*medians, rel_tol=0.01):
        return f"mean {numbers[0].mean():,.4g} → {numbers[1].mean():,.4g}"
    return f"median {medians[0]:,.4g} → {medians[1]:,.4g}"
