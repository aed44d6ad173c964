"""Panels as plots: lines over time as SVG, with axes that a reader can read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kfp_lifecycle.monitoring.dashboards.panels import Panel
from kfp_lifecycle.monitoring.dashboards.sources import Line
from kfp_lifecycle.reports.formatting import duration, number, percent

# Drawn for a telephone's width, so that its words are read there too.
WIDTH, HEIGHT = 380.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 8.0, 8.0, 24.0
# Lines that a reader can tell apart; the largest of more are drawn.
MOST_LINES = 6
SHORTEST_SPAN_SECONDS = 60.0
SUFFIXES = {"ms": " ms", "per second": "/s", "cores": " cores"}
# Round steps of an axis, in each power of ten.
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line as it is drawn: its colour's place, its points, its newest value in words."""

    place: int
    legend: str
    points: str
    end: tuple[float, float]
    newest: str


@dataclass(frozen=True)
class Plot:
    """A panel as it is drawn."""

    panel: Panel
    curves: Sequence[Curve]
    left_out: int
    """Lines that are not drawn."""
    values: Sequence[Tick]
    times: Sequence[Tick]
    limit: Tick | None
    """The line beyond which an alert tells."""
    releases: Sequence[Tick]
    """What was released meanwhile."""
    summary: str
    """For who does not see it."""

    @property
    def frame(self) -> dict[str, float]:
        """Its size, and the place of its axes."""
        return {
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        }


def plot(panel: Panel, lines: Sequence[Line], limit: float | None, releases: Sequence[tuple[float, str]]) -> Plot:
    """Lay a panel out.

    Args:
        panel: The panel.
        lines: Its lines.
        limit: The value beyond which an alert tells, None where none does.
        releases: Times and names of releases; those within the plot's time are marked.
    """
    drawn = sorted(lines, key=lambda line: max((abs(v) for _, v in line.points), default=0.0), reverse=True)
    drawn = [line for line in drawn if line.points][:MOST_LINES]
    times = [at for line in drawn for at, _ in line.points]
    if not times:
        return Plot(panel, [], 0, [], [], None, [], f"{panel.title}: nothing yet")
    last = max(times)
    first = min([*times, last - SHORTEST_SPAN_SECONDS])
    values = [value for line in drawn for _, value in line.points]
    marks = _round_marks(min(0.0, *values), max(*values, 0.0 if limit is None else limit))
    low, high = marks[0], marks[-1]

    def across(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (at - first) / (last - first), 1)

    def down(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    curves = []
    for place, line in enumerate(sorted(drawn, key=lambda line: line.legend)):
        at, value = line.points[-1]
        points = " ".join(f"{across(at)},{down(value)}" for at, value in line.points)
        curves.append(Curve(place, line.legend, points, (across(at), down(value)), in_unit(value, panel.unit)))
    return Plot(
        panel,
        curves,
        len([line for line in lines if line.points]) - len(drawn),
        [Tick(down(value), _mark(value, panel.unit)) for value in marks],
        [Tick(across(at), _clock(at)) for at in (first, (first + last) / 2, last)],
        None if limit is None else Tick(down(limit), in_unit(limit, panel.unit)),
        [Tick(across(at), name) for at, name in releases if first <= at <= last],
        f"{panel.title}: " + "; ".join(f"{curve.legend} {curve.newest}" for curve in curves),
    )


def in_unit(value: float, unit: str) -> str:
    """A value as a reader wants to see it."""
    if unit == "share":
        return percent(value)
    if unit == "s":
        days = value / 86_400
        return f"{number(round(days, 1))} days" if days >= 2 else duration(value)
    if unit == "bytes":
        return f"{number(round(value / 2**20))} MiB"
    return f"{number(float(f'{value:.4g}'))}{SUFFIXES.get(unit, '')}"


def _mark(value: float, unit: str) -> str:
    """A round value beside its axis, where there is little room."""
    if unit in ("share", "s", "bytes", "ms"):
        return in_unit(value, unit)
    return f"{value:g}"


def _round_marks(low: float, high: float) -> list[float]:
    """Three to six round values that hold both."""
    if high <= low:
        high = low + 1
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * step for step in _STEPS if power * step >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
