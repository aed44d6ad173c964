"""Configuration of a release: how traffic moves to a new model, and what takes it back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE, LoggedKey, LogPolicy
from kfp_lifecycle.config.model_server import ModelServer
from kfp_lifecycle.config.section import ModelName, Probability, Section
from kfp_lifecycle.config.strategy import Strategy


class Inconclusive(StrEnum):
    """What becomes of a release that nothing decided."""

    pause = "pause"
    promote = "promote"
    rollback = "rollback"


class LogSettings(Section):
    """What servers log of each prediction, and how long it is kept."""

    enabled: bool = LogPolicy.enabled
    """Without, nothing is logged, and monitoring has nothing to compare; what was logged still goes by its age."""
    features: bool = LogPolicy.features
    """Whether the values of features are logged; without, monitoring sees scores alone."""
    key: LoggedKey = LogPolicy.key
    """The entity: `plain`, as it is; `hashed`, by HMAC-SHA256 with the secret of the servers' variable
    `LIFECYCLE_LOG_SECRET`, so that the same one is the same and nobody is named; `none`, not at all."""
    retention_days: int = Field(default=LogPolicy.retention_days, gt=0)
    """Older days are removed."""
    max_mb: int = Field(default=LogPolicy.max_mb, gt=0)
    """Most of all servers of the model together; the oldest files of what is more are removed."""

    def variables(self) -> list[str]:
        """Variables with secrets that a server needs for it."""
        return [LOG_SECRET_VARIABLE] if self.policy.needs_secret else []

    @property
    def policy(self) -> LogPolicy:
        """The same, as a server that was told of it keeps it."""
        return LogPolicy(**self.model_dump())

    def arguments(self) -> dict[str, str]:
        """What a server is told of it, by the names of its arguments; what is as usual is left out."""
        names = {"enabled": "log", "features": "log_features", "key": "log_key"}
        return {
            names.get(name, f"log_{name}"): {True: "yes", False: "no"}.get(value, str(value))
            for name, value in self.model_dump(mode="json", exclude_defaults=True).items()
        }


class Deployment(Section):
    """How an approved model is served."""

    model: ModelName
    """The model's name in the registry, the URL and the cluster."""
    strategy: Strategy = Strategy.canary
    """`canary` moves traffic in `steps`, `blue_green` at once, `shadow` mirrors it first and then moves it at once."""
    steps: list[Annotated[int, Field(gt=0, le=100)]] = Field(default=[10, 50, 100])
    """Percentages of traffic, rising to 100."""
    requests_per_step: int = Field(default=400, gt=0)
    """Requests that the release itself sends to candidate and champion at each step, so that there is something to
    compare where there is little traffic."""
    max_requests_factor: int = Field(default=10, ge=1)
    """Where these speak against the candidate without proving anything, it sends up to so many times as many."""
    min_real_requests: int = Field(default=20, ge=0)
    """Requests of people that the candidate must have answered at each step, where people ask at all; the step waits
    for them. Nobody asks: its own requests stand in, and the record says so."""
    max_wait_seconds: float = Field(default=60.0, ge=0)
    """A step waits no longer than this for requests of people."""
    max_error_rate: Probability = 0.01
    """More failing requests, or scores that are not the registered model's, return all traffic to the champion; without
    a champion, all that fails is the candidate's."""
    max_latency_p99_ms: float = Field(default=500.0, gt=0)
    """A slower 99th percentile during a step returns all traffic to the champion."""
    max_latency_ratio: float = Field(default=1.5, ge=1)
    """Latency that is surely worse than the champion's by more than this factor, and a millisecond, at the median or
    among the slowest tenth, returns all traffic to the champion."""
    max_score_shift: float = Field(default=0.5, gt=0)
    """Scores that are surely farther from what was expected, on average, than so many standard deviations of the
    champion's return all traffic to it; so do scores that are surely spread wider or narrower by as much. Expected is
    what the gate saw both models give to the same rows, by the champion's score; without it, that score."""
    false_alarm_rate: Probability = 0.01
    """How often a release of a candidate that is no worse may be rolled back for being worse than the champion."""
    inconclusive: Inconclusive = Inconclusive.pause
    """What becomes of a release whose evidence is no proof and yet too much to go on with: `pause` keeps the shares
    until a person decides, `promote` goes on, `rollback` returns all traffic."""
    prediction_log: LogSettings = LogSettings()
    """What servers log of each prediction, and how long it is kept."""
    http_port: int = Field(default=8080, ge=1024, le=65535)
    """Port of the endpoint on one machine; gRPC takes the next."""
    max_replicas: int = Field(default=3, gt=0)
    """Pods at the most, on a cluster."""
    min_replicas: int = Field(default=2, ge=0)
    """Pods at the least, on a cluster: with two, one may go with its node; 0 scales to zero where the cluster can."""
    server: ModelServer = ModelServer()
    """Who may ask the model, how much, and what its server tells."""

    def server_arguments(self) -> dict[str, str]:
        """What each version's server is told of this, by the names of its arguments, wherever it runs."""
        return {**self.prediction_log.arguments(), **self.server.arguments()}

    @model_validator(mode="after")
    def _replicas_rise(self) -> Deployment:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        return self

    @model_validator(mode="after")
    def _steps_rise(self) -> Deployment:
        if not self.steps or self.steps[-1] != 100 or sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps must rise and end with 100, not {self.steps}")
        return self
