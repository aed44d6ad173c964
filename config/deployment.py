"""Configuration of a release: how traffic moves to a new model, and what takes it back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from kfp_lifecycle.config.section import ModelName, Probability, Section


class Strategy(StrEnum):
    """How traffic moves to a new model."""

    canary = "canary"
    blue_green = "blue_green"
    shadow = "shadow"


class Deployment(Section):
    """How an approved model is served."""

    model: ModelName
    """The model's name in the registry, the URL and the cluster."""
    strategy: Strategy = Strategy.canary
    """`canary` moves traffic in `steps`, `blue_green` at once, `shadow` mirrors it first and then moves it at once."""
    steps: list[Annotated[int, Field(gt=0, le=100)]] = Field(default=[10, 50, 100])
    """Percentages of traffic, rising to 100."""
    requests_per_step: int = Field(default=200, gt=0)
    """Requests that the release itself sends at each step, so that there is something to compare."""
    max_error_rate: Probability = 0.01
    """More failing requests than this during a step return all traffic to the champion."""
    max_latency_p99_ms: float = Field(default=500.0, gt=0)
    """A slower 99th percentile during a step returns all traffic to the champion."""
    http_port: int = Field(default=8080, ge=1024, le=65535)
    """Port of the endpoint on one machine; gRPC takes the next."""
    max_replicas: int = Field(default=3, gt=0)
    """Pods at the most, on a cluster."""
    min_replicas: int = Field(default=1, ge=0)
    """Pods at the least, on a cluster; 0 scales to zero where the cluster can."""

    @model_validator(mode="after")
    def _steps_rise(self) -> Deployment:
        if not self.steps or self.steps[-1] != 100 or sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps must rise and end with 100, not {self.steps}")
        return self
