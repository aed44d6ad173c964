"""Observed-minus-expected CUSUM of events: has their rate moved away from what was predicted?

Page 1954, "Continuous inspection schemes"; for counts Lucas 1985, "Counted data CUSUMs"; adjusted for each subject's
own risk Steiner et al. 2000, "Monitoring surgical performance using risk-adjusted cumulative sum charts"; as events
come, before outcomes are complete, Biswas and Kalbfleisch 2008, "A risk-adjusted CUSUM in continuous time based on the
Cox model".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["more", "fewer"]


@dataclass(frozen=True)
class Alarm:
    """Where a chart passed its threshold."""

    at: int
    """Position of the interval at whose end it did."""
    since: int
    """Position of the first interval of the change: since then the chart has not been at zero (Page's estimate)."""
    direction: Direction


@dataclass(frozen=True)
class Chart:
    """The two sides of a CUSUM after each interval, and its first alarm."""

    more: list[float]
    """For more events than expected."""
    fewer: list[float]
    """For fewer."""
    threshold: float
    alarm: Alarm | None


def threshold_for(in_control: float) -> float:
    """The threshold of each side at which both together alarm by mistake once in `in_control` intervals at the most.

    A side's average run length is at least the exponential of its threshold (Lorden 1971, "Procedures for reacting to a
    change in distribution"): what it adds up is the logarithm of a likelihood ratio. By the weights that are used here
    (Poisson's) that ratio has a mean of at most 1 for an event of any probability: so the bound holds for rare and for
    frequent events, and for any course of what is expected, as long as scores are calibrated. It is a bound: the real
    run length is longer.
    """
    return math.log(2 * in_control)


def cusum(observed: Sequence[float], expected: Sequence[float], ratio: float, in_control: float) -> Chart:
    """Chart the events of successive intervals against those expected.

    After each interval a side is max(0, itself + observed · log r - (r - 1) · expected), r being `ratio` for more
    events and its inverse for fewer: a smaller deviation than about half of it pulls the side back to zero, and so is
    taken for calibration's own error.

    Args:
        observed: Events of each interval.
        expected: Sum over those at risk of each one's probability in the interval, given that it had none before.
        ratio: Observed by expected, above 1, that is to be noticed as soon as possible; its inverse likewise.
        in_control: Intervals between false alarms, at least.
    """
    threshold = threshold_for(in_control)
    ratios: dict[Direction, float] = {"more": ratio, "fewer": 1 / ratio}
    sides: dict[Direction, list[float]] = {"more": [], "fewer": []}
    begun: dict[Direction, int] = {"more": 0, "fewer": 0}
    alarm = None
    for position, (events, expectation) in enumerate(zip(observed, expected, strict=True)):
        for direction, factor in ratios.items():
            before = sides[direction][-1] if position else 0.0
            if before == 0:
                begun[direction] = position
            side = max(0.0, before + events * math.log(factor) - (factor - 1) * expectation)
            sides[direction].append(side)
            if alarm is None and side > threshold:
                alarm = Alarm(position, begun[direction], direction)
    return Chart(sides["more"], sides["fewer"], threshold, alarm)
