"""Statistics of scores under row weights: one call for all replicates of a bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.training.decisions import decision_values
from project.training import Costs

Floats = NDArray[np.float64]

# Scores are kept this far from 0 and 1 in the logarithm, as scikit-learn does for float32.
LOG_MARGIN = float(np.finfo(np.float32).eps)
TOP_SHARE = 0.1


class Ranking:
    """Labels ordered by score, equal scores together."""

    def __init__(self, label: NDArray[Any], score: NDArray[Any]) -> None:
        """Order them.

        Args:
            label: 0 or 1, shape (n,).
            score: Shape (n,).
        """
        self.order = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        self.starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        self.label = np.asarray(label, dtype=np.float64)[self.order]

    def groups(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positives and of negatives at each distinct score, highest first, each of shape (b, groups)."""
        ranked = weights[:, self.order]
        positive = ranked * self.label
        total = np.add.reduceat(ranked, self.starts, axis=1)
        positives = np.add.reduceat(positive, self.starts, axis=1)
        return positives, total - positives


def roc_auc(positives: Floats, negatives: Floats) -> Floats:
    """Share of pairs in which the positive has the higher score, an equal score counting half (Mann–Whitney).

    Args:
        positives, negatives: As `Ranking.groups` gives them.

    Returns:
        Shape (b,); no number where a class has no weight.
    """
    outranked = negatives.sum(axis=1, keepdims=True) - np.cumsum(negatives, axis=1) + negatives / 2
    with np.errstate(invalid="ignore"):
        area: Floats = (positives * outranked).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))
    return area


def average_precision(positives: Floats, negatives: Floats) -> Floats:
    """Precision at each distinct score, weighted by the recall it adds (scikit-learn's definition), shape (b,)."""
    true_positives = np.cumsum(positives, axis=1)
    selected = true_positives + np.cumsum(negatives, axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.where(selected > 0, true_positives / selected, 0.0)
        mean: Floats = (positives * precision).sum(axis=1) / positives.sum(axis=1)
    return mean


def lift(positives: Floats, negatives: Floats, share: float = TOP_SHARE) -> Floats:
    """How many times more frequent the event is in the top `share` of the ranking than in all rows, shape (b,).

    Where equal scores straddle the limit each of them counts in part.
    """
    weight = positives + negatives
    total = weight.sum(axis=1, keepdims=True)
    before = np.cumsum(weight, axis=1) - weight
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.clip((share * total - before) / weight, 0, 1)
        caught = np.where(weight > 0, inside * positives, 0).sum(axis=1)
        ratio: Floats = caught / positives.sum(axis=1) / share
    return ratio


class AreaUnderCurve:
    """ROC AUC of one score, as a statistic of weights."""

    def __init__(self, label: NDArray[Any], score: NDArray[Any]) -> None:
        """Order the rows once."""
        self.ranking = Ranking(label, score)

    def __call__(self, weights: Floats) -> Floats:
        """From weights (b, n) to (b,)."""
        return roc_auc(*self.ranking.groups(weights))


class Performance:
    """All figures of one score and threshold, as one statistic of weights with a column for each of `names`."""

    names = (
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "average_precision",
        "brier_score",
        "log_loss",
        "lift_at_10_percent",
        "expected_value_per_1000",
    )

    def __init__(self, label: NDArray[Any], score: NDArray[Any], threshold: float, costs: Costs) -> None:
        """Compute what each row contributes.

        Args:
            label: 0 or 1, shape (n,).
            score: The event's probability, shape (n,).
            threshold: Act from this score on.
            costs: What decisions are worth.
        """
        self.ranking = Ranking(label, score)
        acted = score >= threshold
        event = label == 1
        likely = np.clip(score.astype(np.float64), LOG_MARGIN, 1 - LOG_MARGIN)
        self.rows = np.column_stack(
            [
                acted & event,
                acted & ~event,
                ~acted & event,
                acted == event,
                (score - label.astype(np.float64)) ** 2,
                -np.log(np.where(event, likely, 1 - likely)),
                decision_values(label, acted, costs),
                np.ones(len(label)),
            ]
        ).astype(np.float64)

    def __call__(self, weights: Floats) -> Floats:
        """From weights (b, n) to (b, len(names)); what is undefined is no number."""
        groups = self.ranking.groups(weights)
        caught, false, missed, right, squared, log, worth, total = (weights @ self.rows).T
        with np.errstate(invalid="ignore"):
            columns = {
                "accuracy": right / total,
                "precision": caught / (caught + false),
                "recall": caught / (caught + missed),
                "f1": 2 * caught / (2 * caught + false + missed),
                "roc_auc": roc_auc(*groups),
                "average_precision": average_precision(*groups),
                "brier_score": squared / total,
                "log_loss": log / total,
                "lift_at_10_percent": lift(*groups),
                "expected_value_per_1000": 1000 * worth / total,
            }
        return np.column_stack([columns[name] for name in self.names])
