"""The controller alone: its stages, its verdict, and the way back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Answer, quantile
from kfp_lifecycle.serving.release.release import Observation, Stage, judge, plan, release
from kfp_lifecycle.serving.release.traffic import Counts

INPUTS = [Feature("temperature", "numeric")]
EXAMPLES = [Example(features={"temperature": 1.0}, score=0.5)]


class Recorded:
    """Traffic that remembers what it was told."""

    addressable = True
    champion_stays = True
    candidate = "2"

    def __init__(self, champion: str | None = "1", score: float = 0.5, seconds: float = 0.001, live: int = 0) -> None:
        self.champion = champion
        self.score, self.seconds, self.live_errors = score, seconds, live
        self.told: list[Any] = []
        self._asked = 0

    def start_candidate(self) -> None:
        self.told.append("start")

    def shift(self, stage: Stage) -> None:
        self.told.append(stage)

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        self._asked += 1
        score = self.score if version == self.candidate else 0.1
        seconds = self.seconds if version == self.candidate else 0.001
        return Answer(200, json.dumps({"outputs": [{"name": "score", "data": [score]}]}), seconds, {})

    def counts(self, version: str) -> Counts:
        return Counts(self._asked, self.live_errors * self._asked // 100 if version == self.candidate else 0)

    def promote(self) -> None:
        self.told.append("promote")

    def withdraw(self) -> None:
        self.told.append("withdraw")


def deployment(**settings: Any) -> Deployment:
    return Deployment(model="devices", requests_per_step=10, **settings)


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
        (Recorded(score=float("nan")), "a score that is not"),
        (Recorded(seconds=1.0), "99th percentile of its latency was 1000 ms"),
        (Recorded(live=50), "requests failed"),
    ],
)
def test_the_first_breach_ends_the_release_and_says_why(traffic: Recorded, reason: str) -> None:
    with pytest.raises(ContractViolation, match=reason):
        release(traffic, deployment(steps=[10, 100]), INPUTS, EXAMPLES)
    assert traffic.told == ["start", Stage(10), "withdraw"]


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
