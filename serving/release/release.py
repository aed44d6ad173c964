"""Progressive delivery controller: stages of traffic, real requests at each, a verdict, and the way back."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment as Record
from kfp_lifecycle.artifacts.deployment import ReleaseStep
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.artifacts.verdict import ScorePair
from kfp_lifecycle.config.deployment import Deployment, Inconclusive
from kfp_lifecycle.config.strategy import Strategy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SCORE_TOLERANCE, Answer, entity_request, quantile, scores_in, v2_request
from kfp_lifecycle.serving.release.comparison import SUSPICION, Comparison
from kfp_lifecycle.serving.release.replay import Replayed
from kfp_lifecycle.serving.release.traffic import Stage, Traffic

WARM_UP_REQUESTS = 10
# Each as long as an answer is waited for: none has come, or that the online store does not answer yet.
WARM_UP_ATTEMPTS, NOT_YET = 6, (0, 503)
# Of its own requests between two looks at what people asked, or, where these take long, seconds; and the time between
# two where it only waits.
LOOK_EVERY, LOOK_AFTER_SECONDS, LOOK_SECONDS = 20, 1.0, 0.25


class RolledBack(ContractViolation):
    """The candidate failed a stage; all traffic is back with the champion."""

    def __init__(self, message: str, steps: Sequence[ReleaseStep]) -> None:
        super().__init__(message)
        self.steps = steps


class Undecided(ContractViolation):
    """A stage showed neither that the candidate is worse nor that it is not; the shares stay as they are."""

    def __init__(self, message: str, steps: Sequence[ReleaseStep]) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass(frozen=True)
class Observation:
    """One version during one stage."""

    requests: int
    errors: int
    error_rate: float
    """0 to 1: the worse of the release's own requests and of all."""
    p99_ms: float
    """99th percentile of the release's own requests."""
    wrong_rate: float = 0.0
    """0 to 1: of its own requests, those with a score that is not the registered model's."""


def plan(deployment: Deployment, *, has_champion: bool, addressable: bool = True) -> list[Stage]:
    """The stages of a release. Without a champion there is nobody to share with."""
    if not has_champion:
        return [Stage(100)]
    if deployment.strategy is Strategy.canary:
        return [Stage(percent) for percent in deployment.steps]
    before = [Stage(0, mirror=deployment.strategy is Strategy.shadow)] if addressable else []
    return [*before, Stage(100)]


def release(
    traffic: Traffic,
    deployment: Deployment,
    inputs: Sequence[Feature],
    examples: Sequence[Example],
    first: Stage | None = None,
    replayed: Sequence[Replayed] = (),
    entity_key: str = "",
    foreseen: Sequence[ScorePair] = (),
) -> list[ReleaseStep]:
    """Move all traffic to the candidate, stage by stage, or none of it.

    Args:
        traffic: The place.
        deployment: Strategy and limits.
        inputs: The model's inputs.
        examples: What is asked at each stage; the candidate must give these scores.
        first: The stage to begin with, where earlier ones are done.
        replayed: What people asked before; candidate and champion are asked it too.
        entity_key: The name under which a request names its entity; empty where the model does not say.
        foreseen: What candidate and champion gave to the same rows when the candidate was judged.

    Returns:
        What each stage came to.

    Raises:
        RolledBack: the candidate failed a stage; all traffic is back with the champion.
        Undecided: a stage decided nothing, and `deployment.inconclusive` is to pause.
    """
    steps: list[ReleaseStep] = []
    comparison = Comparison(deployment, foreseen)
    try:
        traffic.start_candidate()
        if traffic.addressable:
            warm_up(traffic, inputs, examples, replayed, entity_key)
        stages = plan(deployment, has_champion=traffic.champion is not None, addressable=traffic.addressable)
        for stage in stages[stages.index(first) if first in stages else 0 :]:
            traffic.shift(stage)
            compared = traffic.champion if stage.percent < 100 or traffic.champion_stays else None
            watch = Watch(traffic, compared, deployment, asked(inputs, examples, replayed), comparison)
            watch.observe()
            if stage.percent > 0 or stage.mirror:
                watch.wait_for_people()
            candidate, champion = watch.observation(traffic.candidate), watch.observation(compared)
            assert candidate is not None
            steps.append(
                ReleaseStep(
                    percent=stage.percent,
                    requests=candidate.requests,
                    errors=candidate.errors,
                    p99_ms=candidate.p99_ms,
                    real_requests=watch.real,
                    replayed_requests=watch.replayed,
                    evidence=comparison.evidence() if compared is not None else {},
                )
            )
            breach = judge(candidate, champion, deployment) or comparison.proof()
            if breach is not None:
                raise RolledBack(describe_breach(traffic, stage, breach, deployment), steps)
            doubt = watch.doubt() if compared is not None else None
            if doubt is not None and deployment.inconclusive is Inconclusive.rollback:
                breach = f"nothing is proven, and yet: {doubt}"
                raise RolledBack(describe_breach(traffic, stage, breach, deployment), steps)
            if doubt is not None and deployment.inconclusive is Inconclusive.pause:
                raise Undecided(describe_doubt(traffic, stage, doubt, deployment), steps)
        traffic.promote()
    except Undecided:
        raise
    except BaseException:
        # An interrupted release, too, must not leave people with half a candidate.
        traffic.withdraw()
        raise
    return steps


