"""Group fairness of decisions, by Fairlearn, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.titles import slice_title, title_and_name
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.uncertainty.contributions import NORMAL_95, simultaneous

Floats = NDArray[np.float64]

UNKNOWN = "unknown"
# More values of a column than this cannot be looked at one by one.
MOST_GROUPS = 100
OTHERS = "all others"
RATES = {
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
}
COLUMNS = ("rows", "events", "acted on", "low", "high", "ratio", "events found", "others acted on", "judged")
# Between the groups of an intersection's name, and its columns: one that a gate rule's name may hold.
AND = "+"


def examine_fairness(sample: Sample) -> Findings:
    """Decisions by group, for each sensitive column and each pair of them."""
    findings = Findings()
    frame = sample.part.frame
    columns = {name: _named(frame[name], title_and_name(name, sample.titles), findings) for name in sample.sensitive}
    for name, group in columns.items():
        found = GroupFairness(name, group.to_numpy(), sample)
        findings.add(found.describe())
        for group_name in found.judged:
            findings.metrics |= found.rates_of(group_name)
        findings.figures[f"fairness_{name}"] = plots.fairness_plot(found.title, found.groups)
    for first, second in combinations(columns, 2):
        crossed = (columns[first] + AND + columns[second]).to_numpy()
        findings.add(GroupFairness(f"{first}{AND}{second}", crossed, sample).describe())
    return findings


def _named(column: pd.Series, called: str, findings: Findings) -> pd.Series:
    """A column's values as text; more than can be looked at are pooled, and said to be."""
    values = column.astype(object).where(column.notna(), UNKNOWN).astype(str)
    counts = values.value_counts()
    if len(counts) > MOST_GROUPS:
        findings.notes.append(
            f"{called} has {len(counts):,} values: the {MOST_GROUPS} most frequent are groups of their own, all "
            f"others are together in {OTHERS!r}. Let its feature view give bands instead."
        )
        values = values.where(values.isin(counts.index[:MOST_GROUPS]), OTHERS)
    return values


