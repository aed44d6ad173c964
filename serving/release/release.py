"""Progressive delivery controller: stages of traffic, real requests at each, a verdict, and the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kfp_lifecycle.artifacts.deployment import Deployment as Record
from kfp_lifecycle.artifacts.deployment import ReleaseStep
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.config.deployment import Deployment, Strategy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SCORE_TOLERANCE, Answer, quantile, scores_in, v2_request
from kfp_lifecycle.serving.release.traffic import Stage, Traffic

WARM_UP_REQUESTS = 10


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
) -> list[ReleaseStep]:
    """Move all traffic to the candidate, stage by stage, or none of it.

    Args:
        traffic: The place.
        deployment: Strategy and limits.
        inputs: The model's inputs.
        examples: What is asked at each stage; the candidate must give these scores.
        first: The stage to begin with, where earlier ones are done.

    Returns:
        What each stage came to.

    Raises:
        ContractViolation: the candidate failed a stage; all traffic is back with the champion.
    """
    steps: list[ReleaseStep] = []
    try:
        traffic.start_candidate()
        if traffic.addressable:
            warm_up(traffic, inputs, examples)
        stages = plan(deployment, has_champion=traffic.champion is not None, addressable=traffic.addressable)
        for stage in stages[stages.index(first) if first in stages else 0 :]:
            traffic.shift(stage)
            compared = traffic.champion if stage.percent < 100 or traffic.champion_stays else None
            candidate, champion = observe(traffic, compared, deployment.requests_per_step, inputs, examples)
            steps.append(
                ReleaseStep(
                    percent=stage.percent,
                    requests=candidate.requests,
                    errors=candidate.errors,
                    p99_ms=candidate.p99_ms,
                )
            )
            breach = judge(candidate, champion, deployment)
            if breach is not None:
                raise RolledBack(describe_breach(traffic, stage, breach, deployment), steps)
        traffic.promote()
    except Undecided:
        raise
    except BaseException:
        # An interrupted release, too, must not leave people with half a candidate.
        traffic.withdraw()
        raise
    return steps


def warm_up(traffic: Traffic, inputs: Sequence[Feature], examples: Sequence[Example]) -> None:
    """Let a server that was just started give its first answers, slow by nature, to nobody."""
    for example in examples[:WARM_UP_REQUESTS]:
        traffic.ask(traffic.candidate, v2_request(inputs, [example.features]))


def observe(
    traffic: Traffic,
    champion: str | None,
    requests: int,
    inputs: Sequence[Feature],
    examples: Sequence[Example],
) -> tuple[Observation, Observation | None]:
    """Ask candidate and champion, where there is one to be asked, in turn: both are seen in the same moments."""
    versions = [traffic.candidate] + ([champion] if champion is not None else [])
    before = {version: traffic.counts(version) for version in versions}
    times: dict[str, list[float]] = {version: [] for version in versions}
    failures = dict.fromkeys(versions, 0)
    for example in itertools.islice(itertools.cycle(examples), requests):
        for version in versions:
            answer = traffic.ask(version, v2_request(inputs, [example.features]))
            times[version].append(answer.seconds * 1000)
            expected = example.score if version == traffic.candidate else None
            failures[version] += not answered_well(answer, expected)
    found = []
    for version in versions:
        real = traffic.counts(version).since(before[version])
        found.append(
            Observation(
                requests=requests + real.requests,
                errors=failures[version] + real.server_errors,
                error_rate=max(failures[version] / requests, real.server_errors / max(real.requests, 1)),
                p99_ms=round(quantile(times[version], 0.99), 3),
            )
        )
    return found[0], found[1] if len(found) > 1 else None


def answered_well(answer: Answer, expected: float | None) -> bool:
    """Whether an answer is a score, and the expected one."""
    scores = scores_in(answer)
    if len(scores) != 1 or not math.isfinite(scores[0]):
        return False
    return expected is None or abs(scores[0] - expected) <= SCORE_TOLERANCE


def judge(candidate: Observation, champion: Observation | None, deployment: Deployment) -> str | None:
    """Why the candidate must not go on, or None.

    Errors are judged by the limit alone. A candidate that is slow only as its champion is slow in the same moments
    is not: then it is the machine.
    """
    beside = ""
    if candidate.error_rate > deployment.max_error_rate:
        if champion is not None:
            beside = f"; of the champion's, {champion.errors} of {champion.requests} failed meanwhile"
        return (
            f"{candidate.errors} of {candidate.requests} requests failed, or were answered with a score that is not "
            f"the registered model's (deployment.max_error_rate is {deployment.max_error_rate:g}){beside}"
        )
    if candidate.p99_ms > deployment.max_latency_p99_ms and (champion is None or candidate.p99_ms > champion.p99_ms):
        if champion is not None:
            beside = f"; the champion's was {champion.p99_ms:.0f} ms meanwhile"
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