def warm_up(
    traffic: Traffic,
    inputs: Sequence[Feature],
    examples: Sequence[Example],
    replayed: Sequence[Replayed],
    entity_key: str,
) -> None:
    """Let a server that was just started give its first answers, slow by nature, to nobody."""
    if entity_key:
        # A server opens its online store beside its first answers, which are slow meanwhile. Who asks by key waits for
        # it; whose key it is does not matter, nor what is answered.
        opens = entity_request(entity_key, "0")
        for _ in range(WARM_UP_ATTEMPTS):
            if traffic.ask(traffic.candidate, opens).status not in NOT_YET:
                break
    for example in examples[:WARM_UP_REQUESTS]:
        traffic.ask(traffic.candidate, v2_request(inputs, [example.features]))
    for earlier in replayed[:WARM_UP_REQUESTS]:
        traffic.ask(traffic.candidate, earlier.request)


@dataclass(frozen=True)
class Asked:
    """A request of the release's own."""

    row: int
    """Which one it is."""
    request: dict[str, Any]
    score: float | None
    """What the candidate must answer; None where nobody knows."""
    replayed: Replayed | None = None
    """Where people asked it before."""


def asked(inputs: Sequence[Feature], examples: Sequence[Example], replayed: Sequence[Replayed]) -> list[list[Asked]]:
    """What a release asks, by where it comes from: the examples of the trial, and what people asked before."""
    invented = [Asked(row, v2_request(inputs, [item.features]), item.score) for row, item in enumerate(examples)]
    earlier = [Asked(row, item.request, None, item) for row, item in enumerate(replayed, start=len(examples))]
    return [invented, earlier]


class Watch:
    """One stage: requests to both in turn, people's meanwhile, until enough is known or the patience ends."""

    def __init__(
        self,
        traffic: Traffic,
        champion: str | None,
        deployment: Deployment,
        requests: Sequence[Sequence[Asked]],
        comparison: Comparison,
    ) -> None:
        """Begin to count.

        Args:
            traffic: The place.
            champion: The version to compare with, where there is one to be asked.
            deployment: How many requests, and the limits.
            requests: What is asked, of each kind in turn, again and again. What nobody knows the answer of is asked
                only where there is a champion to compare with.
            comparison: What is known from earlier stages, and is added to.
        """
        self.traffic = traffic
        self.champion = champion
        self.deployment = deployment
        self.comparison = comparison
        known, earlier = requests
        kinds = [known, earlier] if champion is not None and earlier else [known]
        self._requests = itertools.chain.from_iterable(zip(*map(itertools.cycle, kinds), strict=False))
        self._versions = [traffic.candidate] + ([champion] if champion is not None else [])
        self._times: dict[str, list[float]] = {version: [] for version in self._versions}
        self._failures = dict.fromkeys(self._versions, 0)
        self._wrong = 0
        self._begun = {version: traffic.counts(version) for version in self._versions}
        self._seen, self._looked = dict(self._begun), time.monotonic()
        comparison.begin_stage()
        self._pairs_before, self._replayed_before = comparison.pairs, comparison.replayed

    @property
    def real(self) -> int:
        """People's requests to the candidate in this stage."""
        return self._seen[self.traffic.candidate].since(self._begun[self.traffic.candidate]).requests

    @property
    def replayed(self) -> int:
        """Requests of this stage that people asked before."""
        return self.comparison.replayed - self._replayed_before

    def observe(self) -> None:
        """Ask until nothing speaks against the candidate, or something is proven, or the patience ends."""
        least = self.deployment.requests_per_step
        for number in range(1, least * self.deployment.max_requests_factor + 1):
            self._ask()
            late = time.monotonic() - self._looked >= LOOK_AFTER_SECONDS
            if (number == least or number % LOOK_EVERY == 0 or late) and self._look():
                return
            if number >= least and self.comparison.suspicion(1.0) is None:
                break
        self._look()

    def wait_for_people(self) -> None:
        """Where people ask, wait until the candidate has answered some of them, or something is proven."""
        deadline = time.monotonic() + self.deployment.max_wait_seconds
        while self.champion is not None and self.comparison.proof() is None and time.monotonic() < deadline:
            others = self._seen[self.champion].since(self._begun[self.champion]).requests
            nobody = self.real + others == 0 and not self.traffic.counts_come_late
            if self.real >= self.deployment.min_real_requests or nobody:
                return
            time.sleep(LOOK_SECONDS)
            self._look()

    def _ask(self) -> None:
        asked = next(self._requests)
        # Who is asked first finds the caches colder, or the machine busier.
        order = self._versions if len(self._times[self.traffic.candidate]) % 2 == 0 else self._versions[::-1]
        answers = {version: self.traffic.ask(version, asked.request) for version in order}
        for version, answer in answers.items():
            self._times[version].append(answer.seconds * 1000)
            expected = asked.score if version == self.traffic.candidate else None
            self._failures[version] += not answered_well(answer, expected)
            self._wrong += answered_well(answer, None) and not answered_well(answer, expected)
        if self.champion is not None:
            ours, theirs = answers[self.traffic.candidate], answers[self.champion]
            self.comparison.add_pair(asked.row, ours, theirs, asked.replayed)

    def _look(self) -> bool:
        """Take in what people asked; returns whether something is proven."""
        now = {version: self.traffic.counts(version) for version in self._versions}
        if self.champion is not None:
            fresh = [now[version].since(self._seen[version]) for version in self._versions]
            self.comparison.add_real(*fresh)
        self._seen, self._looked = now, time.monotonic()
        return self.champion is not None and self.comparison.proof() is not None

    def doubt(self) -> str | None:
        """Why this stage decides nothing; None where the candidate may go on."""
        if self.comparison.pairs == self._pairs_before:
            return "the champion answered none of the requests that were given to both"
        return self.comparison.suspicion(SUSPICION)

    def observation(self, version: str | None) -> Observation | None:
        """What a version did in this stage."""
        if version is None:
            return None
        own, real = len(self._times[version]), self._seen[version].since(self._begun[version])
        return Observation(
            requests=own + real.requests,
            errors=self._failures[version] + real.server_errors,
            error_rate=max(self._failures[version] / own, real.server_errors / max(real.requests, 1)),
            p99_ms=round(quantile(self._times[version], 0.99), 3),
            wrong_rate=self._wrong / own if version == self.traffic.candidate else 0.0,
        )