class GroupFairness:
    """The groups of one sensitive column, or of the intersection of two.

    Attributes:
        title: What people call the column, or both.
        groups: For each group: `rows`, `events`, `selection_rate` with `low` and `high`, `true_positive_rate`,
            `false_positive_rate`, `judged`: whether it is large enough.
        judged: The groups that are.
    """

    def __init__(self, name: str, group: NDArray[np.object_], sample: Sample) -> None:
        """Count.

        Args:
            name: Of the column; of an intersection `column+column`.
            group: Of each row, shape (n,).
            sample: The test rows.
        """
        self.name, self.sample = name, sample
        self.title = slice_title(name, sample.titles)
        acted, label = sample.acted, sample.label
        names, self.code = np.unique(group, return_inverse=True)
        counts = len(names)
        rows = np.bincount(self.code, minlength=counts)
        events = np.bincount(self.code, label, counts)
        rates = _rates(names, self.code, label, acted)
        self.smallest = sample.settings.min_group_rows
        self.groups = rates.assign(rows=rows, events=events.astype(int), judged=rows >= self.smallest)
        # Fairlearn gives a rate of nothing as 0; it is not known.
        self.groups.loc[events == 0, "true_positive_rate"] = np.nan
        self.groups.loc[events == rows, "false_positive_rate"] = np.nan
        self.judged = list(self.groups.index[self.groups.judged])
        self.bases = {
            "selection_rate": np.ones(len(label), dtype=bool),
            "true_positive_rate": label == 1,
            "false_positive_rate": label == 0,
        }
        self.variances = {rate: self._covariance(rate) for rate in RATES}
        reach = [self._wilson("selection_rate", at) for at in range(counts)]
        self.groups[["low", "high"]] = np.array(reach)

    def describe(self) -> Findings:
        """The table, the measures over the judged groups, and what could not be judged."""
        findings = Findings()
        highest = self.groups.selection_rate[self.groups.judged].max() if self.judged else np.nan
        findings.table(
            "fairness",
            f"Decisions by {self.title}",
            [self.title, *COLUMNS],
            [
                [
                    name,
                    row.rows,
                    row.events,
                    row.selection_rate,
                    row.low,
                    row.high,
                    row.selection_rate / highest if row.judged and highest else None,
                    row.true_positive_rate,
                    row.false_positive_rate,
                    "yes" if row.judged else "too small",
                ]
                for name, row in self.groups.iterrows()
            ],
        )
        small = self.groups[~self.groups.judged]
        for name, row in [] if AND in self.name else small.iterrows():
            findings.notes.append(
                f"{self._told(name)} has {row.rows:,} rows, fewer than evaluation.min_group_rows "
                f"({self.smallest:,}): it is shown, but neither passes nor fails."
            )
        if AND in self.name and len(small):
            findings.notes.append(
                f"{len(small)} of {len(self.groups)} groups by {self.title} have fewer rows than "
                f"evaluation.min_group_rows ({self.smallest:,}): they are shown, but neither pass nor fail."
            )
        if len(self.judged) < 2:
            reason = "fewer than two of its groups are large enough to judge."
            findings.notes.append(f"Fairness by {self._told()} was not measured: {reason}")
            return findings
        for measure, measured in MEASURES.items():
            metric = measured(self)
            if metric is None:
                findings.notes.append(
                    f"fairness.{measure}.{self.name} is undefined: no group is ever acted on, or one has no events "
                    "or nothing but events."
                )
            else:
                findings.metrics[f"fairness.{measure}.{self.name}"] = metric
        return findings

    def _told(self, group: str = "") -> str:
        """The column, or one of its groups, with what metrics name it beside: the gate looks for that."""
        piece = f"{self.name}={group}" if group else self.name
        title = slice_title(piece, self.sample.titles)
        return piece if title == piece else f"{title} [{piece}]"

    def rates_of(self, group: str) -> dict[str, Metric]:
        """The rates of one group, each with its interval."""
        at = self.groups.index.get_loc(group)
        found = {}
        for rate, base in self.bases.items():
            value = float(self.groups.at[group, rate])
            if np.isfinite(value):
                rows = int(base[self.code == at].sum())
                found[f"fairness.{rate}.{self.name}={group}"] = Metric(value, *self._wilson(rate, at), rows)
        return found

    def difference(self, *rates: str) -> Metric | None:
        """The largest difference of any of these rates between two judged groups, Fairlearn's `between_groups`.

        The interval covers all differences at once, so that it holds for the largest of however many.
        """
        contrasts, covariance, estimates = self._contrasts(rates, logarithm=False)
        if not np.isfinite(estimates).all():
            return None
        deviation = np.sqrt(np.diag(contrasts @ covariance @ contrasts.T))
        gaps = np.abs(contrasts @ estimates)
        critical = simultaneous(gaps / deviation, covariance, self.sample.seed, contrasts).critical
        low, high = (gaps - critical * deviation).max(), (gaps + critical * deviation).max()
        return Metric(float(gaps.max()), max(0.0, float(low)), min(1.0, float(high)), self.judged_rows)

    def ratio(self) -> Metric | None:
        """The lowest share of acted-on rows in a judged group over the highest; 0.8 or more is the four-fifths rule.

        As `difference`, on the logarithm, half a row added to each count (Haldane 1956) so that it always exists.
        """
        rate = self.groups.selection_rate[self.groups.judged]
        if not rate.max():
            return None
        value = float(rate.min() / rate.max())
        contrasts, covariance, estimates = self._contrasts(("selection_rate",), logarithm=True)
        deviation = np.sqrt(np.diag(contrasts @ covariance @ contrasts.T))
        gaps = np.abs(contrasts @ estimates)
        critical = simultaneous(gaps / deviation, covariance, self.sample.seed, contrasts).critical
        low = float(np.exp(-(gaps + critical * deviation).max()))
        high = float(np.exp(-max(0.0, (gaps - critical * deviation).max())))
        return Metric(value, min(low, value), max(high, value), self.judged_rows)

    @property
    def judged_rows(self) -> int:
        """Rows of the groups that are large enough."""
        return int(self.groups.rows[self.groups.judged].sum())

    def _contrasts(self, rates: tuple[str, ...], *, logarithm: bool) -> tuple[NDArray[Any], Floats, Floats]:
        """All pairs of judged groups in each rate: contrasts (pairs, k), covariance (k, k) and estimates (k,)."""
        keep = np.flatnonzero(self.groups.judged)
        size = len(keep)
        pairs = np.zeros((size * (size - 1) // 2, size))
        for row, (first, second) in enumerate(combinations(range(size), 2)):
            pairs[row, first], pairs[row, second] = 1, -1
        count = len(rates)
        contrasts = np.kron(np.eye(count), pairs)
        covariance = np.zeros((count * size, count * size))
        estimates = np.empty(count * size)
        for at, rate in enumerate(rates):
            block = slice(at * size, (at + 1) * size)
            matrix = self.variances[rate][np.ix_(keep, keep)]
            values = self.groups[rate].to_numpy()[keep]
            if logarithm:
                smoothed = self._smoothed(rate)[keep]
                matrix, values = matrix / np.outer(smoothed, smoothed), np.log(smoothed)
            covariance[block, block], estimates[block] = matrix, values
        return contrasts, covariance, estimates

    def _covariance(self, rate: str) -> Floats:
        """Of the groups' rates, rows of an entity together; never less than of as many independent rows."""
        base, groups, entities = self.bases[rate], len(self.groups), self.sample.entities
        size = np.bincount(self.code[base], minlength=groups)
        values = self.groups[rate].to_numpy()
        code, entity = self.code[base], self.sample.entity[base]
        residual = np.nan_to_num((self.sample.acted[base] - values[code]) / size[code])
        sums = csr_array((residual, (entity, code)), shape=(entities, groups))
        covariance: Floats = (sums.T @ sums).toarray()
        smoothed = self._smoothed(rate)
        least = smoothed * (1 - smoothed) / np.maximum(size, 1)
        np.fill_diagonal(covariance, np.maximum(np.diag(covariance), least))
        return covariance

    def _smoothed(self, rate: str) -> Floats:
        base, groups = self.bases[rate], len(self.groups)
        size = np.bincount(self.code[base], minlength=groups)
        acted = np.bincount(self.code[base], self.sample.acted[base], groups)
        shares: Floats = (acted + 0.5) / (size + 1)
        return shares

    def _wilson(self, rate: str, at: int) -> tuple[float, float]:
        """Interval of one group's rate (Wilson 1927), of as many independent rows as would have its variance."""
        share, smoothed = float(self.groups[rate].iloc[at]), float(self._smoothed(rate)[at])
        if not np.isfinite(share):
            return np.nan, np.nan
        return wilson(share, smoothed * (1 - smoothed) / float(self.variances[rate][at, at]))


def _rates(
    names: NDArray[np.object_], code: NDArray[np.int64], label: NDArray[np.int8], acted: NDArray[np.bool_]
) -> pd.DataFrame:
    """Fairlearn's rates by group, from the number of rows of each kind instead of the rows themselves."""
    kinds = np.arange(4 * len(names))
    weights = np.bincount(4 * code + 2 * label + acted, minlength=len(kinds))
    frame = MetricFrame(
        metrics=RATES,
        y_true=kinds // 2 % 2,
        y_pred=kinds % 2,
        sensitive_features=names[kinds // 4],
        sample_params={rate: {"sample_weight": weights} for rate in RATES},
    )
    return frame.by_group


def wilson(share: float, rows: float) -> tuple[float, float]:
    """95% interval of a share of independent rows (Wilson 1927, "Probable inference, the law of succession")."""
    square = NORMAL_95**2 / rows
    centre = (share + square / 2) / (1 + square)
    reach = NORMAL_95 * float(np.sqrt(share * (1 - share) / rows + square / rows / 4)) / (1 + square)
    return min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach))


MEASURES: dict[str, Callable[[GroupFairness], Metric | None]] = {
    "demographic_parity_ratio": GroupFairness.ratio,
    "demographic_parity_difference": lambda found: found.difference("selection_rate"),
    "equalized_odds_difference": lambda found: found.difference("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": lambda found: found.difference("true_positive_rate"),
}
