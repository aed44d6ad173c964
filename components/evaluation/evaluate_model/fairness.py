"""Whether decisions differ between groups of people, by Fairlearn, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from numpy.typing import NDArray

from components.evaluation.bootstrap import Bootstrap, Metric, interval

Floats = NDArray[np.float64]

UNKNOWN = "unknown"
MEASURES = {
    "demographic_parity_ratio": demographic_parity_ratio,
    "demographic_parity_difference": demographic_parity_difference,
    "equalized_odds_difference": equalized_odds_difference,
    "equal_opportunity_difference": equal_opportunity_difference,
}


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
    rates = {
        "selection_rate": selection_rate,
        "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate,
    }
    frame = MetricFrame(metrics=rates, y_true=label, y_pred=acted.astype(int), sensitive_features=group)
    sizes = pd.Series(group).value_counts()
    groups = frame.by_group.assign(rows=sizes, judged=sizes >= smallest_group)
    notes = [
        f"{column}={name} has {row.rows:,} rows, fewer than evaluation.smallest_group ({smallest_group:,}): it is shown, "
        "but neither passes nor fails."
        for name, row in groups.iterrows()
        if not row.judged
    ]
    judged = groups.index[groups.judged]
    if len(judged) < 2:
        notes.append(f"Fairness by {column} was not measured: fewer than two of its groups are large enough to judge.")
        return GroupFairness(column, groups, {}, notes)
    rows = np.flatnonzero(np.isin(group, judged))
    replicates = bootstrap.replicate(_Disparity(group[rows], label[rows], acted[rows]), rows)
    metrics = {}
    for position, (name, measure) in enumerate(MEASURES.items()):
        value = float(measure(label[rows], acted[rows].astype(int), sensitive_features=group[rows]))
        if np.isfinite(value):
            metrics[f"fairness.{name}.{column}"] = interval(value, replicates[:, position], len(rows))
        else:
            notes.append(f"fairness.{name}.{column} is undefined: no group is ever acted on.")
    return GroupFairness(column, groups, metrics, notes)


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
