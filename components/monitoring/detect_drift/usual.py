"""Prediction interval of a random-effects model: how far a window may lie from a date without anything having moved.

What is compared are means of measures: of normal scores, of their size, of whether a value is missing. A mean varies by
chance and from date to date; the second is estimated from the baseline's dates as in meta-analysis (DerSimonian and
Laird 1986), and a new date is expected within their prediction interval (Higgins, Thompson and Spiegelhalter 2009).
Eight dates tell badly how far a ninth may lie. So what is known of one column is moderated by what all of them are like
(empirical Bayes: Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression"): where
columns vary alike, each is judged as if it had been seen on many more dates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma, stdtr

Numbers = NDArray[np.float64]

# Of a baseline with fewer dates it cannot be seen how dates differ: then they are taken to, by this many standard
# deviations.
FEWEST_DATES = 3
ASSUMED_VARIATION = 0.1
# Fewer columns do not tell what columns are like.
FEWEST_COLUMNS = 5
# A column that hardly varied, by chance, tells little of what others do: its logarithm is bounded from below.
LEAST_OF_MEDIAN = 0.05
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


@dataclass(frozen=True)
class Variation:
    """Variance of dates' means, chance included, in that of one row; and how well it is known."""

    variance: float
    degrees: float


def variation_of(dates: Sequence[Mean]) -> Variation | None:
    """How much dates vary; None where that cannot be seen.

    Args:
        dates: The newest first, each with rows.
    """
    if len(dates) < FEWEST_DATES or not dates[0].deviation:
        return None
    seen = float(np.var([date.value for date in dates], ddof=1)) / dates[0].deviation ** 2
    return Variation(seen, len(dates) - 1.0)


def moderated(seen: Sequence[Variation | None]) -> list[Variation | None]:
    """Each variance drawn towards what all of them are like, as far as they are alike (Smyth 2004, section 6.2).

    The variances are taken to come from a scaled inverse chi-square distribution, whose parameters are found by the
    mean and the variance of their logarithms.

    Args:
        seen: Of columns that are measured in the same way; those that cannot be seen, or never vary, stay as they are.
    """
    known = [item for item in seen if item is not None and item.variance > 0]
    if len(known) < FEWEST_COLUMNS:
        return list(seen)
    variances = np.array([item.variance for item in known])
    half = np.array([item.degrees for item in known]) / 2
    logs = np.log(np.maximum(variances, LEAST_OF_MEDIAN * np.median(variances))) - digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if spread > 0:
        prior = 2 * inverse_trigamma(spread)
        centre = math.exp(float(logs.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    else:
        prior, centre = math.inf, math.exp(float(logs.mean()))

    def drawn(item: Variation | None) -> Variation | None:
        if item is None or not item.variance:
            return item
        if math.isinf(prior):
            return Variation(centre, math.inf)
        degrees = prior + item.degrees
        return Variation((prior * centre + item.degrees * item.variance) / degrees, degrees)

    return [drawn(item) for item in seen]


def inverse_trigamma(value: float) -> float:
    """Where the trigamma function has a value above 0, by Newton's method on its inverse (Smyth 2004, appendix)."""
    at = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, at))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, at))
        at += step
        if -step / at < 1e-8:
            break
    return at


def difference(
    dates: Sequence[Mean], window: Mean, share: bool = False, variation: Variation | None = None
) -> Difference:
    """Compare a window with the newest date, given how dates differ.

    Args:
        dates: The newest first; those without rows do not count, but the newest must have some.
        window: With rows.
        share: Whether the measure is a share.
        variation: How much dates vary, as `moderated` says; by default what is seen of these alone.
    """
    newest = dates[0]
    own = max(window.deviation, newest.deviation) ** 2 / window.rows
    between, degrees = variation_between([date for date in dates if date.rows], newest.deviation, variation)
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


def variation_between(
    dates: Sequence[Mean], deviation: float, variation: Variation | None = None
) -> tuple[float, float]:
    """Variance between dates beyond chance, and its degrees of freedom."""
    if len(dates) < FEWEST_DATES:
        return (ASSUMED_VARIATION * deviation) ** 2, math.inf
    seen, degrees = float(np.var([date.value for date in dates], ddof=1)), len(dates) - 1.0
    if variation is not None:
        seen, degrees = variation.variance * deviation**2, variation.degrees
    chance = float(np.mean([date.deviation**2 / date.rows for date in dates]))
    return (seen - chance, degrees) if seen > chance else (0.0, math.inf)


def _effect(newest: Mean, window: Mean, share: bool) -> float:
    if share:
        angles = [2 * math.asin(math.sqrt(min(1.0, max(0.0, mean.value)))) for mean in (newest, window)]
        return angles[1] - angles[0]
    # Rows that were all alike have no deviation: then it is the window's, or that of the normal scores themselves.
    return (window.value - newest.value) / (newest.deviation or window.deviation or 1.0)
