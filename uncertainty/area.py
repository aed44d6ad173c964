"""ROC AUC with its variance in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.uncertainty.contributions import NORMAL_95, normal_interval, standard_error

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """An area under the ROC curve.

    Attributes:
        value: Share of pairs in which the positive has the higher score, an equal score counting half, in [0, 1].
        contributions: Of each entity to its deviation, shape (entities,); 0 for an entity without rows.
        positives, negatives: Rows of each class.
    """

    value: float
    contributions: Floats
    positives: int
    negatives: int

    @property
    def rows(self) -> int:
        """Of both classes."""
        return self.positives + self.negatives

    def metric(self) -> Metric:
        """The area with its 95% interval, on the log-odds scale so that it stays inside 0 and 1.

        Pepe 2003, "The statistical evaluation of medical tests", chapter 5.2. An area of exactly 0 or 1 has no
        variance of its own: there it is method 5 of Newcombe 2006, "Confidence intervals for an effect size measure
        based on the Mann-Whitney statistic, part 2".
        """
        value = self.value
        if value in (0.0, 1.0):
            bound = newcombe_bound(self.positives, self.negatives)
            return Metric(value, *((bound, 1.0) if value else (0.0, 1 - bound)), self.rows)
        odds = math.log(value / (1 - value))
        reach = NORMAL_95 * float(standard_error(self.contributions)) / (value * (1 - value))
        return Metric(value, _logistic(odds - reach), _logistic(odds + reach), self.rows)

    def less(self, other: Area) -> Metric:
        """This area less another of the same entities, paired."""
        return normal_interval(self.value - other.value, self.contributions - other.contributions, self.rows)


def area(
    label: NDArray[Any], score: NDArray[Any], entity: NDArray[np.int64], entities: int, rows: Any = slice(None)
) -> Area:
    """ROC AUC, and what each entity adds to its deviation.

    Where no entity repeats the contributions' sum of squares is the variance of DeLong, DeLong and Clarke-Pearson 1988
    ("Comparing the areas under two or more correlated receiver operating characteristic curves"), by one sort as Sun
    and Xu 2014 do it; where some repeat, that of Obuchowski 1997 ("Nonparametric analysis of clustered ROC curve
    data"), but for the geometric mean of both classes' corrections for small samples in the term between them.

    Args:
        label: 0 or 1, both present in `rows`, shape (n,).
        score: Shape (n,).
        entity: A whole number for each row's entity, shape (n,).
        entities: How many there are.
        rows: What to measure on; all by default.
    """
    label, score, entity = label[rows], score[rows], entity[rows]
    # The order of equal scores does not matter: they count together.
    order = np.argsort(score)
    ranked = score[order]
    new = np.append(True, ranked[1:] != ranked[:-1])
    group = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    positive = label[order] == 1
    positives_of = np.add.reduceat(positive, starts, dtype=np.int64)
    negatives_of = np.diff(np.append(starts, len(ranked))) - positives_of
    positives, negatives = int(positives_of.sum()), int(negatives_of.sum())
    # Of each distinct score, lowest first: the share of negatives below it, and of positives above it.
    above_negatives = (np.cumsum(negatives_of) - negatives_of / 2) / negatives
    below_positives = 1 - (np.cumsum(positives_of) - positives_of / 2) / positives
    value = float((above_negatives * positives_of).sum() / positives)
    placement = np.where(positive, above_negatives[group], below_positives[group]) - value
    deviation = np.zeros(entities)
    for of_class, rows_of_class in ((positive, positives), (~positive, negatives)):
        those = entity[order[of_class]]
        sums = np.bincount(those, placement[of_class], entities)
        holders = int(np.count_nonzero(np.bincount(those, minlength=entities)))
        deviation += sums / rows_of_class * math.sqrt(holders / max(holders - 1, 1))
    return Area(value, deviation, positives, negatives)


def newcombe_bound(positives: int, negatives: int) -> float:
    """The lower end of the 95% interval of an area of exactly 1: where it would be 1.96 standard errors away.

    The standard error is that of Hanley and McNeil 1982 ("The meaning and use of the area under a ROC curve") with the
    mean class size in place of both, as Newcombe 2006 has it.
    """
    size = (positives + negatives) / 2 - 1
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        spread = 1 + size * (1 - middle) / (2 - middle) + size * middle / (1 + middle)
        error = math.sqrt(middle * (1 - middle) * spread / (positives * negatives))
        low, high = (low, middle) if 1 - middle < NORMAL_95 * error else (middle, high)
    return low


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
