"""The controller alone: its stages, its verdict, and the way back."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.artifacts.verdict import ChampionOutcome, ScorePair
from kfp_lifecycle.components.deployment.release_model.targets import Candidate
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Answer, quantile
from kfp_lifecycle.serving.release import release as controller
from kfp_lifecycle.serving.release.comparison import Comparison
from kfp_lifecycle.serving.release.release import Observation, RolledBack, Undecided, judge, plan, release
from kfp_lifecycle.serving.release.replay import Replayed
from kfp_lifecycle.serving.release.traffic import Counts, Stage
from tests.modelling.verdicts import verdict as a_verdict

INPUT = ["temperature"]
INPUTS = [Feature(name, "numeric") for name in INPUT]
EXAMPLES = [Example(features={"temperature": 1.0}, score=0.5)]
REPLAYED = [
    Replayed({"inputs": [{"name": "device_id", "datatype": "BYTES", "shape": [1], "data": [key]}]}, frozenset(INPUT))
    for key in ("7", "8")
]


class Recorded:
    """Traffic that remembers what it was told, and invents what the versions answer and people ask."""

    addressable = True
    champion_stays = True
    counts_come_late = False
    candidate = "2"

    def __init__(
        self,
        champion: str | None = "1",
        score: float = 0.5,
        seconds: float = 0.001,
        people: dict[str, Counts] | None = None,
        status: int = 200,
        champion_status: int = 200,
        refuses_replayed: bool = False,
        misses: str = "",
    ) -> None:
        """Invent a candidate.

        Args:
            champion: Its champion, if there is one.
            score: Of the candidate.
            seconds: That its answers take.
            people: What each look finds that people asked of each version since the one before.
            status: Of the candidate's answers.
            champion_status: Of the champion's.
            refuses_replayed: Whether the candidate refuses what people asked before.
            misses: Features that the candidate finds no values of, where it looks them up.
        """
        self.champion = champion
        self.score, self.seconds, self.people = score, seconds, people or {}
        self.statuses = {self.candidate: status, "1": champion_status}
        self.refuses_replayed, self.misses = refuses_replayed, misses
        self.told: list[Any] = []
        self._counted: dict[str, Counts] = {}

    def start_candidate(self) -> None:
        self.told.append("start")

    def shift(self, stage: Stage) -> None:
        self.told.append(stage)

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        score = self.score if version == self.candidate else 0.1
        seconds = self.seconds if version == self.candidate else 0.001
        body = json.dumps({"outputs": [{"name": "score", "data": [score]}]})
        before = request in [item.request for item in REPLAYED]
        refused = self.refuses_replayed and before and version == self.candidate
        headers = {"x-missing-features": self.misses if version == self.candidate else ""} if before else {}
        return Answer(400 if refused else self.statuses[version], body, seconds, headers)

    def counts(self, version: str) -> Counts:
        before = self._counted.get(version, Counts())
        self._counted[version] = before.plus(self.people.get(version, Counts()))
        return self._counted[version]

    def promote(self) -> None:
        self.told.append("promote")

    def withdraw(self) -> None:
        self.told.append("withdraw")


# Of forty answers, none took longer than 10 ms, or all longer than 100.
FAST, SLOW = ({10.0: slow, 20.0: slow, 100.0: slow, 200.0: 0} for slow in (0, 40))


def deployment(**settings: Any) -> Deployment:
    return Deployment(**{"model": "devices", "requests_per_step": 10, "min_real_requests": 0, **settings})


def test_a_candidate_gets_traffic_once_it_has_opened_its_online_store() -> None:
    class Opening(Recorded):
        def ask(self, version: str, request: dict[str, Any]) -> Answer:
            if request["inputs"][0]["name"] != "device_id":
                return super().ask(version, request)
            self.told.append("key")
            # Whoever asks waits; at first for longer than anybody does, then until the server gives up on the store.
            return Answer((0, 503, 400)[self.told.count("key") - 1], "", 1.0, {})

    traffic = Opening()
    release(traffic, deployment(steps=[100]), INPUTS, EXAMPLES, entity_key="device_id")
    assert traffic.told == ["start", "key", "key", "key", Stage(100), "promote"]


def test_each_strategy_has_its_stages() -> None:
    assert plan(deployment(steps=[5, 100]), has_champion=True) == [Stage(5), Stage(100)]
    assert plan(deployment(strategy="blue_green"), has_champion=True) == [Stage(0), Stage(100)]
    assert plan(deployment(strategy="shadow"), has_champion=True) == [Stage(0, mirror=True), Stage(100)]
    assert plan(deployment(steps=[5, 100]), has_champion=False) == [Stage(100)]


def test_a_good_candidate_goes_through_all_stages() -> None:
    traffic = Recorded()
    steps = release(traffic, deployment(steps=[10, 100]), INPUTS, EXAMPLES)
    assert traffic.told == ["start", Stage(10), Stage(100), "promote"]
    assert [(step.percent, step.errors) for step in steps] == [(10, 0), (100, 0)]


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        (Recorded(score=0.6), "a score that is not"),
        (Recorded(score=float("nan")), "more server errors than the champion"),
        (Recorded(seconds=1.0), "99th percentile of its latency was 1000 ms"),
        (Recorded(seconds=0.1), "worse latency than the champion"),
        (Recorded(status=500), "more server errors than the champion"),
        (Recorded(status=400), "more refused requests than the champion"),
        (Recorded(people={"1": Counts(90), "2": Counts(10, server_errors=2)}), "more server errors than the champion"),
        (Recorded(people={"1": Counts(9), "2": Counts(1, client_errors=1)}), "more refused requests"),
        (Recorded(people={"1": Counts(40, slower=FAST), "2": Counts(40, slower=SLOW)}), "worse latency"),
    ],
)
def test_the_first_breach_ends_the_release_and_says_why(traffic: Recorded, reason: str) -> None:
    with pytest.raises(ContractViolation, match=reason):
        release(traffic, deployment(steps=[10, 100]), INPUTS, EXAMPLES)
    assert traffic.told == ["start", Stage(10), "withdraw"]


@pytest.mark.parametrize(
    "people",
    [
        {"1": Counts(90, server_errors=30), "2": Counts(10, server_errors=3)},
        {"1": Counts(90, client_errors=65), "2": Counts(10, client_errors=7)},
        {"1": Counts(90, slower=SLOW), "2": Counts(10, slower=FAST)},
    ],
)
def test_what_befalls_both_in_the_same_moments_is_no_fault_of_the_candidate(people: dict[str, Counts]) -> None:
    traffic = Recorded(people=people)
    [first, _] = release(traffic, deployment(steps=[10, 100]), INPUTS, EXAMPLES)
    assert traffic.told[-1] == "promote"
    assert first.real_requests > 0


def test_where_people_ask_a_stage_waits_for_some_of_them_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "LOOK_SECONDS", 0.0)
    traffic = Recorded(people={"1": Counts(9), "2": Counts(1)})
    steps = release(traffic, deployment(steps=[10, 100], min_real_requests=15), INPUTS, EXAMPLES)
    assert [(step.percent, step.real_requests) for step in steps] == [(10, 15), (100, 15)]
    assert steps[0].requests == 10 + 15


def test_a_stage_without_traffic_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Recorded()

    def shift(stage: Stage) -> None:
        traffic.people = {"1": Counts(10)} if stage.percent == 0 else {"2": Counts(10)}

    monkeypatch.setattr(traffic, "shift", shift)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    steps = release(traffic, deployment(strategy="blue_green", min_real_requests=5), INPUTS, EXAMPLES)
    assert [(step.percent, step.real_requests > 0) for step in steps] == [(0, False), (100, True)]


def test_where_nobody_asks_what_people_asked_before_stands_in_and_the_record_says_so() -> None:
    refusing = Recorded(refuses_replayed=True)
    with pytest.raises(RolledBack, match=r"with 10% of the traffic, more refused requests than the champion") as back:
        release(refusing, deployment(requests_per_step=20), INPUTS, EXAMPLES, replayed=REPLAYED)
    # Half of the release's own requests: the first twenty were no proof yet.
    assert [(step.real_requests, step.replayed_requests) for step in back.value.steps] == [(0, 20)]
    [first, _] = release(Recorded(), deployment(steps=[10, 100]), INPUTS, EXAMPLES, replayed=REPLAYED)
    assert (first.requests, first.real_requests, first.replayed_requests) == (10, 0, 5)


def test_features_that_the_candidate_alone_lacks_speak_against_it() -> None:
    lacking = Recorded(misses="temperature")
    with pytest.raises(RolledBack, match=r"missing features .* same entities, such as temperature, 20 to 0"):
        release(lacking, deployment(requests_per_step=40), INPUTS, EXAMPLES, replayed=REPLAYED)
    # A feature that the champion does not look up is no regression.
    release(Recorded(misses="pressure"), deployment(requests_per_step=40), INPUTS, EXAMPLES, replayed=REPLAYED)


def test_without_a_champion_nothing_is_replayed_since_nobody_knows_the_answers() -> None:
    [only] = release(Recorded(champion=None, refuses_replayed=True), deployment(), INPUTS, EXAMPLES, replayed=REPLAYED)
    assert only.replayed_requests == 0


def test_what_is_no_proof_and_too_much_to_go_on_with_ends_as_it_was_set() -> None:
    def doubtful() -> Recorded:
        return Recorded(people={"1": Counts(200), "2": Counts(20, client_errors=1)})

    short = {"steps": [10, 100], "max_requests_factor": 1, "requests_per_step": 50, "false_alarm_rate": 1e-6}
    paused = doubtful()
    with pytest.raises(Undecided, match=r"paused with 10% of the traffic: more refused requests.*release --resume"):
        release(paused, deployment(**short), INPUTS, EXAMPLES)
    assert paused.told == ["start", Stage(10)]
    returned = doubtful()
    with pytest.raises(RolledBack, match="nothing is proven, and yet"):
        release(returned, deployment(inconclusive="rollback", **short), INPUTS, EXAMPLES)
    assert returned.told[-1] == "withdraw"
    taken = doubtful()
    release(taken, deployment(inconclusive="promote", **{**short, "steps": [100]}), INPUTS, EXAMPLES)
    assert taken.told[-1] == "promote"


def test_a_champion_that_answers_nothing_decides_nothing() -> None:
    with pytest.raises(Undecided, match="the champion answered none of the requests"):
        release(Recorded(champion_status=503), deployment(), INPUTS, EXAMPLES)


def test_a_resumed_release_begins_at_its_stage() -> None:
    traffic = Recorded()
    release(traffic, deployment(steps=[10, 50, 100]), INPUTS, EXAMPLES, Stage(50))
    assert traffic.told == ["start", Stage(50), Stage(100), "promote"]


def test_scores_of_the_same_rows_are_judged_by_where_they_lie_and_by_how_they_are_spread() -> None:
    chance = random.Random(5)
    rows = [chance.gauss(0.4, 0.1) for _ in range(200)]

    def proof(candidate: Callable[[float], float]) -> str | None:
        comparison = Comparison(deployment())
        for row, score in enumerate(rows):
            noisy = score + chance.gauss(0, 0.03)
            comparison.add_pair(row, answered(candidate(noisy)), answered(score))
        return comparison.proof()

    assert proof(lambda score: score) is None
    assert proof(lambda score: score + 0.02) is None
    shifted = proof(lambda score: score - 0.1)
    assert shifted is not None
    assert "from the champion's on the same 200 rows" in shifted
    # As many say more and as many say less: their mean is the same.
    for spread in (2.5, 0.0):
        told = proof(lambda score, spread=spread: 0.4 + spread * (score - 0.4))
        assert told is not None
        assert "farther from their own mean than the champion's is" in told


def test_scores_that_lie_as_the_evaluation_saw_them_are_what_was_approved() -> None:
    chance = random.Random(6)
    rows = [chance.betavariate(2, 20) for _ in range(400)]

    def retrained(score: float) -> float:
        return min(2.2 * score, 1.0)

    # Twenty ranks of rows that nobody asks about here.
    seen = sorted(chance.betavariate(2, 20) for _ in range(2_000))
    groups = [statistics.fmean(seen[start : start + 100]) for start in range(0, 2_000, 100)]
    foreseen = [ScorePair(champion=score, candidate=retrained(score)) for score in groups]

    def proof(candidate: Callable[[float], float], expected: list[ScorePair]) -> str | None:
        comparison = Comparison(deployment(), expected)
        for row, score in enumerate(rows):
            noisy = max(candidate(score) + chance.gauss(0, 0.02), 0.0)
            comparison.add_pair(row, answered(noisy), answered(score))
        return comparison.proof()

    assert "from the champion's" in (proof(retrained, []) or "")
    assert proof(retrained, foreseen) is None
    for unforeseen in (lambda score: score, lambda score: retrained(score) + 0.1):
        told = proof(unforeseen, foreseen)
        assert told is not None
        assert "what its evaluation foresaw" in told


def test_ranks_foresee_nothing_of_a_model_that_was_compared_with_another_champion(tmp_path: Path) -> None:
    seen = [ScorePair(champion=0.1, candidate=0.2)]
    compared = ChampionOutcome(version="3", compared=True, passed=True, sentence="It leads.", scores=seen)
    candidate = Candidate(tmp_path, "", "4", [], [], "", 0.5)
    assert candidate.foreseen("3") == ()
    a_verdict(champion=compared).write(tmp_path)
    assert candidate.foreseen("3") == seen
    assert candidate.foreseen("2") == ()
    assert candidate.foreseen(None) == ()


def answered(score: float) -> Answer:
    return Answer(200, json.dumps({"outputs": [{"name": "score", "data": [score]}]}), 0.001, {})


def test_an_interruption_gives_the_traffic_back() -> None:
    traffic = Recorded()

    def interrupt(_: Stage) -> None:
        raise KeyboardInterrupt

    traffic.shift = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        release(traffic, deployment(), INPUTS, EXAMPLES)
    assert traffic.told == ["start", "withdraw"]


def test_a_candidate_is_not_blamed_for_a_machine_on_which_its_champion_is_as_slow() -> None:
    slow, slower = Observation(10, 0, 0.0, 900.0), Observation(10, 0, 0.0, 950.0)
    assert judge(slow, slower, deployment()) is None
    assert judge(slower, slow, deployment()) is not None
    assert judge(slow, None, deployment()) is not None


def test_a_quantile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([3.0], 0.99)) == (50.0, 99.0, 3.0)
