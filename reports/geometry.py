"""Layout of the drawings: bars, intervals and time lines in percent of their width, so that they fit any screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from kfp_lifecycle.runtime.states import State

# A wait longer than this share of all work is drawn shorter than it was, and says how long it was.
LONGEST_DRAWN_WAIT = 0.2
# Shorter waits are the platform's own overhead, not worth a word.
SHORTEST_NAMED_WAIT_SECONDS = 2.0
# Time is recorded in milliseconds.
SHORTEST_RUN_SECONDS = 0.001


@dataclass(frozen=True)
class StepView:
    """One step of a run."""

    name: str
    state: State = State.done
    started_at: datetime | None = None
    """When it began, with its time zone; None when it has not."""
    seconds: float | None = None
    key_figure: str = ""
    """What it made, in a few words: "48,120 rows", "AUC 0.823"."""


@dataclass(frozen=True)
class StepBar:
    """A step and its bar on the time line of the run."""

    step: StepView
    left: float
    width: float
    waited: float
    """Seconds between the end of all earlier steps and this one's start, when worth a word; else 0."""
    wait_left: float
    wait_width: float


def step_bars(steps: Sequence[StepView]) -> list[StepBar]:
    """Lay the steps on one time line, in the order they are given; those that never began have no bar.

    Long waits, such as the days between a run and a retry, are drawn short: the bars of the work stay comparable.
    """
    begun = sorted(
        (step.started_at, step.seconds or 0.0, position) for position, step in enumerate(steps) if step.started_at
    )
    longest_wait = LONGEST_DRAWN_WAIT * (sum(seconds for _, seconds, _ in begun) or 1.0)
    places: dict[int, tuple[float, float]] = {}
    drawn_end, end = 0.0, begun[0][0] if begun else None
    for started_at, seconds, position in begun:
        wait = (started_at - end).total_seconds() if end else 0.0
        drawn_start = drawn_end + min(wait, longest_wait)
        places[position] = (drawn_start, max(wait, 0.0))
        if drawn_start + seconds > drawn_end:
            drawn_end, end = drawn_start + seconds, started_at + timedelta(seconds=seconds)
    scale = 100 / max(drawn_end, SHORTEST_RUN_SECONDS)

    bars = []
    for position, step in enumerate(steps):
        start, wait = places.get(position, (0.0, 0.0))
        width = (step.seconds or 0.0) * scale if position in places else 0.0
        wait_width = min(wait, longest_wait) * scale
        named_wait = wait if wait >= SHORTEST_NAMED_WAIT_SECONDS else 0.0
        bars.append(StepBar(step, start * scale, width, named_wait, start * scale - wait_width, wait_width))
    return bars


@dataclass(frozen=True)
class SnapshotMark:
    """One snapshot date on the time line of the split, and the window its label looks into."""

    part: str
    day: date
    left: float
    horizon_width: float


def snapshot_marks(snapshots: Mapping[str, Sequence[date]], horizon_days: int) -> list[SnapshotMark]:
    """Lay the snapshots of all parts on one time line that ends when the last label is known."""
    days = [day for dates in snapshots.values() for day in dates]
    if not days:
        return []
    first, last = min(days), max(days)
    span = (last - first).days + horizon_days or 1
    width = 100 * horizon_days / span
    marks = [
        SnapshotMark(part, day, 100 * (day - first).days / span, width)
        for part, dates in snapshots.items()
        for day in dates
    ]
    return sorted(marks, key=lambda mark: mark.day)


@dataclass(frozen=True)
class IntervalBar:
    """A value, its interval and its thresholds on a scale of their own."""

    value: float | None
    low: float | None
    high: float | None
    lowest: float | None
    highest: float | None


def interval_bar(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    lowest: float | None = None,
    highest: float | None = None,
    whole: bool = False,
) -> IntervalBar | None:
    """Place a value on a scale that holds it, its interval and its thresholds; None when there is nothing to place.

    Args:
        value: What was measured.
        low: Lower end of its interval.
        high: Upper end of its interval.
        lowest: The smallest allowed value.
        highest: The largest allowed value.
        whole: Whether the scale begins at 0 and, for shares, ends at 1, so that lengths can be compared.
    """
    points = [point for point in (value, low, high, lowest, highest) if point is not None and math.isfinite(point)]
    if not points:
        return None
    if whole:
        start, end = min(0.0, *points), max(1.0, 1.1 * max(points))
        width = (1.0 if max(points) <= 1 else end) - start
    else:
        span = max(points) - min(points) or abs(points[0]) or 1.0
        start, width = min(points) - 0.12 * span, 1.24 * span

    def place(point: float | None) -> float | None:
        return 100 * (point - start) / width if point is not None and math.isfinite(point) else None

    return IntervalBar(place(value), place(low), place(high), place(lowest), place(highest))
