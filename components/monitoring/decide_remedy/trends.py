"""Trends over past windows: lines that a page draws, with releases and verdicts marked on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise

from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.monitoring.history import WindowRecord
from kfp_lifecycle.reports.charts import Chart, Point, Scale
from kfp_lifecycle.reports.formatting import measure, measured_title, number

TONES = {"broken data": "failed", "model is worse": "failed", "world moved": "warning", "keep": "passed"}


def trends_of(history: Sequence[WindowRecord], outcomes: Outcomes) -> list[Chart]:
    """The score, outcomes, ranking and money over past windows; each where there is something to draw.

    Args:
        history: The windows, oldest first, this one the last.
        outcomes: What is known of outcomes by now: its weeks reach back further than the history may.
    """
    marks = releases(history)
    found = [
        trend("Mean score", [(item.end, item.mean_score, None, None, item) for item in history], marks),
        weeks_of(outcomes, history[-1].version, marks),
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
        found.append(
            trend(
                measured_title(figure.title, figure.unit, figure.per),
                [
                    (end, known.value.value, known.value.low, known.value.high, item)
                    if known
                    else (end, None, None, None, item)
                    for end, known, item in rows
                ],
                marks,
                told=partial(measure, unit=figure.unit, per=figure.per, currency=outcomes.currency),
            )
        )
    return [item for item in found if item is not None]


def releases(history: Sequence[WindowRecord]) -> list[tuple[datetime, str]]:
    """When windows began to be judged by another version."""
    return [(now.end, now.version) for before, now in pairwise(history) if now.version != before.version]


Row = tuple[datetime, float | None, float | None, float | None, WindowRecord]


def trend(
    title: str,
    rows: Sequence[Row],
    marks: Sequence[tuple[datetime, str]],
    zero: bool = True,
    told: Callable[[float], str] = number,
) -> Chart | None:
    """A line with intervals; None where fewer than two windows have a value.

    Args:
        title: Above it.
        rows: Moment, value and its interval, and the window it is of.
        marks: Releases.
        zero: Whether the picture begins at zero where no value is below it.
        told: Puts a value into words.
    """
    known = [(end, value, low, high, item) for end, value, low, high, item in rows if value is not None]
    if len(known) < 2:
        return None
    values = [value for row in known for value in row[1:4] if value is not None]
    place = Scale([row[0] for row in rows], values, zero)
    return Chart(
        title=title,
        low=told(place.low),
        high=told(place.high),
        first=f"{rows[0][0]:%-d %b}",
        last=f"{rows[-1][0]:%-d %b %Y}",
        points=[
            Point(place.x(end), place.y(value), f"{end:%-d %b}: {told(value)}", TONES.get(item.verdict, "waiting"))
            for end, value, _, _, item in known
        ],
        band=[
            (place.x(end), place.y(low), place.y(high))
            for end, _, low, high, _ in known
            if low is not None and high is not None
        ],
        marks=place.marks((moment, f"version {version}") for moment, version in marks),
        zero=place.y(0.0) if place.low < 0 < place.high else None,
        now=told(known[-1][1]),
    )


def weeks_of(outcomes: Outcomes, version: str, marks: Sequence[tuple[datetime, str]]) -> Chart | None:
    """Events of each week beside those that a version's scores foretold, with the releases in these weeks."""
    own = next((found for found in outcomes.versions if found.version == version), None)
    weeks = [week for week in own.weeks if week.expected > 0] if own is not None else []
    if len(weeks) < 2:
        return None
    ends = [week.end for week in weeks]
    place = Scale(ends, [number for week in weeks for number in (float(week.observed), week.expected)], True)
    return Chart(
        title="Events by week",
        low=number(place.low),
        high=number(place.high),
        first=f"{ends[0]:%-d %b}",
        last=f"{ends[-1]:%-d %b %Y}",
        points=[
            Point(
                place.x(week.end),
                place.y(week.observed),
                f"week to {week.end:%-d %b}: {week.observed:,}, {week.expected:,.1f} foretold",
            )
            for week in weeks
        ],
        beside=[Point(place.x(week.end), place.y(week.expected)) for week in weeks],
        marks=place.marks((moment, f"version {version}") for moment, version in marks if ends[0] <= moment <= ends[-1]),
        now=f"{weeks[-1].observed:,} and {weeks[-1].expected:,.1f} foretold",
        key=("observed", "foretold"),
    )
