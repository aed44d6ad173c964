"""One verdict of all that monitoring found: broken data, the world moved, the model is worse; and what pays."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import CallerLeftOut
from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Outcomes, Segment
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.skew import FeatureSkew
from kfp_lifecycle.components.monitoring.decide_remedy.adjusting import (
    alarm_after_adjustment,
    settled_since,
)
from kfp_lifecycle.components.monitoring.decide_remedy.cases import standing_alarm
from kfp_lifecycle.components.monitoring.decide_remedy.decision import decide
from kfp_lifecycle.components.monitoring.decide_remedy.followed import followed
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import expected_area
from kfp_lifecycle.components.monitoring.decide_remedy.worth import choose, worth_of_remedies
from kfp_lifecycle.config.training import Costs
from tests.modelling.remedies import AS_COMPUTED, HORIZON, START, UNTIL, drift, evidence, times, world

RISEN = UNTIL - timedelta(weeks=4)
COSTS = Costs(saved=240, action=6, success_rate=0.3)
PAYS = 6 / (240 * 0.3)


World = tuple[Outcomes, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def quiet() -> World:
    return world(times(1.0, START), acts_from=PAYS)


@pytest.fixture(scope="module")
def risen() -> World:
    return world(times(2.2, RISEN), acts_from=PAYS, rows=12_000)


def test_nothing_unusual_and_outcomes_as_foretold_keep_the_model(quiet: World) -> None:
    found = decide(evidence(quiet, drift()))
    assert (found.verdict, found.remedy, found.since, found.gains) == ("keep", "nothing", None, [])
    assert found.sentence.startswith("Keep: none of 26 features")
    assert "outcomes are as foretold" in found.sentence
    # Before any horizon is over it is told how they come so far.
    outcomes, table, features = quiet
    early = outcomes.model_copy(update={"versions": [outcomes.versions[0].model_copy(update={"complete": 0})]})
    told = decide(evidence((early, table, features), drift())).sentence
    assert re.search(r", and so far [\d,]+ events came where [\d,]+\.\d were foretold\.$", told)
    # Whose rows would have decided is said in the same sentence.
    who = CallerLeftOut(caller="3f2a", rows=90, share=0.2, sentence="Caller 3f2a is left out.")
    told = decide(evidence(quiet, drift().model_copy(update={"caller": who})))
    assert told.sentence == f"{found.sentence} Caller 3f2a is left out."
    assert [reason.source for reason in told.reasons][:2] == ["drift", "caller"]


def took_over(ratio: float, weeks: int, seed: int = 0) -> World:
    """A version that took over so many weeks ago from one of which three times as many events came as foretold."""
    released = UNTIL - timedelta(weeks=weeks)
    versions = [("1", START - timedelta(days=30), released), ("2", released, UNTIL)]

    def hazards(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(table["version"] == "2", ratio, 3.0 if week >= released - timedelta(weeks=1) else 1.0)

    return world(hazards, versions=versions, acts_from=PAYS, rows=20_000, seed=seed)


def test_a_version_that_was_adjusted_is_followed_more_closely_for_a_horizon() -> None:
    wore_off = evidence(took_over(0.7, weeks=1), drift(version="2"))
    # The chart, which has to be quiet for years, says nothing yet.
    assert decide(wore_off).verdict == "keep"
    found = decide(dataclasses.replace(wore_off, adjusted=lambda: True))
    assert found.verdict == "world moved"
    assert found.sentence.startswith("The world moved: churned came ")
    assert found.adjustment is not None
    assert found.adjustment.observed < 0.9 * found.adjustment.expected
    # Where nothing is gained by what is known so far, nothing is asked for.
    idle = evidence(took_over(0.8, weeks=2), drift(version="2"))
    assert decide(dataclasses.replace(idle, adjusted=lambda: True)).verdict == "keep"
    later = wore_off.outcomes.model_copy(update={"until": UNTIL + timedelta(weeks=5)})
    assert wore_off.own is not None
    assert alarm_after_adjustment(wore_off.own, later) is None


def test_an_adjusted_version_that_is_right_is_left_alone() -> None:
    for seed in range(6):
        right = evidence(took_over(1.0, weeks=3, seed=seed), drift(version="2"))
        assert decide(dataclasses.replace(right, adjusted=lambda: True)).verdict == "keep"


def test_an_alarm_about_outcomes_has_consequences_though_no_feature_moved(risen: World) -> None:
    found = decide(evidence(risen, drift()))
    assert (found.verdict, found.remedy, found.since) == ("world moved", "recalibrate", RISEN)
    assert found.sentence.startswith("The world moved: churned came ")
    assert f"since {RISEN:%Y-%m-%d}: recalibrate the scores (it would have been worth +" in found.sentence
    gains = {gain.remedy: gain.per_1000 for gain in found.gains}
    # What acting is worth to those of whom it only now pays; every other day of theirs is lost.
    assert gains["recalibrate"].low > 0
    assert found.currency == "USD"


def test_a_recalibration_is_measured_for_a_training_to_carry_out_without_a_label(risen: World) -> None:
    given = evidence(risen, drift())
    found = decide(given).adjustment
    assert found is not None
    assert (found.remedy, found.version, found.since, found.until) == ("recalibrate", "1", RISEN, UNTIL)
    assert found.hazard_ratio == pytest.approx(2.2, abs=0.4)
    assert found.hazard_ratio == found.observed / found.expected
    assert found.threshold == PAYS
    assert found.gain.low > 0
    # A project whose threshold is not that of its costs has not been judged by what it does.
    assert decide(dataclasses.replace(given, by_costs=False)).adjustment is None


def test_of_a_shock_that_wears_off_it_is_measured_how_things_are_now() -> None:
    def fading(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.full(len(table), 1.0 if week < RISEN else 9.0 if week < UNTIL - timedelta(weeks=2) else 3.0)

    found = decide(evidence(world(fading, acts_from=PAYS, rows=20_000), drift()))
    assert found.adjustment is not None
    assert found.adjustment.since == UNTIL - timedelta(weeks=2)
    assert found.adjustment.hazard_ratio == pytest.approx(3, abs=0.6)


def test_of_a_shock_that_wears_off_it_is_told_where_it_is_now() -> None:
    def fading(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.full(len(table), 1.0 if week < RISEN else 6.0 if week < UNTIL - timedelta(weeks=2) else 2.0)

    found = decide(evidence(world(fading, acts_from=PAYS, rows=12_000), drift()))
    assert found.verdict == "world moved"
    assert found.since == RISEN
    assert f", since {RISEN:%Y-%m-%d}; it wears off: " in found.sentence
    assert f", since {UNTIL - timedelta(weeks=2):%Y-%m-%d}: " in found.sentence


def test_a_change_that_lasts_does_not_wear_off() -> None:
    for seed in range(5):
        lasting = evidence(world(times(3.0, RISEN), rows=12_000, seed=seed), drift())
        alarm = standing_alarm(lasting.own)
        assert alarm is not None
        assert lasting.own is not None
        assert settled_since(lasting.own.weeks, alarm) == alarm.since


def test_an_alarm_is_no_reason_to_wait_until_a_remedy_is_shown_to_pay() -> None:
    # Too few events to say what is gained, and enough to say that scores are off.
    lately = UNTIL - timedelta(weeks=2)
    given = evidence(world(times(2.4, lately), acts_from=PAYS, rows=1_200), drift(), features=True)
    found = decide(given)
    assert all(gain.per_1000.low < 0 < gain.per_1000.high for gain in found.gains)
    assert (found.verdict, found.remedy) == ("world moved", "recalibrate")
    assert "recalibrate the scores, which are off beyond chance; that it pays is not shown so far (" in found.sentence
    assert found.adjustment is not None
    assert found.adjustment.level_is_off
    # Where costs are not what decides: a candidate learns from more than these rows, and has to be worth it.
    found = decide(dataclasses.replace(given, by_costs=False))
    assert (found.verdict, found.remedy, found.adjustment) == ("world moved", "retrain", None)
    assert "retrain; that it pays is not shown so far (at best it would have been worth +" in found.sentence
    assert found.sentence.endswith("and a candidate has to show it.")


def test_a_group_whose_outcomes_are_off_is_named_and_has_consequences(quiet: World) -> None:
    outcomes, table, features = quiet
    alarm = OutcomeAlarm(
        direction="more", noticed=UNTIL, since=RISEN, observed=66, expected=30.1, sentence="more events than foretold"
    )

    def with_group(more: float) -> World:
        group = Segment(group="plan: basic", observed=90, expected=50.0, more=more, fewer=0.0, alarm=alarm)
        versions = [outcomes.versions[0].model_copy(update={"segments": [group]})]
        return outcomes.model_copy(update={"versions": versions}), table, features

    found = decide(evidence(with_group(9.0), drift()))
    assert found.verdict == "world moved"
    assert found.sentence.startswith(
        f"The world moved: churned came 66 times where version 1 foretold 30.1 for plan: basic, since {RISEN:%Y-%m-%d}"
    )
    # The chart has come back to zero since.
    assert decide(evidence(with_group(0.0), drift())).verdict == "keep"


def test_broken_data_is_repaired_whatever_outcomes_say(risen: World) -> None:
    said = drift("broken data", "repair", sentence="is missing: 0.0% → 100.0%", fault="missing", since=RISEN)
    found = decide(evidence(risen, said))
    assert (found.verdict, found.remedy, found.since) == ("broken data", "repair", RISEN)
    assert found.sentence == said.sentence
    # What outcomes say is told all the same.
    assert any(reason.sentence.startswith("More events than version 1") for reason in found.reasons)


def test_features_that_are_served_otherwise_than_learned_are_broken_data_though_none_drifted(risen: World) -> None:
    since = UNTIL - timedelta(days=3)
    tenure = FeatureSkew(feature="tenure_days", differing=180, logged="412", computed="31", since=since)
    skew = AS_COMPUTED.model_copy(
        update={
            "differences": [tenure],
            "skewed": ["tenure_days"],
            "sentence": "tenure_days was served otherwise than the training path computes it in 180 of 200 requests.",
        }
    )
    found = decide(evidence(risen, drift(), skew=skew))
    assert (found.verdict, found.remedy, found.since) == ("broken data", "repair", since)
    assert found.sentence.startswith("Broken data: tenure_days was served otherwise")
    assert found.sentence.endswith("learn nothing from this window.")


def test_where_who_is_at_risk_has_changed_retraining_pays_more_than_recalibrating() -> None:
    def those_with_a_high_x(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where((week >= RISEN - timedelta(weeks=4)) & (table["x"] > 1), 8.0, 1.0)

    found = world(those_with_a_high_x, acts_from=PAYS)
    learned = decide(evidence(found, drift(), features=True))
    assert (learned.verdict, learned.remedy) == ("world moved", "retrain")
    gains = {gain.remedy: gain.per_1000.value for gain in learned.gains}
    assert gains["retrain"] > gains["recalibrate"]
    # What has to be learned waits for labels, and has no measure to be carried out by.
    assert learned.adjustment is None
    # Where features are not logged nobody can know that.
    assert "retrain" not in {gain.remedy for gain in decide(evidence(found, drift())).gains}


def test_while_no_label_since_the_change_is_known_a_retraining_waits_and_what_pays_is_done() -> None:
    def those_with_a_high_x(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(week >= RISEN, np.where(table["x"] > 1, 20.0, 1.3), 1.0)

    found = decide(evidence(world(those_with_a_high_x, acts_from=PAYS, rows=20_000), drift(), features=True))
    gains = {gain.remedy: gain.per_1000.value for gain in found.gains}
    assert gains["retrain"] > gains["recalibrate"] > 0
    assert found.remedy != "retrain"
    assert "; a retraining, worth +" in found.sentence
    assert found.adjustment is not None
    assert found.adjustment.remedy == found.remedy


def test_a_decline_that_the_version_before_does_not_share_on_the_same_days_is_rolled_back() -> None:
    released = UNTIL - timedelta(weeks=5)

    def only_the_new_one(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(table["version"] == "2", 2.5, 1.0)

    found = world(
        only_the_new_one,
        versions=[("1", START, released), ("2", released, UNTIL)],
    )
    said = decide(evidence(found, drift(version="2")))
    assert (said.verdict, said.remedy, said.version) == ("model is worse", "roll back", "2")
    assert "on the same days it came" in said.sentence
    assert said.sentence.endswith("roll back to version 1.")


def test_a_decline_that_began_with_a_release_is_rolled_back_to_a_version_that_is_known_to_have_been_well() -> None:
    released = UNTIL - timedelta(weeks=5)

    def only_the_new_one(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(table["version"] == "2", 2.5, 1.0)

    versions = [("1", START - timedelta(days=HORIZON), released - timedelta(weeks=5)), ("2", released, UNTIL)]
    outcomes, table, features = world(only_the_new_one, versions=versions)
    said = decide(evidence((outcomes, table, features), drift(version="2")))
    assert said.remedy == "roll back"
    assert "it began with its release" in said.sentence
    # Of one that answered three requests it is not known.
    first = table.index[table["version"] == "1"][:3]
    few = table[(table["version"] == "2") | table.index.isin(first)].reset_index(drop=True)
    own, new = outcomes.versions
    weeks = [week.model_copy(update={"observed": 0, "expected": week.expected * 3 / own.spells}) for week in own.weeks]
    own = own.model_copy(update={"spells": 3, "complete": 3, "weeks": weeks})
    outcomes = outcomes.model_copy(update={"versions": [own, new]})
    said = decide(evidence((outcomes, few, features), drift(version="2")))
    assert (said.verdict, said.remedy) == ("world moved", "recalibrate")


def test_a_decline_that_both_versions_share_is_the_worlds() -> None:
    released = UNTIL - timedelta(weeks=5)
    found = world(
        times(2.5, released),
        versions=[("1", START, released), ("2", released, UNTIL)],
    )
    assert decide(evidence(found, drift(version="2"))).verdict == "world moved"


def test_a_ranking_below_what_scores_promise_is_a_worse_model_though_as_many_events_come() -> None:
    def turned_round(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        # As many events in all, and of whom fewest are foretold the most.
        return (table["score"].mean() / table["score"]).clip(0, 20).to_numpy()

    found = world(turned_round, acts_from=0.3)
    said = decide(evidence(found, drift()))
    assert (said.verdict, said.remedy) == ("model is worse", "retrain")
    assert "where its scores promise" in said.sentence


def test_actions_that_work_are_no_failing_model() -> None:
    def saved(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(table["decision"], 0.4, 1.0)

    found = world(saved, acts_from=0.08, rows=9_000)
    said = decide(evidence(found, drift()))
    assert [item.alarm.direction for item in found[0].versions if item.alarm] == ["fewer"]
    assert (said.verdict, said.remedy) == ("keep", "nothing")
    assert "only among those that were acted upon" in said.sentence


def test_a_held_out_group_speaks_for_all_who_would_be_acted_upon() -> None:
    outcomes, table, _ = world(times(1.0, START), acts_from=0.08)
    random = np.random.default_rng(5)
    held_out = table["decision"] & (random.uniform(size=len(table)) < 0.2)
    found = followed(table.assign(hold_out=held_out), outcomes, START)
    assert (found.weight[found.rows["decision"]] > 4).all()
    assert found.rows["hold_out"][found.rows["decision"]].all()
    assert found.weight.sum() == pytest.approx(len(followed(table, outcomes, START).rows), rel=0.05)


def test_features_that_moved_while_outcomes_hold_need_nothing(quiet: World) -> None:
    said = drift("world moved", "retrain", sentence="median 29 → 35", since=START + timedelta(weeks=2))
    found = decide(evidence(quiet, said))
    assert (found.verdict, found.remedy) == ("world moved", "nothing")
    assert "charge (median 29 → 35)" in found.sentence
    assert "the model holds" in found.sentence


def test_while_the_level_raises_no_alarm_it_is_no_reason_to_release_another_version() -> None:
    """A feature moved, and acting upon others would be shown to pay."""
    more = outcomes, table, _ = world(times(1.1, RISEN), acts_from=0.3, rows=20_000)
    moved = drift("world moved", "recalibrate", sentence="mean 31 → 42", since=RISEN)
    followed_since = followed(table.assign(place=np.arange(len(table))), outcomes, RISEN)
    worths = worth_of_remedies(followed_since, COSTS, None, seed=1, since=RISEN)
    assert choose(worths) is not None
    found = decide(evidence(more, moved))
    assert (found.verdict, found.remedy, found.adjustment) == ("world moved", "nothing", None)
    assert "the model holds" in found.sentence


def test_features_that_moved_before_any_outcome_is_known_are_left_to_the_rule_of_drift(quiet: World) -> None:
    said = drift("world moved", "retrain", sentence="median 29 → 35", since=UNTIL - timedelta(hours=2))
    found = decide(evidence(quiet, said))
    assert (found.verdict, found.remedy) == ("world moved", "retrain")
    assert found.sentence.endswith("retrain; what it is worth, outcomes do not say yet.")


def test_too_few_predictions_decide_nothing(quiet: World) -> None:
    found = decide(evidence(quiet, drift("undecided", "undecided")))
    assert (found.verdict, found.remedy) == ("undecided", "nothing")


def test_what_is_written_is_read_again(risen: World, tmp_path: Path) -> None:
    found = decide(evidence(risen, drift()))
    found.write(tmp_path)
    assert Remedy.read(tmp_path) == found
    assert found.metadata()["summary"] == found.sentence


def test_expected_and_observed_events_are_the_charts_own(quiet: World) -> None:
    outcomes, table, _ = quiet
    found = followed(table, outcomes, START)
    [version] = outcomes.versions
    assert found.ratio.observed == sum(week.observed for week in version.weeks)
    # The chart expects probabilities of weeks, this their hazards.
    assert found.ratio.expected == pytest.approx(sum(week.expected for week in version.weeks), rel=0.02)
    assert found.ratio.low < 1 < found.ratio.high


def test_where_nothing_changed_no_remedy_pays(quiet: World) -> None:
    outcomes, table, features = quiet
    found = followed(table.assign(place=np.arange(len(table))), outcomes, START)
    features = features.iloc[found.rows["place"]].reset_index(drop=True)
    worths = worth_of_remedies(found, COSTS, features, seed=1, since=START)
    assert [worth.remedy for worth in worths] == ["recalibrate", "set the threshold", "retrain"]
    assert choose(worths) is None


def test_scores_promise_the_area_that_they_have_where_they_are_calibrated() -> None:
    random = np.random.default_rng(3)
    score = random.beta(1, 9, 40_000)
    label = random.uniform(size=len(score)) < score
    order = np.argsort(score)
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    events = label.sum()
    area = (ranks[label].sum() - events * (events + 1) / 2) / (events * (len(score) - events))
    assert expected_area(score, score, int(events)) == pytest.approx(area, abs=0.01)
