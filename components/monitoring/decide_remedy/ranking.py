"""Ranking in production: is ROC AUC what the scores themselves promise?

If scores are probabilities, they say what ROC AUC to expect (confidence-based performance estimation, CBPE). A ranking
that falls short of it has lost what it knew: labels are turned round, rows are joined to others, or what mattered
matters no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.uncertainty.area import area
from kfp_lifecycle.uncertainty.contributions import standard_error

Floats = NDArray[np.float64]
FEWEST_OF_A_CLASS = 10
# Of the normal distribution: 99% are within so many standard errors. It is asked again each week.
NORMAL_99 = 2.575829303548901
# A smaller decline is no reason to do anything.
LEAST_DECLINE = 0.02
MARGIN = 1e-6


@dataclass(frozen=True)
class Ranking:
    """ROC AUC beside what was to be expected."""

    measured: Metric
    expected: float
    worse: bool
    """Below it by more than chance and by more than LEAST_DECLINE."""


def ranking(rows: pd.DataFrame) -> Ranking | None:
    """Compare ROC AUC with what the scores promise, of predictions whose horizon has passed.

    Args:
        rows: `score`, `label` and `entity`.

    Returns:
        None where too few of either outcome are known.
    """
    label, score = rows["label"].to_numpy(np.float64), rows["score"].to_numpy(np.float64)
    events = int(label.sum())
    if min(events, len(label) - events) < FEWEST_OF_A_CLASS:
        return None
    codes = pd.factorize(rows["entity"])[0].astype(np.int64)
    found = area(label, score, codes, int(codes.max()) + 1)
    expected = expected_area(score, events)
    if found.value in (0.0, 1.0):
        below = found.value == 0.0
    else:
        error = float(standard_error(found.contributions)) / (found.value * (1 - found.value))
        below = logit(expected) - logit(found.value) > NORMAL_99 * error
    return Ranking(found.metric(), expected, bool(below and expected - found.value > LEAST_DECLINE))


def expected_area(score: Floats, events: int) -> float:
    """ROC AUC of scores if they are probabilities, at the level of the events there were."""
    odds = logit(np.clip(score, MARGIN, 1 - MARGIN))
    shift = brentq(lambda by: float(expit(odds + by).sum()) - events, -60.0, 60.0)
    probability = expit(odds + shift)
    order = np.argsort(score, kind="stable")
    ranked, positive = score[order], probability[order]
    groups = np.cumsum(np.append(True, ranked[1:] != ranked[:-1])) - 1
    positives = np.bincount(groups, positive)
    negatives = np.bincount(groups, 1 - positive)
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / (positives.sum() * negatives.sum()))
