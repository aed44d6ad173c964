"""Decision theory: what decisions are worth, and the threshold from which on it pays to act."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.config.training import Calibration, Costs, ThresholdRule, Training


def decision_values(label: NDArray[Any], acted: NDArray[np.bool_], costs: Costs) -> NDArray[np.float64]:
    """What each decision is worth against never acting, in the project's currency, shape (n,).

    An action costs `action` and, where the event would have come, prevents it with probability `success_rate`, which
    is worth `saved` (the cost matrix of Elkan 2001, "The foundations of cost-sensitive learning").
    """
    return np.where(acted, label * costs.success_rate * costs.saved - costs.action, 0.0)


def break_even(costs: Costs) -> float:
    """The event's probability from which on acting pays: action / (success_rate · saved), above 0; infinite where no
    action ever prevents anything (the optimal threshold of a calibrated score: Elkan 2001, "The foundations of
    cost-sensitive learning", equation 2)."""
    prevented = costs.success_rate * costs.saved
    return costs.action / prevented if prevented else float("inf")


def costs_suffice(training: Training) -> bool:
    """Whether the threshold follows from costs alone, so that no row sets it."""
    return training.threshold.by is ThresholdRule.cost and training.calibration is not Calibration.none


def decision_threshold(label: NDArray[Any], score: NDArray[np.float32], training: Training) -> float:
    """The score from which on to act, by `training.threshold.by`.

    A calibrated score is a probability, so that costs alone say from where acting pays (`break_even`): what the best
    threshold of a sample adds to that is the sample's noise. Any other rule, and scores that nobody calibrated, take
    the best of these rows (`best_threshold`).

    Args:
        label: 0 or 1, shape (n,), both present; rows that calibrated nothing.
        score: The served score, shape (n,), in [0, 1].
        training: The rule, the costs, and whether scores are calibrated.

    Returns:
        A threshold in [0, 1] for `score >= threshold`; 1 where acting never pays.
    """
    if costs_suffice(training):
        return min(break_even(training.costs), 1.0)
    return best_threshold(label, score, training.threshold.by, training.costs)


def best_threshold(label: NDArray[Any], score: NDArray[np.float32], rule: ThresholdRule, costs: Costs) -> float:
    """The score from which on acting is best in these rows, whatever scores mean.

    Args:
        label: 0 or 1, shape (n,), both present.
        score: The served score, shape (n,), in [0, 1].
        rule: What is best: the worth of all decisions (`decision_values`), F1 = 2·TP / (2·TP + FP + FN) (van
            Rijsbergen 1979, "Information retrieval"), or balanced accuracy, the mean of sensitivity and specificity
            (its maximum is Youden's index, 1950, "Index for rating diagnostic tests").
        costs: What decisions are worth.

    Returns:
        A threshold in [0, 1] for `score >= threshold`, half way between two scores that occur; 1 where acting never
        pays.
    """
    order = np.argsort(-score, kind="stable")
    ranked, events = score[order].astype(np.float64), label[order].astype(np.float64)
    found, acted, all_events = np.cumsum(events), np.arange(1, len(order) + 1), events.sum()
    if rule is ThresholdRule.cost:
        worth = np.cumsum(decision_values(events, np.ones(len(order), dtype=bool), costs))
    elif rule is ThresholdRule.f1:
        worth = 2 * found / (acted + all_events)
    else:
        specificity = 1 - (acted - found) / (len(order) - all_events)
        worth = (found / all_events + specificity) / 2
    # Equal scores are acted on together.
    last_of_equals = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    best = last_of_equals[np.argmax(worth[last_of_equals])]
    if worth[best] <= 0:
        return 1.0
    following = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + following) / 2)
