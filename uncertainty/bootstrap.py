"""Cluster bootstrap: every row of an entity is drawn with it, since its rows resemble each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

LOW, HIGH = 0.025, 0.975
# Numbers that one block of replicates may hold: memory does not grow with rows times replicates, and caches suffice.
BLOCK = 1_000_000


class Bootstrap:
    """Replicates of a sample: how often each of its entities was drawn (Efron 1979, "Bootstrap methods").

    An entity is the block of all its rows over time, so that what repeats in them is never taken for new evidence
    (Davison and Hinkley 1997, "Bootstrap methods and their application", chapter 3.8).

    Attributes:
        entity: A whole number for each row's entity, from 0 without a gap, shape (n,).
        counts: How often each replicate drew each entity, shape (replicates, entities).
    """

    def __init__(self, entity: NDArray[np.int64], replicates: int, seed: int) -> None:
        """Draw.

        Args:
            entity: A whole number for each row's entity, shape (n,).
            replicates: How many.
            seed: Chooses them.
        """
        self.entity: NDArray[np.int64] = np.unique(entity, return_inverse=True)[1]
        entities = int(self.entity.max()) + 1
        random = np.random.default_rng(seed)
        self.counts = np.empty((replicates, entities), dtype=np.uint8)
        size = max(1, BLOCK // entities)
        for at in range(0, replicates, size):
            block = min(size, replicates - at)
            drawn = random.integers(0, entities, size=(block, entities), dtype=np.int64)
            drawn += np.arange(block)[:, None] * entities
            counted = np.bincount(drawn.ravel(), minlength=block * entities)
            self.counts[at : at + block] = counted.reshape(block, entities)

    def replicate(self, statistic: Statistic, rows: NDArray[np.int64] | None = None) -> Floats:
        """The statistic of each replicate.

        Args:
            statistic: From row weights, shape (b, n), to values, shape (b,) or (b, k).
            rows: Positions of the rows that the statistic is about, in the order that it expects; all by default.

        Returns:
            Shape (replicates,) or (replicates, k).
        """
        entity = self.entity if rows is None else self.entity[rows]
        size = max(1, BLOCK // max(1, len(entity)))
        starts = range(0, len(self.counts), size)
        return np.concatenate([statistic(self.counts[at : at + size][:, entity].astype(np.float64)) for at in starts])

    def totals(self, contributions: NDArray[Any]) -> Floats:
        """Sums of what rows contribute in each replicate: as `replicate` of a sum, but entities are summed only once.

        Args:
            contributions: Of each row, shape (n, k).

        Returns:
            Shape (replicates, k).
        """
        sums = entity_sums(contributions, self.entity)
        replicates = len(self.counts)
        size = max(1, BLOCK // replicates)
        totals = np.zeros((replicates, sums.shape[1]))
        for at in range(0, len(sums), size):
            totals += self.counts[:, at : at + size].astype(np.float64) @ sums[at : at + size]
        return totals


def entity_sums(contributions: NDArray[Any], entity: NDArray[np.int64]) -> Floats:
    """What the rows of each entity contribute together.

    Args:
        contributions: Of each row, shape (n, k).
        entity: A whole number for each row's entity, from 0, shape (n,).

    Returns:
        Shape (entities, k).
    """
    entities = int(entity.max()) + 1
    return np.column_stack([np.bincount(entity, column, entities) for column in contributions.T])


def interval(value: float, replicates: Floats, rows: int, *, basic: bool = False) -> Metric:
    """A value with the interval that its replicates give.

    Args:
        value: The statistic of the sample itself.
        replicates: Of each replicate; those that are no number, such as one without positives, are left out.
        rows: Behind the value.
        basic: Mirror the quantiles at the value ("basic" interval: Davison and Hinkley 1997, chapter 5.2), for a
            statistic that resampling pushes to one side, such as a distance that is never negative; else the
            quantiles themselves.
    """
    low, high = (float(quantile) for quantile in np.nanquantile(replicates, [LOW, HIGH]))
    if basic:
        low, high = max(0.0, 2 * value - high), max(0.0, 2 * value - low)
    # Resampling may push so far that the value itself would stand outside.
    return Metric(value, min(low, value), max(high, value), rows)


def measure(statistic: Statistic, bootstrap: Bootstrap, rows: NDArray[np.int64] | None = None) -> Metric:
    """A single statistic with its interval."""
    count = len(bootstrap.entity) if rows is None else len(rows)
    value = float(statistic(np.ones((1, count)))[0])
    return interval(value, bootstrap.replicate(statistic, rows), count)
