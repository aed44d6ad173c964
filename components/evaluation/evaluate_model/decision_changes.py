"""Counterfactual explanations: the smallest realistic change of what a customer controls that turns a decision."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.titles import Titles, title_of
from kfp_lifecycle.components.evaluation.evaluate_model.fairness import wilson
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.modelling.scoring import Feed
from kfp_lifecycle.runtime.contract import ContractViolation

Floats = NDArray[np.float64]

# Decisions that are searched, half of either kind where there are as many.
SEARCHED = 100
# Values of a number that are tried: these quantiles of the training rows.
QUANTILES = np.linspace(0.05, 0.95, 10)
MOST_CATEGORIES = 8
# A change of so many of the training rows' ranks, such as from the median to the 60th percentile, is a small one.
SMALL = 0.1
# Where numbers are unknown their rank is taken for the middle.
UNKNOWN_RANK = 0.5
TOLD = 5


@dataclass(frozen=True)
class Change:
    """One thing to try on every decision: other values for one or two features.

    Attributes:
        values: By feature.
        ranks: Of the numbers among them, their rank in the training rows, 0 to 1.
    """

    values: dict[str, Any]
    ranks: dict[str, float]


def examine_decision_changes(sample: Sample, train: pd.DataFrame) -> Findings:
    """Search each decision for the nearest values of one or two actionable features that turn it.

    Exhaustive over a grid of values that training rows have: quantiles of a number, the most frequent categories. How
    far a change goes is Gower's distance (1971, "A general coefficient of similarity and some of its properties"),
    summed over the features: for a number the difference of ranks in the training rows, 0 to 1, for a category 1. The
    question is that of counterfactual explanations (Wachter, Mittelstadt and Russell 2018).

    Args:
        sample: The test rows.
        train: The model's inputs in training: what is realistic.

    Raises:
        ContractViolation: `evaluation.actionable` names a feature that the model does not have.
    """
    findings = Findings()
    actionable = sample.settings.actionable
    check_names(actionable, list(sample.features))
    if not actionable:
        findings.notes.append(
            "robustness.decisions_changed_by_little was not measured: evaluation.actionable names no feature that a "
            "customer controls."
        )
        return findings
    rows = chosen_rows(sample)
    feed = {name: values[rows] for name, values in sample.scorer.feed(sample.part.features).items()}
    changes = possible_changes(sample, train)
    distance = distances(feed, changes, train)
    changed = decisions(sample, feed, changes) != sample.acted[rows][:, None]
    distance = np.where(changed & (distance > 0), distance, np.inf)
    nearest, reach = distance.argmin(axis=1), distance.min(axis=1)
    found = np.isfinite(reach)
    little = int((reach <= SMALL).sum())
    for name, count in (("decisions_changed_by_little", little), ("decisions_changed", int(found.sum()))):
        share = count / len(rows)
        findings.metrics[f"robustness.{name}"] = Metric(share, *wilson(share, len(rows)), len(rows))
    findings.notes.append(
        f"Of {len(rows)} decisions, {little} change when up to two of "
        f"{', '.join(title_of(name, sample.titles) for name in actionable)} move by {SMALL:.0%} of the training rows "
        f"or less, and {int(found.sum())} by any change within the training rows' range."
    )
    near = [at for at in np.argsort(reach, kind="stable") if found[at]][:TOLD]
    findings.table(
        "robustness",
        "The smallest changes that turn a decision",
        ["score", "decision", "change", "distance"],
        [
            [
                float(sample.score[rows[at]]),
                "acted on" if sample.acted[rows[at]] else "left alone",
                _told({name: feed[name][at, 0] for name in feed}, changes[nearest[at]], sample.titles),
                float(reach[at]),
            ]
            for at in near
        ],
    )
    return findings


def check_names(actionable: list[str], known: list[str]) -> None:
    """Refuse names of no feature.

    Raises:
        ContractViolation: there is one.
    """
    for name in actionable:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else f" There are {', '.join(known)}."
            raise ContractViolation(f"evaluation.actionable: the model has no feature {name}.{meant}")


def chosen_rows(sample: Sample) -> NDArray[np.int64]:
    """Positions of the decisions to search: half of them acted on, half left alone, as far as there are."""
    order = np.random.default_rng(sample.seed).permutation(sample.rows)
    acted, left = order[sample.acted[order]], order[~sample.acted[order]]
    half = SEARCHED // 2
    wanted = max(half, SEARCHED - len(left)), max(half, SEARCHED - len(acted))
    return np.sort(np.concatenate([acted[: wanted[0]], left[: wanted[1]]]))


def possible_changes(sample: Sample, train: pd.DataFrame) -> list[Change]:
    """Every change of one actionable feature, and every pair of them."""
    single: dict[str, list[Change]] = {}
    for name in sample.settings.actionable:
        column = train[name]
        if sample.features[name] == "numeric":
            known = column.dropna().to_numpy()
            values = np.unique(np.quantile(known, QUANTILES, method="nearest")) if len(known) else known
            single[name] = [Change({name: value}, {name: float(_rank(column, value))}) for value in values]
        else:
            frequent = column[column != ""].value_counts().index[:MOST_CATEGORIES]
            single[name] = [Change({name: value}, {}) for value in frequent]
    changes = [change for of_feature in single.values() for change in of_feature]
    for first, second in combinations(single, 2):
        changes += [
            Change({**one.values, **other.values}, {**one.ranks, **other.ranks})
            for one, other in product(single[first], single[second])
        ]
    return changes


def distances(feed: Feed, changes: list[Change], train: pd.DataFrame) -> Floats:
    """How far each change is from each row, shape (rows, changes)."""
    rows = len(next(iter(feed.values())))
    distance = np.zeros((rows, len(changes)))
    ranks: dict[str, Floats] = {}
    for at, change in enumerate(changes):
        for name, value in change.values.items():
            if name not in change.ranks:
                distance[:, at] += feed[name][:, 0] != value
                continue
            if name not in ranks:
                ranks[name] = _rank(train[name], feed[name][:, 0])
            distance[:, at] += np.abs(ranks[name] - change.ranks[name])
    return distance


def decisions(sample: Sample, feed: Feed, changes: list[Change]) -> NDArray[np.bool_]:
    """What is decided of each row after each change, shape (rows, changes)."""
    rows = len(next(iter(feed.values())))
    # Rows vary slowest: the changes of the first row, then those of the second.
    tried = {name: np.repeat(values, len(changes), axis=0) for name, values in feed.items()}
    for at, change in enumerate(changes):
        for name, value in change.values.items():
            tried[name][at :: len(changes)] = value
    return (sample.scorer.run(tried) >= sample.threshold).reshape(rows, len(changes))


def _rank(column: pd.Series, values: Any) -> Any:
    """Share of the known training values below each value, equal ones counting half; the middle where unknown."""
    known = np.sort(column.dropna().to_numpy(dtype=np.float64))
    values = np.asarray(values, dtype=np.float64)
    ends = np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
    return np.where(np.isnan(values), UNKNOWN_RANK, ends / (2 * max(len(known), 1)))


def _told(row: dict[str, Any], change: Change, titles: Titles) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, str):
            return value or "missing"
        return "missing" if np.isnan(value) else f"{value:.4g}"

    parts = [f"{title_of(name, titles)} {shown(row[name])} to {shown(value)}" for name, value in change.values.items()]
    return ", ".join(parts)
