"""How far predicted probabilities are from what happened."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Bootstrap, Metric, interval

Floats = NDArray[np.float64]

GROUPS = 10


class Reliability:
    """Rows in groups of about equal size by predicted probability; equal scores stay together."""

    def __init__(self, label: NDArray[Any], score: NDArray[Any], groups: int = GROUPS) -> None:
        """Group.

        Args:
            label: 0 or 1, shape (n,).
            score: Predicted probability, shape (n,).
            groups: How many at the most; fewer where scores are equal.
        """
        score = score.astype(np.float64)
        limits = np.unique(np.quantile(score, np.linspace(0, 1, groups + 1)[1:-1]))
        group = np.searchsorted(limits, score, side="left")
        member = group[:, None] == np.unique(group)
        self.rows = np.hstack([member, member * label[:, None], member * score[:, None]]).astype(np.float64)
        self.groups = member.shape[1]

    def means(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Share of weight, observed and mean predicted probability of each group, each of shape (b, groups)."""
        size, events, predicted = np.split(weights @ self.rows, 3, axis=1)
        with np.errstate(invalid="ignore"):
            observed, expected = events / size, predicted / size
        return size / size.sum(axis=1, keepdims=True), observed, expected

    def errors(self, weights: Floats) -> Floats:
        """Expected and maximum calibration error, shape (b, 2)."""
        share, observed, expected = self.means(weights)
        gap = np.abs(observed - expected)
        return np.column_stack([np.nansum(share * gap, axis=1), np.nanmax(gap, axis=1)])


def calibration_errors(reliability: Reliability, bootstrap: Bootstrap) -> dict[str, Metric]:
    """Expected and maximum calibration error over groups of equal mass.

    The mean, weighted by size, and the largest of the groups' gaps between predicted and observed frequency (Naeini,
    Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning"), in groups of equal
    mass, which are steadier than of equal width (Nixon et al. 2019, "Measuring calibration in deep learning"). An
    absolute value grows by resampling, so that the interval is the basic one.
    """
    rows = len(reliability.rows)
    expected, largest = reliability.errors(np.ones((1, rows)))[0]
    replicates = bootstrap.replicate(reliability.errors)
    return {
        "calibration.expected_calibration_error": interval(float(expected), replicates[:, 0], rows, basic=True),
        "calibration.maximum_calibration_error": interval(float(largest), replicates[:, 1], rows, basic=True),
    }
