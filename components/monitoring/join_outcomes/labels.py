"""Labels of spells as they become known, week by week, by the project's own label query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.outcomes import Told
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.offline.point_in_time import run_query, show_table, tables_of

Floats = NDArray[np.float64]

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
# Past snapshots that the timing of events is estimated from, a horizon apart, and the fewest events for that.
REFERENCES, FEWEST_EVENTS = 6, 30
ROWS_AT_ONCE = 100_000


class LabelHistory:
    """The label query, asked what was known of a day's entities by a later moment."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Configuration,
        definitions: Definitions,
        label_query: Path,
        validated: Path,
        until: datetime,
    ) -> None:
        """Show the query its tables, cut to what had happened and had arrived by `until`.

        Args:
            connection: A session over the tables.
            settings: `source.tables` and `label`.
            definitions: The project's feature definitions: they name the key.
            label_query: The SQL file.
            validated: The validated tables.
            until: Nothing later is seen.
        """
        self._connection, self._definitions, self._query = connection, definitions, label_query
        self._label = settings.label
        self.horizon = settings.label.horizon
        mentioned = tables_of(label_query, settings.label.query)
        for name, table in settings.source.tables.items():
            if name in mentioned:
                times = [] if table.label_only else [table.event_time, table.arrival_time]
                show_table(connection, validated, name, [(column, until) for column in times if column])

    def labels(self, day: date, known: datetime) -> pd.Series:
        """The label of everyone who was there at the beginning of a day, as known by a moment within the horizon.

        Returns:
            0 or 1 by the entity's key, as the log writes it.
        """
        snapshot = midnight(day)
        found = run_query(
            self._connection,
            self._definitions,
            self._query,
            {"snapshot": snapshot, "horizon": min(known, snapshot + self.horizon)},
            {self._label.name: "DOUBLE"},
            snapshot,
            name=self._label.query,
        ).read_all()
        key = found[self._definitions.key].cast("string").to_pandas()
        return pd.Series(found[self._label.name].to_numpy(), index=key)


def midnight(day: date) -> datetime:
    """The beginning of a day, UTC."""
    return datetime.combine(day, time(), UTC)


@dataclass(frozen=True)
class Followed:
    """What was known of each spell at each boundary of the weeks.

    Attributes:
        known: Label at each boundary, shape (spells, boundaries); no number before the spell has begun, and for an
            entity that the query does not know.
        elapsed: Part of the horizon that had passed, the same shape, 0 to 1.
    """

    known: Floats
    elapsed: Floats


def follow(
    history: LabelHistory, days: Sequence[date], entities: Sequence[str], boundaries: Sequence[datetime]
) -> Followed:
    """Ask for the labels of spells at the boundaries of weeks.

    Args:
        history: The label query.
        days: The day on which each spell began, shape (n,).
        entities: Whose it is, shape (n,).
        boundaries: In their order.
    """
    known = np.full((len(days), len(boundaries)), np.nan)
    elapsed = np.zeros(known.shape)
    rows_of = pd.Series(np.arange(len(days))).groupby(np.asarray(days, dtype=object)).indices
    for day, rows in rows_of.items():
        begun = midnight(day)
        names = [entities[row] for row in rows]
        label: NDArray[np.float64] | None = None
        for number, boundary in enumerate(boundaries):
            if boundary <= begun:
                continue
            # After the horizon nothing changes any more.
            over = number > 0 and boundaries[number - 1] >= begun + history.horizon
            if label is None or not over:
                label = history.labels(day, boundary).reindex(names).to_numpy()
            known[rows, number] = label
            elapsed[rows, number] = min(1.0, (boundary - begun) / history.horizon)
    return Followed(known, elapsed)


@dataclass(frozen=True)
class Timing:
    """When, within the horizon, events happen that happen within it."""

    told: Told
    elapsed: Floats
    """Parts of the horizon, rising from 0 to 1."""
    share: Floats
    """Of the events, by then; rising from 0 to 1."""
    events: int
    """How many it was estimated from; 0 where events are taken to be even."""

    def share_by(self, elapsed: Floats) -> Floats:
        """Share of the events by a part of the horizon."""
        return np.interp(elapsed, self.elapsed, self.share)


