"""Trends over past windows: lines that a page draws, with releases and verdicts marked on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.monitoring.history import WindowRecord
from kfp_lifecycle.reports.formatting import number

# A picture is so many units wide and high.
SIZE = 100.0
# What lies above the highest value.
HEADROOM = 1.08
TONES = {"broken data": "failed", "model is worse": "failed", "world moved": "warning", "keep": "passed"}


@dataclass(frozen=True)
class Point:
    """A value at a moment, in the picture's own units, from its upper left corner."""

    x: float
    y: float
    told: str
    tone: str = ""


@dataclass(frozen=True)
class Mark:
    """Where a version began to be the one that windows are judged by."""

    x: float
    version: str


@dataclass(frozen=True)
class Trend:
    """One picture."""

    title: str
    low: str
    high: str
    first: str
    last: str
    points: list[Point]
    beside: list[Point] = field(default_factory=list)
    """A second line: what was expected."""
    band: list[tuple[float, float, float]] = field(default_factory=list)
    """Intervals: where, and from which height to which."""
    marks: list[Mark] = field(default_factory=list)
    now: str = ""
    """The newest value, in words."""
    key: tuple[str, str] = ("", "")
    """What the two lines are called, where there are two."""


def trends_of(history: Sequence[WindowRecord], outcomes: Outcomes) -> list[Trend]:
    """The score, outcomes, ranking and money over past windows; each where there is something to draw.

    Args:
        history: The windows, oldest first, this one the last.
        outcomes: What is known of outcomes by now: its weeks reach back further than the history may.
    """
    marks = releases(history)
    found = [
        trend("Mean score", [(item.end, item.mean_score, None, None, item) for item in history], marks),
        weeks_of(outcomes, history[-1].version),
        trend(
            "ROC AUC in production",
            [
                (item.end, item.roc_auc.value, item.roc_auc.low, item.roc_auc.high, item)
                if item.roc_auc
                else (item.end, None, None, None, item)
                for item in history
            ],
            marks,
            zero=False,
        ),
    ]
    for name, figure in history[-1].business.items():
        rows = [(item.end, item.business.get(name), item) for item in history]
        unit = f" for {figure.per:,} predictions" if figure.per > 1 else ""
        found.append(
            trend(
                f"{figure.title[:1].upper()}{figure.title[1:]}{unit}",
                [
                    (end, known.value.value, known.value.low, known.value.high, item)
                    if known
                    else (end, None, None, None, item)
                    for end, known, item in rows
                ],
                marks,
            )
        )
    return [item for item in found if item is not None]


def releases(history: Sequence[WindowRecord]) -> list[tuple[datetime, str]]:
    """When windows began to be judged by another version."""
    return [(now.end, now.version) for before, now in pairwise(history) if now.version != before.version]


Row = tuple[datetime, float | None, float | None, float | None, WindowRecord]


def trend(title: str, rows: Sequence[Row], marks: Sequence[tuple[datetime, str]], zero: bool = True) -> Trend | None:
    """A line with intervals; None where fewer than two windows have a value.

    Args:
        title: Above it.
        rows: Moment, value and its interval, and the window it is of.
        marks: Releases.
        zero: Whether the picture begins at zero where no value is below it.
    """
    known = [(end, value, low, high, item) for end, value, low, high, item in rows if value is not None]
    if len(known) < 2:
        return None
    values = [number for row in known for number in row[1:4] if number is not None]
    place = Scale([row[0] for row in rows], values, zero)
    return Trend(
        title=title,
        low=number(place.low),
        high=number(place.high),
        first=f"{rows[0][0]:%-d %b}",
        last=f"{rows[-1][0]:%-d %b %Y}",
        points=[
            Point(place.x(end), place.y(value), f"{end:%-d %b}: {number(value)}", TONES.get(item.verdict, "waiting"))
            for end, value, _, _, item in known
        ],
        band=[
            (place.x(end), place.y(low), place.y(high))
            for end, _, low, high, _ in known
            if low is not None and high is not None
        ],
        marks=[Mark(place.x(moment), version) for moment, version in marks],
        now=number(known[-1][1]),
    )


def weeks_of(outcomes: Outcomes, version: str) -> Trend | None:
    """Events of each week beside those that a version's scores foretold."""
    own = next((found for found in outcomes.versions if found.version == version), None)
    weeks = [week for week in own.weeks if week.expected > 0] if own is not None else []
    if len(weeks) < 2:
        return None
    ends = [week.end for week in weeks]
    place = Scale(ends, [number for week in weeks for number in (float(week.observed), week.expected)], True)
    return Trend(
        title="Events by week",
        low=number(place.low),
        high=number(place.high),
        first=f"{ends[0]:%-d %b}",
        last=f"{ends[-1]:%-d %b %Y}",
        points=[
            Point(place.x(week.end), place.y(week.observed), f"week to {week.end:%-d %b}: {week.observed:,}")
            for week in weeks
        ],
        beside=[Point(place.x(week.end), place.y(week.expected), number(week.expected)) for week in weeks],
        now=f"{weeks[-1].observed:,} and {weeks[-1].expected:,.1f} foretold",
        key=("observed", "foretold"),
    )


class Scale:
    """Places of moments and values in a picture."""

    def __init__(self, moments: Sequence[datetime], values: Sequence[float], zero: bool) -> None:
        """Take the ends of both.

        Args:
            moments: In any order.
            values: Likewise, not empty.
            zero: Whether it begins at zero where no value is below it.
        """
        times = [moment.astimezone(UTC).timestamp() for moment in moments]
        self._first, self._length = min(times), max(max(times) - min(times), 1.0)
        low, high = min(values), max(values)
        margin = (HEADROOM - 1) * (high - low or abs(high) or 1.0)
        self.low = min(0.0, low - margin if low < 0 else 0.0) if zero else low - margin
        self.high = high + margin

    def x(self, moment: datetime) -> float:
        """From the left."""
        return SIZE * (moment.astimezone(UTC).timestamp() - self._first) / self._length

    def y(self, value: float) -> float:
        """From above."""
        return SIZE * (self.high - value) / (self.high - self.low)
