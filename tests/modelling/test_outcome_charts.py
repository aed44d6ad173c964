"""The chart of outcomes: its false alarms and delay on events whose rate is known, and when events are expected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Segment
from kfp_lifecycle.components.monitoring.join_outcomes.labels import Followed, Timing, settled, weekly_events
from kfp_lifecycle.components.monitoring.join_outcomes.versions import Judging
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.uncertainty.cusum import cusum, threshold_for

RATIO, RUN_LENGTH = 1.5, 520


def first_alarms(expected: float, ratio: float, weeks: int, charts: int, seed: int = 0) -> list[int | None]:
    """The week of each chart's first alarm, where the real rate is `ratio` times the expected one."""
    random = np.random.default_rng(seed)
    found = []
    for events in random.poisson(expected * ratio, (charts, weeks)):
        alarm = cusum(events.tolist(), [expected] * weeks, RATIO, RUN_LENGTH).alarm
        found.append(None if alarm is None else alarm.at + 1)
    return found


@pytest.mark.parametrize("expected", [2.0, 16.0, 200.0])
def test_calibrated_scores_alarm_no_more_often_than_is_promised(expected: float) -> None:
    """Ten charts of ten years each, in every one of which one false alarm would be allowed."""
    alarms = first_alarms(expected, ratio=1.0, weeks=RUN_LENGTH, charts=40)
    assert sum(alarm is not None for alarm in alarms) <= 40 * (1 - np.exp(-1))


def test_twice_as_many_events_are_noticed_within_two_weeks() -> None:
    alarms = first_alarms(expected=16.0, ratio=2.1, weeks=8, charts=200)
    assert all(alarm is not None for alarm in alarms)
    assert np.mean([alarm is not None and alarm <= 2 for alarm in alarms]) > 0.9


def test_events_that_stay_away_are_noticed_too() -> None:
    chart = cusum([16, 17, 2, 1, 0], [16.0] * 5, RATIO, RUN_LENGTH)
    assert chart.alarm is not None
    assert (chart.alarm.direction, chart.alarm.since) == ("fewer", 2)


def test_a_small_and_lasting_error_of_calibration_is_no_alarm() -> None:
    assert cusum([18] * 300, [16.0] * 300, RATIO, RUN_LENGTH).alarm is None


def test_the_bound_holds_for_frequent_events_too() -> None:
    """Events of probability one half vary less than Poisson's: the mean of the likelihood ratio is at most 1."""
    for chance in (0.01, 0.5, 1.0):
        for ratio in (RATIO, 1 / RATIO):
            assert (1 - chance + ratio * chance) * np.exp(-(ratio - 1) * chance) <= 1
    assert threshold_for(RUN_LENGTH) == pytest.approx(np.log(2 * RUN_LENGTH))


NAN = float("nan")
EVEN = np.array([0.0, 1.0])


def test_an_event_counts_in_its_week_and_nobody_is_expected_to_have_two() -> None:
    # A horizon of two weeks; one leaves in the first, one in none, the third began in the second week.
    followed = Followed(
        known=np.array([[0, 1, 1], [0, 0, 0], [NAN, 0, 0]], dtype=float),
        elapsed=np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]]),
    )
    timing = Timing("by the event", EVEN, EVEN, events=100)
    events, expected = weekly_events(followed, timing, np.full(3, 0.4))
    assert events.tolist() == [[True, False], [False, False], [False, False]]
    # Half of the probability in the first week; given none in it, 0.2 of the 0.8 that is left.
    np.testing.assert_allclose(expected, [[0.2, 0.0], [0.2, 0.25], [0.0, 0.2]])
    assert settled(followed, timing).tolist()[:2] == [1.0, 0.0]
    assert np.isnan(settled(followed, timing)[2])


def test_a_label_of_absence_is_followed_by_the_event_that_ends_it() -> None:
    """Who buys nothing for two weeks has the label: a purchase settles it early, and 1 - score is its probability."""
    followed = Followed(
        known=np.array([[1, 0, 0], [1, 1, 1], [NAN, 1, 1]], dtype=float),
        elapsed=np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]]),
    )
    timing = Timing("by its absence", EVEN, EVEN, events=100)
    events, expected = weekly_events(followed, timing, np.full(3, 0.6))
    assert events.tolist() == [[True, False], [False, False], [False, False]]
    np.testing.assert_allclose(expected, [[0.2, 0.0], [0.2, 0.25], [0.0, 0.2]])
    assert settled(followed, timing).tolist()[:2] == [0.0, 1.0]
    assert np.isnan(settled(followed, timing)[2])


def test_where_only_the_end_tells_whole_horizons_count_alone() -> None:
    followed = Followed(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([[0.0, 0.5, 1.0]] * 2))
    late = Timing("at the horizon's end", np.array([0.0, np.nextafter(1.0, 0.0), 1.0]), np.array([0.0, 0.0, 1.0]), 0)
    events, expected = weekly_events(followed, late, np.full(2, 0.4))
    assert events.tolist() == [[False, False], [False, True]]
    np.testing.assert_allclose(expected, [[0.0, 0.4], [0.0, 0.4]])


def segments(rates: dict[str, float], weeks: int = 12, rows: int = 6_000, seed: int = 0) -> tuple[Any, list[Segment]]:
    """The charts of a version's groups, each with so many times the events that were foretold: the alarm of all, and
    each group's own."""
    random = np.random.default_rng(seed)
    group = random.choice(list(rates), rows).astype(object)
    expected = np.full((rows, weeks), 0.005)
    rate = expected * np.array([rates[name] for name in group])[:, None]
    # Who belongs to no group is in no chart of one.
    group[:100] = None
    boundaries = [datetime(2026, 6, 1, tzinfo=UTC) + timedelta(weeks=week) for week in range(weeks + 1)]
    nothing: Any = None
    settings: Any = SimpleNamespace(monitoring=Monitoring())
    judging = Judging(
        settings, pd.DataFrame(), nothing, nothing, random.random((rows, weeks)) < rate, expected, {"plan": group},
        boundaries, nothing,
    )  # fmt: skip
    untreated = np.ones(rows, bool)
    alarm: OutcomeAlarm | None = judging._chart("1", untreated)[1]
    return alarm, judging._segments("1", untreated)


def test_a_group_is_noticed_that_leaves_while_all_together_are_as_foretold() -> None:
    alarm, found = segments({"basic": 2.0, "pro": 0.3})
    assert alarm is None
    assert [(item.group, item.alarm.direction if item.alarm else None) for item in found] == [
        ("plan: basic", "more"),
        ("plan: pro", "fewer"),
    ]
    assert found[0].alarm is not None
    assert "more events than version 1 foretells for plan: basic" in found[0].alarm.sentence


def test_groups_that_are_as_foretold_are_quiet_and_small_ones_have_no_chart() -> None:
    for seed in range(20):
        assert not any(item.alarm for item in segments({"basic": 1.0, "plus": 1.0, "pro": 1.0}, seed=seed)[1])
    assert segments({"basic": 1.0}, rows=150)[1] == [], "50 rows of 150 belong to a group, fewer than min_window"
