"""Worlds to monitor: windows that nothing has happened to, and what may happen to a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.detection import ENTITY
from kfp_lifecycle.components.monitoring.detect_drift.rule import DATE

NUMBERS, MOSTLY_ZERO, CATEGORIES = 12, 3, 3
INPUTS = [
    *(Feature(f"number_{number}", "numeric") for number in range(NUMBERS)),
    *(Feature(f"zero_{number}", "numeric") for number in range(MOSTLY_ZERO)),
    *(Feature(f"category_{number}", "categorical") for number in range(CATEGORIES)),
]
DATES, ROWS_OF_A_DATE = 8, 2000
DAYS, HOURS = 7, 168
NEWEST_DATE = datetime(2026, 1, 5, tzinfo=UTC)
BETWEEN_DATES = timedelta(days=28)


@dataclass(frozen=True)
class World:
    """How windows differ and rows depend on each other where nothing happens."""

    wobble: float = 0.0
    """Standard deviation of a window's level, in those of a row."""
    uneven: float = 0.0
    """Standard deviation of the logarithm of the wobble, from column to column."""
    autocorrelation: float = 0.0
    """Of the level from one hour to the next; the level has a fifth of a row's variance."""
    entities: int = 0
    """So many are asked about again and again; 0: each row is of another."""

    def window(self, rows: int, random: np.random.Generator) -> pd.DataFrame:
        """Rows in the order of time: every other number has a long tail; the score follows the first ones."""
        if self.entities:
            frame = self._rows(min(rows, self.entities), random)
            return frame.iloc[np.sort(random.integers(0, len(frame), rows))].reset_index(drop=True)
        return self._rows(rows, random)

    def reference(self, random: np.random.Generator) -> pd.DataFrame:
        """The training dates, four weeks apart, of the same world, the newest last."""
        return pd.concat(
            [
                self.window(ROWS_OF_A_DATE, random).assign(**{DATE: NEWEST_DATE - back * BETWEEN_DATES})
                for back in reversed(range(DATES))
            ],
            ignore_index=True,
        )

    def _rows(self, rows: int, random: np.random.Generator) -> pd.DataFrame:
        levels = self._levels(rows, random)
        normal = random.standard_normal((rows, NUMBERS + MOSTLY_ZERO)) + levels
        columns: dict[str, object] = {}
        for number in range(NUMBERS):
            columns[f"number_{number}"] = np.exp(normal[:, number]) if number % 2 else normal[:, number]
        for number in range(MOSTLY_ZERO):
            there = random.random(rows) < 0.1
            columns[f"zero_{number}"] = np.where(there, np.exp(normal[:, NUMBERS + number]), 0.0)
        for number in range(CATEGORIES):
            columns[f"category_{number}"] = random.choice(list("abcde"), rows, p=[0.5, 0.3, 0.15, 0.04, 0.01])
        frame = pd.DataFrame(columns)
        frame[ENTITY] = [str(number) for number in range(rows)]
        frame["score"] = score(frame)
        return frame

    def _levels(self, rows: int, random: np.random.Generator) -> np.ndarray:
        # The same in each window of a world: some columns always wobble more than others.
        sizes = np.exp(self.uneven * np.linspace(-1.5, 1.5, NUMBERS + MOSTLY_ZERO))
        wobble = self.wobble * sizes * random.standard_normal(NUMBERS + MOSTLY_ZERO)
        if not self.autocorrelation:
            return np.broadcast_to(wobble, (rows, len(wobble)))
        steps = random.standard_normal((HOURS, len(wobble))) * np.sqrt(1 - self.autocorrelation**2)
        hours = [random.standard_normal(len(wobble))]
        for step in steps[1:]:
            hours.append(self.autocorrelation * hours[-1] + step)
        return wobble + np.sqrt(0.2) * np.array(hours)[np.arange(rows) * HOURS // rows]


def score(frame: pd.DataFrame) -> np.ndarray:
    """The model: a logistic function of two features."""
    logit = -2 + 0.6 * frame["number_0"].fillna(0) + 0.6 * np.log(frame["number_1"].clip(1e-3).fillna(1))
    return np.asarray(1 / (1 + np.exp(-logit)))


WORLDS: Mapping[str, World] = {
    "stationary": World(),
    "wobble 0.2 sd": World(wobble=0.2),
    "wobble 0.3 sd": World(wobble=0.3),
    "uneven wobble": World(wobble=0.1, uneven=1.0),
    "autocorrelated": World(autocorrelation=0.9),
    "repeated entities": World(entities=400),
}

Event = Callable[[pd.DataFrame], pd.DataFrame]


def shifted(features: int, by: float) -> Event:
    """So many numbers move by so many standard deviations."""

    def happen(frame: pd.DataFrame) -> pd.DataFrame:
        changes = {}
        for number in range(features):
            values = frame[f"number_{number}"]
            changes[f"number_{number}"] = values * np.exp(by) if number % 2 else values + by
        return frame.assign(**changes)

    return happen


def nulls(frame: pd.DataFrame) -> pd.DataFrame:
    """A tenth of a feature is missing."""
    return frame.assign(number_2=frame["number_2"].where(np.arange(len(frame)) % 10 > 0))


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    """Two columns are each other's."""
    return frame.assign(number_2=frame["number_3"], number_3=frame["number_2"])


def joined_wrongly(frame: pd.DataFrame) -> pd.DataFrame:
    """Half of the features are those of another row. Each column looks as it always did: it is found where features are
    computed again, in the first window (`recompute_features`)."""
    moved = [f"number_{number}" for number in range(0, NUMBERS, 2)]
    return frame.assign(**{name: np.roll(frame[name].to_numpy(), 1) for name in moved})


SHIFTS = (0.1, 0.2, 0.5, 1.0)
BREAKS: Mapping[str, Event] = {
    "10% nulls": nulls,
    "all missing": lambda frame: frame.assign(number_2=np.nan),
    "× 100": lambda frame: frame.assign(number_3=frame["number_3"] * 100),
    "× 100, mostly zero": lambda frame: frame.assign(zero_0=frame["zero_0"] * 100),
    "swapped columns": swapped,
}


def happened(event: Event, frame: pd.DataFrame) -> pd.DataFrame:
    """A window after an event, with the score that the model gives then."""
    after = event(frame)
    return after.assign(score=score(after))
