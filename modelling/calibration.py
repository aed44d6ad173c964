"""From a model's raw score to a probability: fitted after training, plain numbers, the same in NumPy and in ONNX."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kfp_lifecycle.artifacts.model import CalibrationRecord
from kfp_lifecycle.config.training import Calibration as Method

Floats = NDArray[np.float64]

# Raw scores are kept this far from 0 and 1, where their logarithm would lose what float32 holds.
SCORE_MARGIN = 1e-5
# Isotonic calibration is fitted on means of this many equal groups: steps between single rows would be noise, and too
# steep for float32.
ISOTONIC_GROUPS = 50


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        method: How it was fitted.
        slope, intercept: `sigmoid`: probability = logistic(slope · logit(score) + intercept).
        knots: `isotonic`: scores and probabilities, both rising; the probability is linear between two knots and
            constant outside.
    """

    method: Method
    slope: float = 1.0
    intercept: float = 0.0
    knots: list[tuple[float, float]] = field(default_factory=list)

    def apply(self, score: NDArray[Any]) -> Floats:
        """Probabilities for raw scores in [0, 1], shape (n,)."""
        score = np.asarray(score, dtype=np.float64)
        if self.method is Method.sigmoid:
            probability: Floats = 1 / (1 + np.exp(-(self.slope * _logit(score) + self.intercept)))
            return probability
        if self.method is Method.isotonic:
            knots = np.array(self.knots)
            interpolated: Floats = np.interp(score, knots[:, 0], knots[:, 1])
            return interpolated
        return score

    def describe(self) -> CalibrationRecord:
        """For the model's description."""
        return CalibrationRecord(method=self.method, slope=self.slope, intercept=self.intercept, knots=self.knots)

    @classmethod
    def of(cls, record: CalibrationRecord) -> Calibration:
        """The calibration that `describe` gave."""
        return cls(record.method, record.slope, record.intercept, record.knots)


def fit_calibration(
    method: Method, score: NDArray[Any], label: NDArray[np.int8], weight: Floats | None = None
) -> Calibration:
    """Fit on rows that the model was not trained on.

    `sigmoid` is logistic regression on the score's logit (Platt 1999, "Probabilistic outputs for support vector
    machines", on the log-odds); `isotonic` is isotonic regression (Zadrozny and Elkan 2002, "Transforming classifier
    scores into accurate multiclass probability estimates") on equal-mass groups.

    Args:
        method: Which.
        score: Raw probabilities of the event, shape (n,).
        label: 0 or 1, shape (n,), both present.
        weight: What each row counts, shape (n,), above 0; all the same by default.
    """
    score = np.asarray(score, dtype=np.float64)
    # The size of weights says nothing, only what they are to each other.
    weight = np.ones(len(score)) if weight is None else weight / weight.mean()
    if method is Method.sigmoid:
        fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(
            _logit(score)[:, None], label, sample_weight=weight
        )
        return Calibration(method, slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))
    if method is Method.isotonic:
        groups = np.array_split(np.argsort(score, kind="stable"), min(ISOTONIC_GROUPS, len(score)))
        means = np.array(
            [
                (*(np.average(of[rows], weights=weight[rows]) for of in (score, label)), weight[rows].sum())
                for rows in groups
            ]
        )
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(means[:, 0], means[:, 1], sample_weight=means[:, 2])
        # float32 is what the exported model holds; two knots that it cannot tell apart would be a division by zero.
        x, first = np.unique(np.float32(fitted.X_thresholds_), return_index=True)
        return Calibration(method, knots=list(zip(map(float, x), map(float, fitted.y_thresholds_[first]), strict=True)))
    return Calibration(method)


def _logit(score: Floats) -> Floats:
    bounded = np.clip(score, SCORE_MARGIN, 1 - SCORE_MARGIN)
    return np.log(bounded) - np.log1p(-bounded)
