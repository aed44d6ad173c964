"""Weighted classification metrics: one call for many replicates of a bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.decisions import decision_values
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap

Floats = NDArray[np.float64]

# Scores are kept this far from 0 and 1 in the logarithm, as scikit-learn does for float32.
LOG_MARGIN = float(np.finfo(np.float32).eps)
TOP_PERCENTS = (5, 10, 20)


class Ranking:
    """Labels ordered by score, equal scores together."""

    def __init__(self, label: NDArray[Any], score: NDArray[Any]) -> None:
        """Order them.

        Args:
            label: 0 or 1, shape (n,).
            score: Shape (n,).
        """
        self.order: NDArray[np.int64] = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        # Where each group of equal scores ends.
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        self.label = np.asarray(label, dtype=np.float64)[self.order]

    def figures(self, ranked: Floats) -> Floats:
        """ROC AUC, average precision and the lift of each of `TOP_PERCENTS`.

        ROC AUC is the share of pairs in which the positive has the higher score, an equal score counting half
        (Mann-Whitney). Average precision is the precision at each distinct score, weighted by the recall that it adds
        (scikit-learn's definition). Lift is how many times more frequent the event is in the top of the ranking than in
        all rows; where equal scores straddle the limit each of them counts in part.

        Args:
            ranked: Weights of the rows in the order of this ranking, shape (b, n).

        Returns:
            Shape (b, 2 + len(TOP_PERCENTS)); no number where a class has no weight.
        """
        found, selected = np.cumsum(ranked * self.label, axis=1), np.cumsum(ranked, axis=1)
        if len(self.ends) < len(self.label):
            found, selected = found[:, self.ends], selected[:, self.ends]
        positives, weight = (np.diff(values, axis=1, prepend=0) for values in (found, selected))
        events, total = found[:, -1:], selected[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(selected > 0, found / selected, 0.0)
            average_precision = (positives * precision).sum(axis=1) / events[:, 0]
            # Pairs that a positive loses: the negatives ranked above it, and half of those beside it.
            negatives = weight - positives
            lost = (positives * (selected - found - negatives / 2)).sum(axis=1)
            auc = 1 - lost / (events * (total - events))[:, 0]
            lifts = []
            for percent in TOP_PERCENTS:
                limit = percent / 100 * total
                # The group that the limit falls into counts in part.
                at = np.minimum((selected < limit).sum(axis=1, keepdims=True), selected.shape[1] - 1)
                of_group = [np.take_along_axis(values, at, axis=1) for values in (found, selected, positives, weight)]
                found_at, selected_at, positives_at, weight_at = of_group
                caught = found_at - positives_at * np.clip((selected_at - limit) / weight_at, 0, 1)
                lifts.append((caught / events * 100 / percent)[:, 0])
        return np.column_stack([auc, average_precision, *lifts])


class Performance:
    """All figures of one score and threshold, as one statistic of weights with a column for each of `names`."""

    decision_names = ("accuracy", "precision", "recall", "f1", "expected_value_per_1000", "brier_score", "log_loss")
    ranking_names = ("roc_auc", "average_precision", *(f"lift_at_{percent}_percent" for percent in TOP_PERCENTS))
    names = (*decision_names, *ranking_names)

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
                decision_values(label, acted, costs),
                (score - label.astype(np.float64)) ** 2,
                -np.log(np.where(event, likely, 1 - likely)),
                np.ones(len(label)),
            ]
        ).astype(np.float64)

    def __call__(self, weights: Floats) -> Floats:
        """From weights (b, n) to (b, len(names)); what is undefined is no number."""
        return np.hstack([self._decisions(weights @ self.rows), self.ranking.figures(weights[:, self.ranking.order])])

    def replicate(self, bootstrap: Bootstrap) -> Floats:
        """As `bootstrap.replicate(self)`, quicker: shape (replicates, len(names))."""
        return np.hstack([self.replicate_decisions(bootstrap), self.replicate_ranking(bootstrap)])

    def replicate_decisions(self, bootstrap: Bootstrap) -> Floats:
        """The figures of `decision_names` alone, which need no order of the rows: shape (replicates, their number)."""
        return self._decisions(bootstrap.totals(self.rows))

    def replicate_ranking(self, bootstrap: Bootstrap) -> Floats:
        """The figures of `ranking_names` alone: shape (replicates, their number)."""
        return bootstrap.replicate(self.ranking.figures, self.ranking.order)

    @staticmethod
    def _decisions(totals: Floats) -> Floats:
        caught, false, missed, right, worth, squared, log, total = totals.T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns = [
                right / total,
                caught / (caught + false),
                caught / (caught + missed),
                2 * caught / (2 * caught + false + missed),
                1000 * worth / total,
                squared / total,
                log / total,
            ]
        return np.column_stack(columns)
