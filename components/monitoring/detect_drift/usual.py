"""Prediction interval of a random-effects model: how far a window may lie from a date without anything having moved.

What is compared are means of measures: of normal scores, of their size, of whether a value is missing. A mean varies by
chance and from date to date; the second is estimated from the baseline's dates as in meta-analysis (DerSimonian and
Laird 1986), and a new date is expected within their prediction interval (Higgins, Thompson and Spiegelhalter 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Numbers = NDArray[np.float64]

# Of a baseline with fewer dates it cannot be seen how dates differ: then they are taken to, by this many standard
# deviations.
FEWEST_DATES = 3
ASSUMED_VARIATION = 0.1
# So many normal degrees of freedom are infinite.
MANY_DEGREES = 1e6


@dataclass(frozen=True)
class Mean:
    """The mean of a measure over some rows."""

    value: float
    rows: int
    deviation: float
    """Standard deviation of one row."""

    @classmethod
    def of(cls, values: Numbers) -> Mean:
        """Of the rows that have the measure."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(math.nan, 0, 0.0)
        return cls(float(known.mean()), len(known), float(known.std()))

    @classmethod
    def of_share(cls, values: NDArray[np.bool_]) -> Mean:
        """Of yes and no; a share that was never seen is smoothed, so that it does not count as impossible."""
        count, rows = int(values.sum()), len(values)
        smooth = (count + 0.5) / (rows + 1)
        return cls(count / rows if rows else math.nan, rows, math.sqrt(smooth * (1 - smooth)))


@dataclass(frozen=True)
class Difference:
    """How far a window is from the newest date."""

    p_value: float
    effect: float
    """In standard deviations; of shares, Cohen's h."""


def difference(dates: Sequence[Mean], window: Mean, share: bool = False) -> Difference:
    """Compare a window with the newest date, given how dates differ.

    Args:
        dates: The newest first; those without rows do not count, but the newest must have some.
        window: With rows.
        share: Whether the measure is a share.
    """
    newest = dates[0]
    own = max(window.deviation, newest.deviation) ** 2 / window.rows
    between, degrees = variation_between([date for date in dates if date.rows], newest.deviation)
    known = newest.deviation**2 / newest.rows
    variance = own + known + 2 * between
    gap = window.value - newest.value
    if gap == 0 or variance == 0:
        return Difference(1.0 if gap == 0 else 0.0, _effect(newest, window, share))
    # Satterthwaite's degrees of freedom: only what lies between dates is known badly.
    if between > 0:
        degrees = max(degrees, degrees * (variance / (2 * between)) ** 2)
    p_value = 2 * float(stdtr(min(degrees, MANY_DEGREES), -abs(gap) / math.sqrt(variance)))
    return Difference(p_value, _effect(newest, window, share))


def variation_between(dates: Sequence[Mean], deviation: float) -> tuple[float, float]:
    """Variance between dates beyond chance, and its degrees of freedom."""
    if len(dates) < FEWEST_DATES:
        return (ASSUMED_VARIATION * deviation) ** 2, math.inf
    seen = float(np.var([date.value for date in dates], ddof=1))
    chance = float(np.mean([date.deviation**2 / date.rows for date in dates]))
    return (seen - chance, len(dates) - 1.0) if seen > chance else (0.0, math.inf)


def _effect(newest: Mean, window: Mean, share: bool) -> float:
    if share:
        angles = [2 * math.asin(math.sqrt(min(1.0, max(0.0, mean.value)))) for mean in (newest, window)]
        return angles[1] - angles[0]
    return (
        (window.value - newest.value) / newest.deviation
        if newest.deviation
        else math.copysign(math.inf, window.value - newest.value)
    )