def answered_well(answer: Answer, expected: float | None) -> bool:
    """Whether an answer is a score, and the expected one."""
    scores = scores_in(answer)
    if len(scores) != 1 or not math.isfinite(scores[0]):
        return False
    return expected is None or abs(scores[0] - expected) <= SCORE_TOLERANCE


def judge(candidate: Observation, champion: Observation | None, deployment: Deployment) -> str | None:
    """Why the candidate must not go on by the limits that hold for every model, or None.

    A wrong score is the candidate's fault whoever else does what. Whether it fails more than its champion in the same
    moments, the comparison tells; without a champion, all that fails is the candidate's. One that is slow only as its
    champion is slow in the same moments is not: then it is the machine.
    """
    rate = candidate.error_rate if champion is None else candidate.wrong_rate
    if rate > deployment.max_error_rate:
        return (
            f"{candidate.errors} of {candidate.requests} requests failed, or were answered with a score that is not "
            f"the registered model's (deployment.max_error_rate is {deployment.max_error_rate:g})"
        )
    beside = f"; the champion's was {champion.p99_ms:.0f} ms meanwhile" if champion is not None else ""
    if candidate.p99_ms > deployment.max_latency_p99_ms and (champion is None or candidate.p99_ms > champion.p99_ms):
        return (
            f"the 99th percentile of its latency was {candidate.p99_ms:.0f} ms "
            f"(deployment.max_latency_p99_ms is {deployment.max_latency_p99_ms:g}){beside}"
        )
    return None


def describe_breach(traffic: Traffic, stage: Stage, breach: str, deployment: Deployment) -> str:
    """The failed release in words."""
    share = "a copy of the traffic" if stage.mirror else f"{stage.percent}% of the traffic"
    back = (
        f"All traffic is back with the champion, version {traffic.champion}"
        if traffic.champion is not None
        else "There is no champion to return to, so nothing is served"
    )
    return (
        f"The release of {deployment.model} version {traffic.candidate} is rolled back: with {share}, {breach}. "
        f"{back}. Look into the server's log, mend the model or the limit, and run the pipeline again."
    )


def describe_doubt(traffic: Traffic, stage: Stage, doubt: str, deployment: Deployment) -> str:
    """The paused release in words."""
    return (
        f"The release of {deployment.model} version {traffic.candidate} is paused with {stage.percent}% of the "
        f"traffic: {doubt}. That is no proof, and too much to go on with. Look at both, then go on, take it, or go "
        "back: lifecycle release --resume, lifecycle promote, lifecycle rollback. What becomes of such a release "
        "unasked is deployment.inconclusive."
    )


def deployment_record(
    url: str, grpc: str, traffic: Traffic, deployment: Deployment, steps: Sequence[ReleaseStep], previous: str | None
) -> Record:
    """The `deployment` artifact."""
    return Record(
        model=deployment.model,
        version=traffic.candidate,
        previous_version=previous,
        strategy=deployment.strategy.value,
        url=url,
        grpc=grpc,
        steps=list(steps),
    )
