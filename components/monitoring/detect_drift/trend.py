"""Quantile trend: a column that has moved steadily from date to date is expected to go on, and judged by the rest.

How long customers have been there grows from day to day where a business is young, fastest among the first of them.
Nothing has happened then, yet each week is farther from the newest training date. So each quantile is followed over the
dates by least squares, and a window's values are moved back by as much as their quantile has moved since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import linregress

from kfp_lifecycle.components.monitoring.detect_drift.usual import Numbers

# Fewer dates show no line.
FEWEST_DATES = 5
# A column moves steadily where one of its quantiles follows a line beyond this chance.
SIGNIFICANCE = 1e-4
# Counts move in steps, which no shift of their quantiles follows: of those a larger share has one value.
LARGEST_TIE = 0.02
LEVELS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Trend:
    """How a column's quantiles move.

    Attributes:
        newest: Of the newest date, by `LEVELS`.
        slopes: How far each moves in a day.
        longest: Days that the dates reach back: it is not known to go on for longer.
    """

    newest: Numbers
    slopes: Numbers
    longest: float

    def back(self, values: Numbers, days: float) -> Numbers:
        """Values of so many days after the newest date, as they would have been on it."""
        moved = self.slopes * min(max(days, 0.0), self.longest)
        # Quantiles that move at different speeds may not overtake each other.
        then = np.maximum.accumulate(self.newest + moved)
        found: Numbers = values - np.interp(values, then, then - self.newest)
        return found


def trend_of(dates: Sequence[Numbers], days: Sequence[float]) -> Trend | None:
    """The trend of a column; None where it has none that is beyond chance.

    Args:
        dates: Its values at each date, the newest first; NaN where missing.
        days: Of each date, after the newest: 0 and less.
    """
    known = [values[~np.isnan(values)] for values in dates]
    if len(dates) < FEWEST_DATES or not all(len(values) for values in known):
        return None
    if np.unique(known[0], return_counts=True)[1].max() > LARGEST_TIE * len(known[0]):
        return None
    quantiles = np.array([np.quantile(values, LEVELS) for values in known])
    lines = [linregress(days, column) for column in quantiles.T]
    # The ends are of single rows.
    if min((line.pvalue for line in lines[1:-1] if line.slope), default=1.0) >= SIGNIFICANCE:
        return None
    return Trend(quantiles[0], np.array([line.slope for line in lines]), -min(days))
