"""Observed-minus-expected CUSUM of events: has their rate moved away from what was predicted?

Page 1954, "Continuous inspection schemes"; for counts Lucas 1985, "Counted data CUSUMs"; adjusted for each subject's
own risk Steiner et al. 2000, "Monitoring surgical performance using risk-adjusted cumulative sum charts"; as events
come, before outcomes are complete, Biswas and Kalbfleisch 2008, "A risk-adjusted CUSUM in continuous time based on the
Cox model". Counts that vary by more than chance are gamma-Poisson, that is negative binomial (Höhle and Paul 2008,
"Count data regression charts for the monitoring of surveillance time series").
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
    change in distribution"): what it adds up is the logarithm of a likelihood ratio. That ratio, of negative binomial
    counts, has a mean of 1 where weeks vary by themselves as is usual, and of at most 1 where they vary less, by chance
    alone, for events of any probability (it is convex in their number): so the bound holds for rare and for frequent
    events, and for any course of what is expected, as long as weeks are off independently of each other. It is a bound:
    the real run length is longer.
    """
    return math.log(2 * in_control)


def log_likelihood_ratio(observed: float, expected: float, ratio: float, variation: float) -> float:
    """How much more likely a count is where so many times as many are to be expected, as a logarithm.

    Of a negative binomial distribution, whose mean varies by itself, or of Poisson's, where it does not. However many
    events there are, they say no more than how far such a mean is from where it usually is.

    Args:
        observed: Events.
        expected: As many as are foretold.
        ratio: Above 0.
        variation: Coefficient of variation of the mean, at least 0.
    """
    if not variation:
        return observed * math.log(ratio) - (ratio - 1) * expected
    square = variation**2
    shrunk = math.log1p(square * expected) - math.log1p(square * ratio * expected)
    return observed * (math.log(ratio) + shrunk) + shrunk / square


def cusum(
    observed: Sequence[float], expected: Sequence[float], ratio: float, variation: float, in_control: float
) -> Chart:
    """Chart the events of successive intervals against those expected.

    After each interval a side is max(0, itself + the logarithm of the likelihood ratio), by `ratio` for more events and
    its inverse for fewer: a smaller deviation than about half of it pulls the side back to zero, and so is taken for
    calibration's own error.

    Args:
        observed: Events of each interval.
        expected: Sum over those at risk of each one's probability in the interval, given that it had none before.
        ratio: Observed by expected, above 1, that is to be noticed as soon as possible; its inverse likewise.
        variation: Coefficient of variation of an interval's level from what is expected, which is usual.
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
            side = max(0.0, before + log_likelihood_ratio(events, expectation, factor, variation))
            sides[direction].append(side)
            if alarm is None and side > threshold:
                alarm = Alarm(position, begun[direction], direction)
    return Chart(sides["more"], sides["fewer"], threshold, alarm)
