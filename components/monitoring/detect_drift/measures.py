"""Measures of a column: what of it is compared between dates, with a rule of its own for each kind of column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from kfp_lifecycle.artifacts.drift import Aspect
from kfp_lifecycle.components.monitoring.detect_drift.usual import Mean, Numbers

MISSING = "(missing)"
OTHERS = "(others)"
# A value that at least half of the rows have is compared by its share, and the other values among themselves.
MOSTLY = 0.5
# Categories beyond the most frequent ones, and those below this share, are counted together.
LARGEST_CATEGORIES = 20
RARE = 0.005
# A text of which more than half of the values are there once is an identifier: new ones are usual.
IDENTIFIER = 0.5
# Fewer rows than these say nothing about a distribution.
FEWEST_ROWS = 3
FEWEST_SCALE_ROWS = 30


@dataclass(frozen=True)
class Measure:
    """One number of a row."""

    aspect: Aspect
    name: str
    share: bool


class Column(Protocol):
    """What is measured of a column."""

    def rows(self, values: pd.Series) -> dict[Measure, NDArray[Any]]:
        """Each measure of each row, NaN where a row has none."""


class NumericColumn:
    """A number: how many are missing, how many have the most frequent value, level and spread of the others.

    Level and spread are those of normal scores (van der Waerden): the place of a value among the newest date's, as a
    standard normal number. So long tails and extremes count no more than their rows, and any unit is the same.
    """

    def __init__(self, dates: Sequence[pd.Series]) -> None:
        """Learn the scale from the dates, the newest first."""
        known = [as_the_model_takes_them(date.dropna()) for date in dates]
        everything = np.concatenate(known)
        self.common: float | None = None
        if len(everything):
            values, counts = np.unique(everything, return_counts=True)
            if counts.max() >= MOSTLY * len(everything):
                self.common = float(values[counts.argmax()])
        others = [values if self.common is None else values[values != self.common] for values in known]
        enough = len(others[0]) >= FEWEST_SCALE_ROWS
        self.scale = np.sort(others[0] if enough else np.concatenate(others))

    def rows(self, values: pd.Series) -> dict[Measure, NDArray[Any]]:
        """Each measure of each row, NaN where a row has none."""
        numbers = as_the_model_takes_them(values)
        missing = np.isnan(numbers)
        found: dict[Measure, NDArray[Any]] = {Measure("missing", "missing", True): missing}
        kept = ~missing
        if self.common is not None:
            name = f"other than {self.common:,.4g}"
            found[Measure("values", name, True)] = np.where(missing, np.nan, numbers != self.common)
            kept &= numbers != self.common
        if len(self.scale) >= FEWEST_ROWS:
            scores = np.full(len(numbers), np.nan)
            scores[kept] = normal_scores(self.scale, numbers[kept])
            found[Measure("values", "level", False)] = scores
            # Around the window's own centre: a level that wobbles is no wider.
            found[Measure("values", "spread", False)] = np.abs(scores - scores[kept].mean()) if kept.any() else scores
        return found


class CategoricalColumn:
    """A category: the share of each, the rare ones together, missing as one of them; and of those never seen."""

    def __init__(self, dates: Sequence[pd.Series]) -> None:
        """Learn the categories from the dates, the newest first."""
        everything = pd.concat([named(date) for date in dates])
        counts = everything.value_counts()
        known = counts.drop(MISSING, errors="ignore")
        self.identifier = bool(len(known) and (known == 1).sum() > IDENTIFIER * known.sum())
        self.known = frozenset(known.index)
        frequent = known[known >= RARE * counts.sum()].index[:LARGEST_CATEGORIES]
        self.categories = [] if self.identifier else list(frequent)

    def rows(self, values: pd.Series) -> dict[Measure, NDArray[Any]]:
        """Each measure of each row."""
        column = named(values)
        found: dict[Measure, NDArray[Any]] = {Measure("missing", "missing", True): (column == MISSING).to_numpy()}
        if self.identifier:
            return found
        for category in self.categories:
            found[Measure("values", str(category), True)] = (column == category).to_numpy()
        seen = column.isin(self.known) | (column == MISSING)
        if len(self.categories) < len(self.known):
            rare = seen & ~column.isin(self.categories) & (column != MISSING)
            found[Measure("values", OTHERS, True)] = rare.to_numpy()
        found[Measure("new", "new categories", True)] = ~seen.to_numpy()
        return found


def new_by_date(dates: Sequence[pd.Series]) -> list[Mean]:
    """For each date, the share of rows whose category no other date has; of a single date, whose category is there
    once, which is how many a next one is expected to bring (Good 1953)."""
    columns = [named(date) for date in dates]
    counts = pd.concat([pd.Series(column.unique()) for column in columns]).value_counts()
    if len(columns) == 1:
        counts = columns[0].value_counts()
    once = set(counts.index[counts == 1]) - {MISSING}
    return [Mean.of_share(column.isin(once).to_numpy()) for column in columns]


def named(column: pd.Series) -> pd.Series:
    """A categorical column whose missing values are a category."""
    return column.astype(object).where(column.notna() & (column != ""), MISSING).astype(str)


def as_the_model_takes_them(values: pd.Series) -> Numbers:
    """Numbers as the model takes them: a baseline has 32 bits, a log 64, and 0.2 is to be the same in both."""
    numbers: Numbers = values.to_numpy(np.float32).astype(np.float64)
    return numbers


def normal_scores(scale: Numbers, values: Numbers) -> Numbers:
    """Van der Waerden's scores: the mid-rank of each value among a sorted sample, as a standard normal number."""
    ranks = np.searchsorted(scale, values, "left") + np.searchsorted(scale, values, "right") + 1
    scores: Numbers = ndtri(ranks / (2 * (len(scale) + 1)))
    return scores


def means_of(rows: Mapping[Measure, NDArray[Any]]) -> dict[Measure, Mean]:
    """The mean of each measure."""
    means = {}
    for measure, values in rows.items():
        if measure.share:
            known = values if values.dtype == bool else values[~np.isnan(values)].astype(bool)
            means[measure] = Mean.of_share(known)
        else:
            means[measure] = Mean.of(values)
    return means
