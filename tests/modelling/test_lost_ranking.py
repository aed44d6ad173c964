"""A ranking that is lost: noticed by each week's events, before horizons are over, and seldom by mistake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kfp_lifecycle.components.monitoring.decide_remedy.decision import decide
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Week, lost, measure, weeks_at_risk
from kfp_lifecycle.uncertainty.rank_scan import Evidence, evidence, limit, scan, spans
from tests.modelling.remedies import UNTIL, drift, world
from tests.modelling.remedies import evidence as of_world

RUN_LENGTH = 104
Floats = NDArray[np.float64]


def week(random: np.random.Generator, rows: int, *, level: float = 1.0, gone: float = 0.0, rate: float = 0.05) -> Week:
    """Scores that are calibrated but for the level of events' hazards, of whom a part no longer follows them."""
    score = 1 / (1 + (1 / rate - 1) * np.exp(0.5 - random.standard_normal(rows)))
    chance = 1 - (1 - (1 - gone) * score - gone * score.mean()) ** level
    event = (random.random(rows) < chance).astype(float)
    return Week(datetime(2026, 6, 1, tzinfo=UTC), score, score, event, np.arange(rows).astype(object))


def deviations(rows: int, weeks: int, **how: float) -> Floats:
    """Of weeks with events, in standard errors."""
    random = np.random.default_rng(0)
    found = [week(random, rows, **how).evidence for _ in range(weeks)]
    return np.array([item.deviation / np.sqrt(item.variance) for item in found if item.variance > 0])


@pytest.mark.parametrize("rows", [40, 200])
@pytest.mark.parametrize("level", [0.5, 2.0])
def test_evidence_is_standard_normal_however_few_events_there_are_and_whatever_their_level(
    rows: int, level: float
) -> None:
    """Two events a week, and ten, half or twice as many as scores foretell."""
    found = deviations(rows, 1_000, level=level)
    assert abs(found.mean()) < 0.12
    assert 0.9 < found.std() < 1.1
    assert 0.01 < (found < -1.96).mean() < 0.04, "of a normal distribution 2.5%"


def test_evidence_of_frequent_events_is_standard_normal_too() -> None:
    found = deviations(100, 1_000, rate=0.5)
    assert abs(found.mean()) < 0.12
    assert 0.9 < found.std() < 1.1


def test_no_event_nothing_but_events_and_equal_scores_say_nothing() -> None:
    score = np.array([0.1, 0.2, 0.3])
    nothing = Evidence(0.0, 0.0)
    assert evidence(score, score, np.zeros(3)) == nothing
    assert evidence(score, score, np.ones(3)) == nothing
    assert evidence(np.full(3, 0.2), score, np.array([0.0, 0.0, 1.0])) == nothing
    assert scan([nothing, nothing]).deviation == 0


def test_an_event_of_the_lowest_score_counts_no_more_than_a_bound() -> None:
    """Who was given next to no chance: a few scores that are far off decide nothing."""
    score = np.append(1e-12, np.linspace(0.01, 0.1, 400))
    found = evidence(score, score, (score == 1e-12).astype(float))
    assert -3.2 < found.deviation / np.sqrt(found.variance) < -2.9


def test_the_span_that_speaks_most_against_a_ranking_says_since_when() -> None:
    assert spans(12) == [12, 6, 3, 1]
    as_promised, worse = Evidence(1.0, 16.0), Evidence(-9.0, 16.0)
    found = scan([as_promised] * 9 + [worse] * 3)
    assert found.first == 9
    assert found.deviation == pytest.approx(-27 / np.sqrt(48))
    # Four spans, each with its part of one false alarm in two years.
    assert limit(12, RUN_LENGTH) == pytest.approx(2.82, abs=0.005)


@pytest.mark.parametrize("rows", [40, 320])
def test_a_ranking_as_promised_alarms_no_more_often_than_is_promised(rows: int) -> None:
    """Twenty versions of two years each, with two and sixteen events a week."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        weeks = [week(random, rows, level=random.uniform(0.5, 2)) for _ in range(104)]
        alarms += any(lost(weeks[max(0, now - 11) : now + 1], RUN_LENGTH) is not None for now in range(104))
    assert alarms <= 20 * (1 - np.exp(-104 / RUN_LENGTH))


@pytest.mark.parametrize(
    ("rows", "gone", "within"), [(200, 1.0, 3), (320, 0.5, 5), (1280, 0.5, 2), (1280, 0.2, 7), (5000, 0.2, 2)]
)
def test_a_lost_ranking_is_noticed_in_weeks(rows: int, gone: float, within: int) -> None:
    """Ten to two hundred and fifty events a week, of whom a part no longer follows the scores; as many come."""
    random = np.random.default_rng(2)
    noticed = []
    for _ in range(15):
        weeks = [week(random, rows) for _ in range(12)] + [week(random, rows, gone=gone) for _ in range(within)]
        noticed.append(any(lost(weeks[now : now + 12], RUN_LENGTH) is not None for now in range(1, within + 1)))
    assert np.mean(noticed) > 0.75


def test_fewer_than_five_events_decide_nothing() -> None:
    random = np.random.default_rng(3)
    one = week(random, 400)
    worst = np.isin(np.argsort(np.argsort(one.score)), range(4)).astype(float)
    weeks = [Week(one.start, one.score, one.chance, worst, one.entity)]
    assert scan([item.evidence for item in weeks]).deviation < -limit(1, RUN_LENGTH)
    assert lost(weeks, RUN_LENGTH) is None
    assert measure(weeks) is None
    assert lost([], RUN_LENGTH) is None


def test_it_is_noticed_before_any_horizon_is_over_and_the_same_weeks_without_it_are_quiet() -> None:
    since = UNTIL - timedelta(weeks=3)

    def mixed_up(table: pd.DataFrame, start: datetime) -> NDArray[np.float64]:
        # As many events, of anybody.
        score = table["score"].to_numpy()
        return score.mean() / score if start >= since else np.ones(len(score))

    found = world(mixed_up, acts_from=1.0)
    said = decide(of_world(found, drift()))
    assert (said.verdict, said.remedy, said.since) == ("model is worse", "retrain", since)
    assert "events since 2026-06-08" in said.sentence
    outcomes, table, _ = world(lambda table, _: np.ones(len(table)), acts_from=1.0)
    weeks = weeks_at_risk(table, outcomes, "1")
    assert lost(weeks, RUN_LENGTH) is None
    # The weeks are the chart's own.
    [version] = outcomes.versions
    assert [item.event.sum() for item in weeks] == [item.observed for item in version.weeks]
    assert [item.chance.sum() for item in weeks] == pytest.approx([item.expected for item in version.weeks], rel=1e-6)


def test_a_version_that_lost_its_ranking_where_the_one_before_did_not_is_rolled_back() -> None:
    released = UNTIL - timedelta(weeks=5)

    def only_the_new_one(table: pd.DataFrame, start: datetime) -> NDArray[np.float64]:
        score = table["score"].to_numpy()
        return np.where(table["version"] == "2", (score.mean() / score).clip(0, 20), 1.0)

    before = ("1", released - timedelta(weeks=8), UNTIL)
    said = decide(of_world(world(only_the_new_one, acts_from=1.0, versions=[before, ("2", released, UNTIL)]),
                           drift(version="2")))  # fmt: skip
    assert (said.verdict, said.remedy) == ("model is worse", "roll back")
    assert "in the same weeks version 1 reached 0." in said.sentence
