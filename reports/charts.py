"""Line charts of values over time: drawn in percent of their size by `charts.html.j2`, so that they fit any screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

# A picture is so many units wide and high.
SIZE = 100.0
# What lies above the highest value.
HEADROOM = 1.08
# So much of a picture's width a letter of a label takes, where it is narrowest.
LETTER = 2.0


@dataclass(frozen=True)
class Point:
    """A value at a moment, in the picture's own units, from its upper left corner."""

    x: float
    y: float
    told: str = ""
    """For a reader who sees no picture."""
    tone: str = ""
    """Of its dot; empty: none is drawn."""


@dataclass(frozen=True)
class Mark:
    """A moment that a vertical line marks."""

    x: float
    word: str
    row: int = 0
    """Of the labels above the picture, from below."""

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where its label reaches: in the middle above its line, but never over the picture's edge."""
        width = LETTER * (len(self.word) + 1)
        left = min(max(self.x - width / 2, 0.0), max(SIZE - width, 0.0))
        return left, left + width

    @property
    def side(self) -> str:
        """The edge that its label is held against; empty in the middle."""
        left, right = self.ends
        return "left" if left <= 0 else "right" if right >= SIZE else ""


@dataclass(frozen=True)
class Chart:
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
    zero: float | None = None
    """Height of a line at zero."""
    now: str = ""
    """The newest value, in words."""
    key: tuple[str, str] = ("", "")
    """What the two lines are called, where there are two."""

    @property
    def rows(self) -> int:
        """Of labels."""
        return 1 + max((mark.row for mark in self.marks), default=-1)


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
        # Values that are nearly the same lie below the edge, too.
        floor = min(low, 0.0) if zero else low
        margin = (HEADROOM - 1) * (high - floor or abs(high) or 1.0)
        self.low = floor if zero and low >= 0 else floor - margin
        self.high = high + margin

    def x(self, moment: datetime) -> float:
        """From the left."""
        return SIZE * (moment.astimezone(UTC).timestamp() - self._first) / self._length

    def y(self, value: float) -> float:
        """From above."""
        return SIZE * (self.high - value) / (self.high - self.low)

    def marks(self, moments: Iterable[tuple[datetime, str]]) -> list[Mark]:
        """Marks of some moments, their labels in as many rows as they need to stand apart."""
        taken: list[float] = []
        placed = []
        for moment, word in sorted(moments, key=lambda item: item[0]):
            mark = Mark(self.x(moment), word)
            left, right = mark.ends
            row = next((row for row, end in enumerate(taken) if end <= left), len(taken))
            taken[row:] = [right, *taken[row + 1 :]]
            placed.append(Mark(mark.x, word, row))
        return placed
