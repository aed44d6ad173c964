"""The chart of outcomes: its false alarms and delay on events whose rate is known, and when events are expected."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Segment
from kfp_lifecycle.components.monitoring.join_outcomes.labels import Followed, Timing, settled, weekly_events
from kfp_lifecycle.components.monitoring.join_outcomes.versions import Judging
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.uncertainty.cusum import cusum, log_likelihood_ratio, threshold_for

Floats = NDArray[np.float64]

RATIO, VARIATION, RUN_LENGTH = 1.5, 0.05, 520


def first_alarms(expected: float, ratio: float | Floats, weeks: int, charts: int, seed: int = 0) -> list[int | None]:
    """The week of each chart's first alarm, where the real rate is `ratio` times the expected one."""
    random = np.random.default_rng(seed)
    found = []
    for events in random.poisson(expected * ratio, (charts, weeks)):
        alarm = cusum(events.tolist(), [expected] * weeks, RATIO, VARIATION, RUN_LENGTH).alarm
        found.append(None if alarm is None else alarm.at + 1)
    return found


@pytest.mark.parametrize("expected", [2.0, 16.0, 200.0])
def test_calibrated_scores_alarm_no_more_often_than_is_promised(expected: float) -> None:
    """Ten charts of ten years each, in every one of which one false alarm would be allowed."""
    alarms = first_alarms(expected, ratio=1.0, weeks=RUN_LENGTH, charts=40)
    assert sum(alarm is not None for alarm in alarms) <= 40 * (1 - np.exp(-1))


def test_weeks_whose_level_wobbles_by_itself_alarm_less_than_once_a_year() -> None:
    """A thousand events a week, about a level that is off by a tenth, up or down, for some weeks at a time."""
    random = np.random.default_rng(0)
    charts, weeks, stays = 100, 104, 0.8
    level = np.zeros((charts, weeks))
    for week in range(1, weeks):
        moved = 0.1 * np.sqrt(1 - stays**2) * random.standard_normal(charts)
        level[:, week] = stays * level[:, week - 1] + moved
    alarms = first_alarms(1_000.0, np.exp(level), weeks, charts)
    watched = sum(weeks if alarm is None else alarm for alarm in alarms) / 52
    assert sum(alarm is not None for alarm in alarms) / watched < 0.75
    assert first_alarms(1_000.0, 1.5, weeks=1, charts=50) == [1] * 50


def test_a_price_rise_is_noticed_within_two_weeks() -> None:
    """30-day churn goes from 4.5% to 9.7%, which is 2.2 times the hazard, of sixteen events a week."""
    ratio = float(np.log1p(-0.097) / np.log1p(-0.045))
    assert ratio == pytest.approx(2.2, abs=0.05)
    alarms = first_alarms(expected=16.0, ratio=ratio, weeks=8, charts=200)
    assert all(alarm is not None for alarm in alarms)
    assert np.mean([alarm is not None and alarm <= 2 for alarm in alarms]) > 0.9


def test_events_that_stay_away_are_noticed_too() -> None:
    chart = cusum([16, 17, 2, 1, 0], [16.0] * 5, RATIO, VARIATION, RUN_LENGTH)
    assert chart.alarm is not None
    assert (chart.alarm.direction, chart.alarm.since) == ("fewer", 2)


def test_a_small_and_lasting_error_of_calibration_is_no_alarm() -> None:
    assert cusum([18] * 300, [16.0] * 300, RATIO, VARIATION, RUN_LENGTH).alarm is None


@pytest.mark.parametrize("variation", [0.0, VARIATION, 0.3])
def test_the_bound_holds_for_any_number_of_events_of_any_probability(variation: float) -> None:
    """The mean of the likelihood ratio is 1 for counts that vary as is usual, and at most 1 for those of chance."""
    shape = 1 / variation**2 if variation else 1e9
    counts = np.arange(2_000)
    for ratio, expected in itertools.product((RATIO, 1 / RATIO), (0.3, 16.0, 200.0)):
        rows = [int(expected / chance) + 1 for chance in (0.01, 0.1, 1.0)]
        by_chance = [stats.binom(n, expected / n) for n in rows]
        weights = [log_likelihood_ratio(count, expected, ratio, variation) for count in counts]
        means = [
            np.exp(counted.logpmf(counts) + weights).sum()
            for counted in (stats.nbinom(shape, shape / (shape + expected)), *by_chance)
        ]
        assert means[0] == pytest.approx(1, abs=1e-3)
        assert max(means[1:]) <= 1 + 1e-9
    assert threshold_for(RUN_LENGTH) == pytest.approx(np.log(2 * RUN_LENGTH))


def test_the_weight_of_a_week_is_the_ratio_of_negative_binomial_probabilities() -> None:
    shape = 1 / VARIATION**2
    for count in (3, 16, 40):
        found = [stats.nbinom(shape, shape / (shape + mean)).logpmf(count) for mean in (16.0, 24.0)]
        assert log_likelihood_ratio(count, 16.0, 1.5, VARIATION) == pytest.approx(found[1] - found[0])


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