def estimate_timing(history: LabelHistory, before: datetime, followed: Followed) -> Timing:
    """Estimate the timing of events from snapshots whose horizon had passed when the first week began.

    It is the empirical distribution of their times, at each week of the horizon and linear in between; where there were
    fewer than 30 events, even (a constant hazard, which rare events make even).

    What settles a label early is seen by how labels change while time passes: an event that makes it 1 ("cancels"), one
    that makes it 0 ("buys again", where the label is that nobody does), or both, so that only the end tells.

    Args:
        history: The label query.
        before: When the first week began.
        followed: The spells, for the direction in which labels change.
    """
    horizon = history.horizon
    grid = [min(horizon, WEEK * number) for number in range(1, -(-horizon // WEEK) + 1)]
    rising, falling = _changes(followed.known)
    happened = {"rising": np.zeros(len(grid)), "falling": np.zeros(len(grid))}
    for number in range(1, REFERENCES + 1):
        day = (before - number * horizon).date()
        if history.labels(day, midnight(day) + horizon).empty:
            # The business, or what is known of it, began later.
            break
        labels = [history.labels(day, midnight(day) + part) for part in grid]
        table = pd.concat(labels, axis=1).to_numpy()
        more, less = _changes(table)
        rising, falling = rising + more, falling + less
        happened["rising"] += np.nansum(table, axis=0)
        happened["falling"] += np.nansum(1 - table, axis=0)
    elapsed = np.array([0.0, *(part / horizon for part in grid)])
    if rising and falling:
        return Timing(
            "at the horizon's end", np.array([0.0, np.nextafter(1.0, 0.0), 1.0]), np.array([0.0, 0.0, 1.0]), 0
        )
    told: Told = "by its absence" if falling else "by the event"
    counts = happened["falling" if falling else "rising"]
    if counts[-1] < FEWEST_EVENTS:
        return Timing(told, np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0)
    return Timing(told, elapsed, np.array([0.0, *np.maximum.accumulate(counts / counts[-1])]), int(counts[-1]))


def _changes(known: Floats) -> tuple[int, int]:
    """How many labels became 1, and 0, from one boundary to the next."""
    change = np.diff(known, axis=1)
    return int((change > 0).sum()), int((change < 0).sum())


def weekly_events(followed: Followed, timing: Timing, score: Floats) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Events of each spell in each week, and those expected of it while it had none.

    The expectation is the probability of an event in the week given none before it: p (F1 - F0) / (1 - p F0), F being
    the share of events by then. So what is observed less what is expected is a martingale where scores are calibrated,
    whatever the spells have in common with each other in time.

    Args:
        followed: n spells at w + 1 boundaries.
        timing: When events happen.
        score: The label's probability, shape (n,).

    Returns:
        Both of shape (n, w).
    """
    rows, weeks = followed.known.shape[0], followed.known.shape[1] - 1
    events, expected = np.zeros((rows, weeks), np.bool_), np.zeros((rows, weeks))
    # Some after the others: what is computed on the way is several times as large as what is found.
    for start in range(0, rows, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        some = Followed(followed.known[part], followed.elapsed[part])
        events[part], expected[part] = _weekly_events(some, timing, score[part])
    return events, expected


def _weekly_events(followed: Followed, timing: Timing, score: Floats) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    known, elapsed = followed.known, followed.elapsed
    probability = (1 - score if timing.told == "by its absence" else score)[:, None]
    if timing.told == "at the horizon's end":
        happened = (known == 1) & (elapsed == 1)
    else:
        happened = known == (0 if timing.told == "by its absence" else 1)
    at_risk = ~happened[:, :-1] & ~np.isnan(known[:, 1:])
    share = timing.share_by(elapsed)
    chance = probability * np.diff(share, axis=1) / np.maximum(1 - probability * share[:, :-1], 1e-12)
    return happened[:, 1:] & at_risk, np.where(at_risk, np.clip(chance, 0.0, 1.0), 0.0)


def settled(followed: Followed, timing: Timing) -> Floats:
    """The label of each spell where it cannot change any more; no number elsewhere. Shape (n,)."""
    last = followed.known[:, -1]
    early = {"by the event": last == 1, "by its absence": last == 0}.get(timing.told, np.zeros(len(last), bool))
    return np.where(early | (followed.elapsed[:, -1] >= 1), last, np.nan)


def groups_at(values: Mapping[str, pd.Series], entities: Sequence[str]) -> dict[str, NDArray[np.object_]]:
    """The sensitive values of spells; None where they are not known."""
    return {name: column.reindex(entities).to_numpy(dtype=object) for name, column in values.items()}
