"""Deployment record: what is released, where it answers, and how traffic came to it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part

Strategy = Literal["canary", "blue_green", "shadow", "rollback"]


class ReleaseStep(Part):
    """One stage of a release: a share of traffic, and how the new version answered."""

    percent: int
    """Of all traffic."""
    requests: int
    """That the new version was asked."""
    errors: int
    """Of these."""
    p99_ms: float
    """99th percentile of the latency of the release's own requests."""
    real_requests: int = 0
    """Of people, among the requests; the others are the release's own and stand in for them."""
    replayed_requests: int = 0
    """Of the release's own, those that people asked before: rows of the prediction log."""
    evidence: dict[str, float] = Field(default={})
    """By kind the odds against the new version that all requests so far give, and the shift of its scores in standard
    deviations of the champion's; none where there was no champion to compare with."""


class Tensor(Part):
    """One input of a v2 inference request."""

    name: str
    """The feature, or the entity's key."""
    datatype: str
    """Of the v2 protocol: `FP32`, `INT64`, `BYTES` …"""
    shape: list[int]
    """Rows, and 1."""
    data: list[Any]
    """The values, row by row."""


class InferenceRequest(Part):
    """A v2 inference request, as it is sent."""

    inputs: list[Tensor] = Field(min_length=1)
    """One tensor for each input."""


class Deployment(Document):
    """What answers requests."""

    FILE = "deployment.json"
    WRITER = "release_model"

    model: str
    """Its name in the registry and in the URL."""
    version: str
    """The one that has all traffic."""
    previous_version: str | None
    """The one that had it before, and that a rollback returns to; None for a first release."""
    strategy: Strategy
    """How traffic moved; `rollback` where it was given back."""
    url: str
    """The endpoint's address over HTTP."""
    grpc: str
    """Host and port over gRPC; empty where there is none."""
    steps: list[ReleaseStep] = Field(default=[])
    """The release, stage by stage; none where the version served already, or traffic was given back."""
    example: InferenceRequest | None = None
    """A request that the model answers."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "url": self.url,
            "model": self.model,
            "version": self.version,
            "previous_version": self.previous_version or "",
            "strategy": self.strategy,
            "summary": f"version {self.version} at {self.url}",
        }
