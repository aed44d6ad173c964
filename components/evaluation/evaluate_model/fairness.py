"""Whether decisions differ between groups of people, by Fairlearn, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from numpy.typing import NDArray

from components.evaluation.bootstrap import Bootstrap, Metric, interval

Floats = NDArray[np.float64]

UNKNOWN = "unknown"
RATES = {
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
}
MEASURES = (
    "demographic_parity_ratio",
    "demographic_parity_difference",
    "equalized_odds_difference",
    "equal_opportunity_difference",
)


@dataclass(frozen=True)
class GroupFairness:
    """One sensitive column.

    Attributes:
        column: Its name.
        groups: For each group: `rows`, `selection_rate`, `true_positive_rate`, `false_positive_rate`, `judged`.
        metrics: Measured over the judged groups.
        notes: What could not be measured, and why.
    """

    column: str
    groups: pd.DataFrame
    metrics: dict[str, Metric]
    notes: list[str]


def group_fairness(
    column: str,
    values: pd.Series,
    label: NDArray[Any],
    acted: NDArray[np.bool_],
    bootstrap: Bootstrap,
    smallest_group: int,
) -> GroupFairness:
    """Compare the groups of one sensitive column.

    Args:
        column: Its name.
        values: Its values, shape (n,); a missing one is a group of its own.
        label: 0 or 1, shape (n,).
        acted: The decisions, shape (n,).
        bootstrap: Of the same rows.
        smallest_group: A group with fewer rows is shown, named in the notes, and left out of the measures.
    """
    group = values.astype(object).where(values.notna(), UNKNOWN).astype(str).to_numpy()
    frame = _rates(group, label, acted)
    sizes = pd.Series(group).value_counts()
    groups = frame.by_group.assign(rows=sizes, judged=sizes >= smallest_group)
    notes = [
        f"{column}={name} has {row.rows:,} rows, fewer than evaluation.smallest_group ({smallest_group:,}): it is "
        "shown, but neither passes nor fails."
        for name, row in groups.iterrows()
        if not row.judged
    ]
    judged = groups.index[groups.judged]
    if len(judged) < 2:
        notes.append(f"Fairness by {column} was not measured: fewer than two of its groups are large enough to judge.")
        return GroupFairness(column, groups, {}, notes)
    rows = np.flatnonzero(np.isin(group, judged))
    replicates = bootstrap.replicate(_Disparity(group[rows], label[rows], acted[rows]), rows)
    judged_rates = _rates(group[rows], label[rows], acted[rows])
    metrics = {}
    for position, (name, value) in enumerate(zip(MEASURES, _measures(judged_rates), strict=True)):
        if np.isfinite(value):
            metrics[f"fairness.{name}.{column}"] = interval(value, replicates[:, position], len(rows))
        else:
            notes.append(f"fairness.{name}.{column} is undefined: no group is ever acted on.")
    return GroupFairness(column, groups, metrics, notes)


def _rates(group: NDArray[Any], label: NDArray[Any], acted: NDArray[np.bool_]) -> MetricFrame:
    return MetricFrame(metrics=RATES, y_true=label, y_pred=acted.astype(int), sensitive_features=group)


def _measures(rates: MetricFrame) -> tuple[float, ...]:
    """Fairlearn's four measures, in the order of `MEASURES`, from one pass over the rows."""
    difference, ratio = rates.difference(method="between_groups"), rates.ratio(method="between_groups")
    opportunity = float(difference.true_positive_rate)
    odds = max(opportunity, float(difference.false_positive_rate))
    return float(ratio.selection_rate), float(difference.selection_rate), odds, opportunity


class _Disparity:
    """Fairlearn's measures as one statistic of weights, in the order of `MEASURES`."""

    def __init__(self, group: NDArray[Any], label: NDArray[Any], acted: NDArray[np.bool_]) -> None:
        member = group[:, None] == np.unique(group)
        event, action = (label == 1)[:, None], acted[:, None]
        kinds = [member, member & action, member & event, member & event & action]
        self.rows = np.hstack(kinds).astype(np.float64)

    def __call__(self, weights: Floats) -> Floats:
        size, acted, events, caught = np.split(weights @ self.rows, 4, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            selected, true, false = acted / size, caught / events, (acted - caught) / (size - events)
            ratio = selected.min(axis=1) / selected.max(axis=1)
        opportunity = np.ptp(true, axis=1)
        odds = np.maximum(opportunity, np.ptp(false, axis=1))
        return np.column_stack([ratio, np.ptp(selected, axis=1), odds, opportunity])
