"""Scan of ranks over time: do events still come to those whom scores put first, and if not, since when?

Where scores are probabilities, an event is a draw of one of those at risk by what was expected of each. Its rank among
them, weighted so, is uniform whatever the level of events is, and its normal score standard normal (van der Waerden
1952, "Order tests for the two-sample problem and their power"): however few events there are, if each is rare. The sum
of these scores less what was expected is the score test of proportional hazards (Cox 1972, "Regression models and
life-tables") for what scores say too much, by ranks, so that a few scores that are far off do not decide. Over the last
intervals, of several lengths, its smallest value is a generalised likelihood ratio that no size of the loss has to be
known for (Siegmund and Venkatraman 1995, "Using the generalized likelihood ratio statistic for sequential detection of
a change-point"; limited to a window: Lai 1995, "Sequential changepoint detection in quality control and dynamical
systems").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
# Ranks nearer to 0 or 1 count as this: an event of somebody who had next to no chance weighs no more than others.
OUTERMOST = 0.001
MARGIN = 1e-6
# Of the search for a level: steps, and how near is near enough.
STEPS, TOLERANCE = 100, 1e-9


@dataclass(frozen=True)
class Evidence:
    """What one interval says of the ranking."""

    deviation: float
    """Sum of the normal scores of its events less the sum expected: below zero where events come to low scores."""
    variance: float
    """Of the deviation, where scores rank as they promise; about the number of events, 0 where nothing is said."""


@dataclass(frozen=True)
class Scan:
    """The span of the last intervals that speaks most against a ranking."""

    first: int
    """Position of its first interval; it reaches to the newest."""
    deviation: float
    """In standard errors."""


def at_level(chance: Floats, events: float) -> Floats:
    """Probabilities with the same number of times the hazard, so that so many events are expected.

    Args:
        chance: Shape (n,).
        events: More than none, and fewer than n.
    """
    hazard = -np.log1p(-np.clip(chance, MARGIN, 1 - MARGIN))
    # Newton's steps for the logarithm of the ratio, or half of what is left where a step leads out of it.
    low, high = math.log(MARGIN**2), -math.log(MARGIN**2)
    level = 0.0
    for _ in range(STEPS):
        none = np.exp(-math.exp(level) * hazard)
        over = len(chance) - float(none.sum()) - events
        if abs(over) < TOLERANCE * events:
            break
        low, high = (low, level) if over > 0 else (level, high)
        step = level - over / max(math.exp(level) * float((hazard * none).sum()), MARGIN)
        level = step if low < step < high else (low + high) / 2
    probability: Floats = 1 - none
    return probability


def evidence(score: Floats, chance: Floats, event: Floats) -> Evidence:
    """Hold the events of one interval against the ranking of those at risk, whatever their number.

    Args:
        score: What ranks them, shape (n,).
        chance: Probability of an event in the interval by the score, above 0, shape (n,).
        event: 1 where it came, else 0, shape (n,).
    """
    events = float(event.sum())
    if not 0 < events < len(event):
        return Evidence(0.0, 0.0)
    probability = at_level(chance, events)
    # How each probability rises with the level: what is known of this from the events themselves is taken out.
    weight = -(1 - probability) * np.log1p(-probability)
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    # Equal scores share a rank.
    group = np.cumsum(np.append(True, ranked[1:] != ranked[:-1])) - 1
    of_group = np.bincount(group, weight[order])
    rank = (np.cumsum(of_group) - of_group / 2) / of_group.sum()
    normal = np.empty(len(score))
    normal[order] = ndtri(np.clip(rank, OUTERMOST, 1 - OUTERMOST))[group]
    centre = float((weight * normal).sum() / weight.sum())
    away = normal - centre
    return Evidence(
        float(((event - probability) * away).sum()), float((probability * (1 - probability) * away**2).sum())
    )


def spans(intervals: int) -> list[int]:
    """Lengths of the spans that are looked at: all intervals, half of them, and so on down to the newest alone."""
    lengths = [intervals]
    while lengths[-1] > 1:
        lengths.append(lengths[-1] // 2)
    return lengths


def limit(intervals: int, in_control: float) -> float:
    """Standard errors below zero at which a scan alarms by mistake once in `in_control` intervals at the most.

    Each span has its part of the probability (Bonferroni), which is a bound: they overlap.
    """
    return -NormalDist().inv_cdf(1 / (in_control * len(spans(intervals))))


def scan(found: Sequence[Evidence]) -> Scan:
    """The span that speaks most against the ranking, of those that end with the newest interval.

    Args:
        found: Of each interval, the newest last; at least one.
    """
    worst = Scan(0, 0.0)
    for length in spans(len(found)):
        span = found[-length:]
        variance = sum(item.variance for item in span)
        if variance > 0:
            deviation = sum(item.deviation for item in span) / math.sqrt(variance)
            if deviation < worst.deviation:
                worst = Scan(len(found) - length, deviation)
    return worst
