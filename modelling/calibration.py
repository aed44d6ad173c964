"""Probability calibration (Platt scaling, isotonic regression): plain numbers, the same in NumPy and in ONNX."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from kfp_lifecycle.artifacts.model import CalibrationRecord
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.runtime.contract import ContractViolation

Floats = NDArray[np.float64]

# Raw scores are kept this far from 0 and 1, where their log-odds have no end.
SCORE_MARGIN = 1e-5
# Isotonic calibration is fitted on means of this many equal groups: steps between single rows would be noise.
ISOTONIC_GROUPS = 50
# Two groups whose mean scores are nearer than this share of themselves count as one: what the trees of a served model
# add up is rounded to 6e-8 of itself, and the step between them would be a thousand times as steep at the most.
NARROWEST_GROUP = 1e-3
MOST_STEPS, GRADIENT_NEARLY_ZERO = 100, 1e-12


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        method: How it was fitted.
        slope, intercept: `sigmoid`: probability = logistic(slope · logit(score) + intercept).
        knots: `isotonic`: scores and probabilities, both rising; the probability is linear between two knots and
            constant outside.
        hazard_ratio: So many times as many events come, by which any method is followed: 1 - (1 - p)^hazard_ratio
            (proportional hazards: Cox 1972, "Regression models and life-tables"); what ranks stays.
        absence: The label is that no event comes: then p^hazard_ratio.
    """

    method: Method
    slope: float = 1.0
    intercept: float = 0.0
    knots: list[tuple[float, float]] = field(default_factory=list)
    hazard_ratio: float = 1.0
    absence: bool = False

    def apply(self, score: NDArray[Any]) -> Floats:
        """Probabilities for raw scores in [0, 1], shape (n,)."""
        probability: Floats = np.asarray(score, dtype=np.float64)
        if self.method is Method.sigmoid:
            probability = _logistic(self.slope * _logit(probability) + self.intercept)
        elif self.method is Method.isotonic:
            knots = np.array(self.knots)
            probability = np.interp(probability, knots[:, 0], knots[:, 1])
        if self.hazard_ratio == 1:
            return probability
        if self.absence:
            return probability**self.hazard_ratio
        return 1 - (1 - probability) ** self.hazard_ratio

    def with_events(self, hazard_ratio: float, absence: bool) -> Calibration:
        """The same where so many times as many events come; one after the other the ratios multiply."""
        if hazard_ratio == 1:
            return self
        return replace(self, hazard_ratio=self.hazard_ratio * hazard_ratio, absence=absence)

    def describe(self) -> CalibrationRecord:
        """For the model's description."""
        return CalibrationRecord(**asdict(self))

    @classmethod
    def of(cls, record: CalibrationRecord) -> Calibration:
        """The calibration that `describe` gave."""
        return cls(**dict(record))


def fit_calibration(
    method: Method, score: NDArray[Any], label: NDArray[np.int8], weight: Floats | None = None
) -> Calibration:
    """Fit on rows that the model was not trained on.

    `sigmoid` is `fit_platt` on the score's log-odds; `isotonic` is isotonic regression (Zadrozny and Elkan 2002,
    "Transforming classifier scores into accurate multiclass probability estimates") on equal-mass groups.

    Args:
        method: Which.
        score: Raw probabilities of the event, shape (n,).
        label: 0 or 1, shape (n,), both present.
        weight: What each row counts, shape (n,), above 0; all the same by default.

    Raises:
        ContractViolation: higher scores go with fewer events, so that `sigmoid` would turn the ranking round.
    """
    score = np.asarray(score, dtype=np.float64)
    # The size of weights says nothing, only what they are to each other.
    weight = np.ones(len(score)) if weight is None else weight / weight.mean()
    if method is Method.sigmoid:
        slope, intercept = fit_platt(_logit(score), label, weight)
        if slope <= 0:
            raise ContractViolation(
                f"training.calibration: on the {len(label):,} calibration rows, {int(label.sum()):,} of them events, "
                f"higher scores go with fewer events (slope {slope:.3g}); a calibration that turned the ranking round "
                "would hide that. The model ranks no better than chance there: give it better features or more rows. "
                "In a split by time the calibration snapshots may be of another kind than those trained on: see to the "
                "newest validation snapshots."
            )
        return Calibration(method, slope=slope, intercept=intercept)
    if method is Method.isotonic:
        means = _group_means(score, label, weight)
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(means[:, 0], means[:, 1], sample_weight=means[:, 2])
        knots = np.column_stack([fitted.X_thresholds_, fitted.y_thresholds_]).tolist()
        return Calibration(method, knots=[(score, probability) for score, probability in knots])
    return Calibration(method)


