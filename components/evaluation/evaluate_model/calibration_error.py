"""Calibration error: how far predicted probabilities are from what happened."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, entity_sums, interval
from kfp_lifecycle.uncertainty.contributions import NORMAL_95, normal_interval

Floats = NDArray[np.float64]

GROUPS = 10
# As near to 0 and 1 as a logarithm of float32 scores goes.
MARGIN = float(np.finfo(np.float32).eps)
# A regression whose information matrix is worse conditioned than this has no solution worth telling.
LARGEST_CONDITION = 1e10


class Reliability:
    """Rows in groups by predicted probability; equal scores stay together."""

    def __init__(self, label: NDArray[Any], score: NDArray[Any], *, width: bool = False, groups: int = GROUPS) -> None:
        """Group.

        Args:
            label: 0 or 1, shape (n,).
            score: Predicted probability, shape (n,).
            width: Groups of equal width from 0 to 1, else of about equal size.
            groups: How many at the most; fewer where scores are equal or an interval is empty.
        """
        score = score.astype(np.float64)
        shares = np.linspace(0, 1, groups + 1)[1:-1]
        limits = shares if width else np.unique(np.quantile(score, shares))
        group = np.searchsorted(limits, score, side="left")
        member = group[:, None] == np.unique(group)
        self.rows = np.hstack([member, member * label[:, None], member * score[:, None]]).astype(np.float64)

    def means(self, totals: Floats) -> tuple[Floats, Floats, Floats]:
        """Share of rows, observed and mean predicted probability of each group.

        Args:
            totals: Sums of `rows` in each of b samples, shape (b, 3 · groups).

        Returns:
            Each of shape (b, groups).
        """
        size, events, predicted = np.split(totals, 3, axis=1)
        with np.errstate(invalid="ignore"):
            observed, expected = events / size, predicted / size
        return size / size.sum(axis=1, keepdims=True), observed, expected

    def errors(self, totals: Floats) -> Floats:
        """Expected and maximum calibration error, shape (b, 2)."""
        share, observed, expected = self.means(totals)
        gap = np.abs(observed - expected)
        return np.column_stack([np.nansum(share * gap, axis=1), np.nanmax(gap, axis=1)])


def examine_calibration(sample: Sample) -> Findings:
    """Predicted against observed frequency."""
    findings = Findings()
    mass = Reliability(sample.label, sample.score)
    findings.metrics |= calibration_errors(mass, sample.bootstrap, "")
    width = Reliability(sample.label, sample.score, width=True)
    by_width = calibration_errors(width, sample.bootstrap, ".equal_width")
    # The largest gap would be that of a group of a few rows.
    del by_width["calibration.maximum_calibration_error.equal_width"]
    findings.metrics |= by_width
    residual = sample.score.astype(np.float64) - sample.label
    by_entity = entity_sums((residual - residual.mean())[:, None], sample.entity)[:, 0] / sample.rows
    findings.metrics["calibration.mean_error"] = normal_interval(float(residual.mean()), by_entity, sample.rows)
    z = spiegelhalter(sample.label, sample.score, sample.entity)
    if z is None:
        findings.notes.append("calibration.spiegelhalter_z is undefined: every score is 0, 1 or exactly a half.")
    else:
        p_value = float(2 * ndtr(-abs(z)))
        findings.metrics["calibration.spiegelhalter_z"] = Metric(z, z - NORMAL_95, z + NORMAL_95, sample.rows)
        findings.metrics["calibration.spiegelhalter_p_value"] = Metric(p_value, p_value, p_value, sample.rows)
        told = "differ from what happened by more than chance" if p_value < 0.05 else "agree with what happened"
        findings.notes.append(f"Probabilities {told} (Spiegelhalter's z {z:.2f}, p {p_value:.3g}).")
    recalibrated = recalibration(sample.label, sample.score, sample.entity)
    if recalibrated is None:
        findings.notes.append(
            "calibration.slope is undefined: scores are about equal or separate events from the rest without exception."
        )
    else:
        findings.metrics |= {"calibration.slope": recalibrated[0], "calibration.intercept": recalibrated[1]}
    findings.figures["calibration_reliability"] = plots.calibration_plot(*_points(mass, sample.bootstrap), sample.score)
    return findings


def _points(reliability: Reliability, bootstrap: Bootstrap) -> tuple[Floats, Floats, Floats, Floats]:
    """Predicted and observed probability of each group, and the 95% interval of the latter."""
    _, observed, predicted = reliability.means(reliability.rows.sum(axis=0, keepdims=True))
    replicates = reliability.means(bootstrap.totals(reliability.rows))[1]
    low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0)
    return predicted[0], observed[0], low, high


def calibration_errors(reliability: Reliability, bootstrap: Bootstrap, suffix: str) -> dict[str, Metric]:
    """Expected and maximum calibration error, and the expected one without its bias.

    The mean, weighted by size, and the largest of the groups' gaps between predicted and observed frequency (Naeini,
    Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning"). Groups of equal mass
    are steadier than those of equal width (Nixon et al. 2019, "Measuring calibration in deep learning"). An absolute
    value grows by resampling, so that the interval is the basic one.

    For the same reason both are above 0 for a perfect model. The debiased one takes off what normal noise of each gap's
    own size adds: the mean of |N(gap, s²)| less |gap| (Kumar, Liang and Ma 2019, "Verified uncertainty calibration",
    whose simulated mean is the folded normal distribution's).
    """
    rows = len(reliability.rows)
    totals = reliability.rows.sum(axis=0, keepdims=True)
    resampled = bootstrap.totals(reliability.rows)
    expected, largest = reliability.errors(totals)[0]
    replicates = reliability.errors(resampled)
    share, observed, predicted = (values[0] for values in reliability.means(totals))
    _, observed_again, predicted_again = reliability.means(resampled)
    noise = np.nanstd(observed_again - predicted_again, axis=0)
    bias = float((share * (folded_normal_mean(observed - predicted, noise) - np.abs(observed - predicted))).sum())
    debiased = interval(max(0.0, float(expected) - bias), replicates[:, 0] - 2 * bias, rows)
    return {
        f"calibration.expected_calibration_error{suffix}": interval(
            float(expected), replicates[:, 0], rows, basic=True
        ),
        f"calibration.debiased_calibration_error{suffix}": Metric(
            debiased.value, max(0.0, debiased.low), debiased.high, rows
        ),
        f"calibration.maximum_calibration_error{suffix}": interval(float(largest), replicates[:, 1], rows, basic=True),
    }


def folded_normal_mean(mean: Floats, deviation: Floats) -> Floats:
    """Mean of |X| for X normal with this mean and deviation (Leone, Nelson and Nottingham 1961), shape (k,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(deviation > 0, mean / deviation, np.inf)
    tail = np.where(deviation > 0, np.exp(-(ratio**2) / 2), 0.0)
    folded: Floats = deviation * math.sqrt(2 / math.pi) * tail + np.abs(mean) * (1 - 2 * ndtr(-np.abs(ratio)))
    return folded


def spiegelhalter(label: NDArray[Any], score: NDArray[Any], entity: NDArray[np.int64]) -> float | None:
    """Spiegelhalter's z: how far the Brier score is from what perfect probabilities would have, in standard errors.

    Spiegelhalter 1986, "Probabilistic prediction in patient management and clinical trials": standard normal where
    scores are the true probabilities; no grouping, unlike the test of Hosmer and Lemeshow. Where rows of an entity
    resemble each other the variance is multiplied by their design effect.

    Returns:
        None where every score is 0, 1 or 1/2: nothing can be told.
    """
    score = score.astype(np.float64)
    terms = (label - score) * (1 - 2 * score)
    variance = float(((1 - 2 * score) ** 2 * score * (1 - score)).sum())
    if variance == 0:
        return None
    by_entity = entity_sums(terms[:, None], entity)[:, 0]
    squares = float((terms**2).sum())
    effect = max(1.0, float((by_entity**2).sum()) / squares) if squares else 1.0
    return float(terms.sum() / math.sqrt(variance * effect))


def recalibration(label: NDArray[Any], score: NDArray[Any], entity: NDArray[np.int64]) -> tuple[Metric, Metric] | None:
    """Slope and intercept of the labels' logistic regression on the score's log-odds (Cox 1958): 1 and 0 if calibrated.

    A slope below 1 says that scores are too extreme. Intervals by the sandwich variance over entities (Liang and Zeger
    1986, "Longitudinal data analysis using generalized linear models").

    Returns:
        None where the regression has no unique solution: scores are about equal, or separate the classes.
    """
    bounded = np.clip(score.astype(np.float64), MARGIN, 1 - MARGIN)
    logit = np.log(bounded) - np.log1p(-bounded)
    events, others = logit[label == 1], logit[label == 0]
    if events.min() >= others.max() or others.min() >= events.max():
        return None
    with warnings.catch_warnings():
        # Whether there is a solution is looked at below, at its information matrix.
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(logit[:, None], label)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    expected = 1 / (1 + np.exp(-(slope * logit + intercept)))
    design = np.column_stack([logit, np.ones(len(logit))])
    information = design.T @ (design * (expected * (1 - expected))[:, None])
    if not np.linalg.cond(information) < LARGEST_CONDITION:
        return None
    scores = entity_sums(design * (label - expected)[:, None], entity)
    contributions = scores @ np.linalg.inv(information)
    rows = len(label)
    return normal_interval(slope, contributions[:, 0], rows), normal_interval(intercept, contributions[:, 1], rows)
