"""A version beside the one before it: what the decisions of either are worth on the same predictions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.components.monitoring.decide_remedy import logged as logged_rows
from kfp_lifecycle.components.monitoring.decide_remedy.decision import decide
from kfp_lifecycle.components.monitoring.decide_remedy.logged import Logged
from kfp_lifecycle.components.monitoring.decide_remedy.predecessor import beside
from kfp_lifecycle.components.monitoring.decide_remedy.worth import worth_of_version_before
from kfp_lifecycle.config.locations import Locations
from tests.modelling.new_registry import new_registry
from tests.modelling.remedies import HORIZON, START, UNTIL, Hazards, drift, evidence, times, world
from tests.prediction_logs import logged, write_log
from tests.registered import make_champion
from tests.tiny_model import SITES, make

World = tuple[Outcomes, pd.DataFrame, pd.DataFrame]
PAYS = 6 / (240 * 0.3)
TAKEN_OVER = UNTIL - timedelta(weeks=9)
VERSIONS = (("1", START - timedelta(days=HORIZON), TAKEN_OVER), ("2", TAKEN_OVER, UNTIL))


def taken_over(acts_from: float, hazards: Hazards | None = None) -> World:
    """Version 2 follows version 1, scores as it did, and acts from a score of its own on."""
    return world(hazards or times(1.0, START), versions=VERSIONS, acts_from=acts_from, rows=9_000, seed=4)


def by_version_1(found: World) -> NDArray[np.bool_]:
    """Whom the version before would have acted upon: from where it pays."""
    return (found[1]["score"] >= PAYS).to_numpy(np.bool_)


@pytest.fixture(scope="module")
def worse() -> World:
    return taken_over(0.01)


def test_a_version_that_is_worth_less_than_the_one_before_is_rolled_back(worse: World) -> None:
    # Its scores are as good and as calibrated as ever: nothing but its decisions tells.
    assert all(item.alarm is None for item in worse[0].versions)
    assert decide(evidence(worse, drift(version="2"))).verdict == "keep"
    found = decide(evidence(worse, drift(version="2"), before=by_version_1(worse)))
    assert (found.verdict, found.remedy) == ("model is worse", "roll back")
    assert found.since == TAKEN_OVER
    assert found.sentence.startswith("The model is worse: by the costs version 2 was worth ")
    assert " USD less for 1,000 predictions than version 1 would have been (95% +" in found.sentence
    assert found.sentence.endswith("since 2026-04-27: roll back to version 1.")
    assert found.gains[0].remedy == "roll back"
    assert found.gains[0].per_1000.low > 0


def test_where_another_remedy_is_worth_more_than_to_roll_back_it_is_that(worse: World) -> None:
    # The version before was bad, too: it acted upon nearly as many.
    before = (worse[1]["score"] >= 0.03).to_numpy(np.bool_)
    found = decide(evidence(worse, drift(version="2"), before=before))
    assert (found.verdict, found.remedy) == ("model is worse", "set the threshold")
    assert ": set the decision's threshold anew (it would have been worth +" in found.sentence


def test_a_version_that_is_worth_more_is_kept_and_that_is_told() -> None:
    found = taken_over(PAYS)
    before = (found[1]["score"] >= 0.01).to_numpy(np.bool_)
    said = decide(evidence(found, drift(version="2"), before=before))
    assert said.verdict == "keep"
    [told] = [reason.sentence for reason in said.reasons if reason.source == "release"]
    assert told.startswith("By the costs version 2 was worth ")
    assert " USD more for 1,000 predictions than version 1 would have been (95% +" in told


def test_where_actions_seem_to_work_nobody_can_say_so() -> None:
    def saved(table: pd.DataFrame, week: datetime) -> NDArray[np.float64]:
        return np.where(table["decision"] & (table["version"] == "2"), 0.4, 1.0)

    found = taken_over(PAYS, saved)
    nobody = np.zeros(len(found[1]), np.bool_)
    said = decide(evidence(found, drift(version="2"), before=nobody))
    # Acting on those who were saved looks like money thrown away.
    assert said.verdict != "model is worse"
    [told] = [reason.sentence for reason in said.reasons if reason.source == "release"]
    assert " USD less for 1,000 predictions than version 1 would have been" in told
    assert told.endswith("so it looks when actions work. Leave a group alone to be certain.")


def test_few_who_are_decided_otherwise_about_say_nothing(worse: World) -> None:
    outcomes, _, _ = worse
    given = evidence(worse, drift(version="2"))
    found = given.followed("2", outcomes.start)
    acted = found.rows["decision"].eq(True).to_numpy().copy()
    acted[:50] = ~acted[:50]
    assert worth_of_version_before(found, acted, given.costs) is None
    assert beside(found, acted, "2", "1", given.costs) is None


def test_the_version_before_is_the_one_that_answered_last_not_one_that_was_rolled_back() -> None:
    first, second, third = (UNTIL - timedelta(weeks=back) for back in (10, 8, 6))
    found = world(
        times(1.0, START),
        versions=(
            ("1", START - timedelta(days=HORIZON), first), ("2", first, second), ("1", second, third),
            ("3", third, UNTIL),
        ), rows=500,
    )  # fmt: skip
    outcomes = found[0].model_copy(update={"versions": [found[0].versions[place] for place in (0, 1, 3)]})
    before = evidence((outcomes, *found[1:]), drift(version="3")).before
    assert before is not None
    assert before.version == "1"


@pytest.mark.slow
def test_what_the_version_before_would_have_decided_is_scored_on_the_features_that_were_logged(tmp_path: Path) -> None:
    registry = new_registry(tmp_path / "mlflow.db")
    for number, slope in (("1", 1.0), ("2", 3.0)):
        make(tmp_path / number, number, slope)
        assert make_champion(tmp_path / number, registry, "devices") == number
    at = datetime(2026, 5, 20, 9, tzinfo=UTC)
    heat = np.linspace(0, 60, 40)
    write_log(
        tmp_path / "log" / "devices",
        [
            logged({"temperature": value, "site": "north"}, at, version="2", entity=str(place), score=0.5)
            for place, value in enumerate(heat)
        ],
        [Feature("temperature", "numeric"), Feature("site", "categorical")],
    )
    outcomes = world(times(1.0, START), rows=10)[0].model_copy(
        update={"model": "devices", "start": at - timedelta(days=1), "until": at + timedelta(days=1)}
    )
    # The first row is another version's, and no business of anybody here.
    entities = ["0", *(str(place) for place in range(len(heat)))]
    table = pd.DataFrame({"version": ["1"] + ["2"] * len(heat), "entity": entities, "time": at, "decision": True})
    locations = Locations(
        tracking_uri=registry, dataset_remote="-", online_store="-", prediction_log=str(tmp_path / "log"),
        serving="local:-",
    )  # fmt: skip
    found = Logged(locations, outcomes, table, "2")
    score = 1 / (1 + np.exp(-(0.04 * heat + SITES["north"])))
    decided = found.decisions("1")
    assert decided is not None
    assert decided.tolist() == [False, *(score >= 0.3)]
    places = pd.Series(range(1, 1 + len(heat)))
    features = found.features(places)
    assert features is not None
    assert features.index.tolist() == places.tolist()
    assert features["temperature"].tolist() == pytest.approx(heat.tolist())
    # Of many rows those of some entities are read, the same ones each time.
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(logged_rows, "MOST_ROWS", 10)
        some = found.features(places)
        assert some is not None
        assert 3 <= len(some) <= 20
        pd.testing.assert_frame_equal(some, features.loc[some.index])
        pd.testing.assert_frame_equal(some, found.features(places))
    # Whom the registry does not know, nobody can ask.
    assert found.decisions("9") is None
    # What the log no longer has was decided as it was.
    gone = Logged(locations, outcomes, pd.concat([table, table.tail(1).assign(entity="gone")], ignore_index=True), "2")
    assert gone.decisions("1").tolist() == [*decided, True]