def fit_platt(logit: Floats, label: NDArray[np.int8], weight: Floats) -> tuple[float, float]:
    """Platt scaling that holds at small samples: slope and intercept.

    Platt 1999, "Probabilistic outputs for support vector machines": the targets are not 1 and 0 but (N₊ + 1) / (N₊ + 2)
    and 1 / (N₋ + 2), the means of what rows of each class say under a uniform prior, so that separated classes give a
    finite slope. N is the number of rows of the class or, where they count differently, their effective number
    (Kish 1965, "Survey sampling"). The targets draw the mean towards a half; so the intercept is then set anew, for the
    mean probability to be the share of events, as Puhr et al. 2017 ("Firth's logistic regression with rare events") do.

    Args:
        logit: Log-odds of the scores, shape (n,).
        label: 0 or 1, shape (n,), both present.
        weight: What each row counts, shape (n,), 1 on average.
    """
    event = label == 1
    effective = [weight[rows].sum() ** 2 / (weight[rows] ** 2).sum() for rows in (event, ~event)]
    target = np.where(event, (effective[0] + 1) / (effective[0] + 2), 1 / (effective[1] + 2))
    spread = float(np.ptp(logit))
    # One score for all rows has no slope.
    slope = maximum_likelihood(logit, target, weight)[0] if spread > 0 else 1.0
    return slope, _level(slope * logit, label, weight)


def maximum_likelihood(logit: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Slope and intercept of a weighted logistic regression on one variable, by Newton's method.

    Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs for support vector machines": steps are halved
    until the likelihood rises, so that it converges from anywhere.

    Args:
        logit: The variable, shape (n,), not all the same.
        target: Between 0 and 1, shape (n,).
        weight: Of each row, shape (n,).
    """
    centre = float(np.average(logit, weights=weight))
    inputs = np.column_stack([logit - centre, np.ones(len(logit))])

    def loss(parameters: Floats) -> float:
        value = inputs @ parameters
        return float((weight * (np.logaddexp(0, value) - target * value)).sum())

    parameters, reached = np.zeros(2), np.inf
    reached = loss(parameters)
    for _ in range(MOST_STEPS):
        probability = _logistic(inputs @ parameters)
        gradient = inputs.T @ (weight * (probability - target))
        if np.abs(gradient).max() < GRADIENT_NEARLY_ZERO * weight.sum():
            break
        curvature = weight * np.maximum(probability * (1 - probability), 1e-12)
        step = np.linalg.solve((inputs * curvature[:, None]).T @ inputs, gradient)
        size = 1.0
        while (found := loss(parameters - size * step)) > reached and size > 1e-10:
            size /= 2
        parameters, reached = parameters - size * step, found
    return float(parameters[0]), float(parameters[1] - parameters[0] * centre)


def _level(value: Floats, label: NDArray[np.int8], weight: Floats) -> float:
    """What to add to log-odds for their mean probability to be the share of events."""
    wanted = float(np.average(label, weights=weight))
    low, high = -float(value.max()) - 40, -float(value.min()) + 40
    for _ in range(200):
        middle = (low + high) / 2
        if float(np.average(_logistic(value + middle), weights=weight)) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _group_means(score: Floats, label: NDArray[np.int8], weight: Floats) -> Floats:
    """Mean score, share of events and weight of groups of rows, shape (groups, 3), scores rising by more than
    `NARROWEST_GROUP` of themselves from one to the next."""
    groups = np.array_split(np.argsort(score, kind="stable"), min(ISOTONIC_GROUPS, len(score)))
    sums = np.array([[(weight * of)[rows].sum() for of in (score, label, np.ones(len(score)))] for rows in groups])
    joined = [sums[0]]
    for group in sums[1:]:
        before, now = joined[-1][0] / joined[-1][2], group[0] / group[2]
        if now - before <= NARROWEST_GROUP * now:
            joined[-1] = joined[-1] + group
        else:
            joined.append(group)
    together = np.array(joined)
    return np.column_stack([together[:, :2] / together[:, 2:], together[:, 2]])


def _logistic(value: Floats) -> Floats:
    probability: Floats = expit(value)
    return probability


def _logit(score: Floats) -> Floats:
    bounded = np.clip(score, SCORE_MARGIN, 1 - SCORE_MARGIN)
    return np.log(bounded) - np.log1p(-bounded)
