"""Serving trial: how the real server did with a model before anyone depended on it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part


class Latency(Part):
    """How long requests of one row took over v2 REST, with so many clients at once."""

    p50_ms: float
    """Median, in milliseconds."""
    p95_ms: float
    """95th percentile, in milliseconds."""
    p99_ms: float
    """99th percentile, in milliseconds."""
    requests: int
    """That were timed."""
    clients: int
    """How many asked at once."""


class ServerStart(Part):
    """What the server needed to start, and to answer."""

    ready_seconds: float
    """From the start of its process until it answered that it is ready."""
    peak_memory_mb: float | None
    """None where the system does not tell."""


class Example(Part):
    """Features of one entity, and the score that the registered model gives them."""

    features: dict[str, Any]
    """Value by name: a number or a text, None where it is missing."""
    score: float
    """What the server must answer."""


class ServingTrial(Document):
    """What `validate_serving` found."""

    FILE = "serving.json"
    WRITER = "validate_serving"

    latency: Latency
    """With one client."""
    concurrent_latency: Latency
    """With several at once."""
    server: ServerStart
    """How the server started, and what it held."""
    examples: list[Example] = Field(min_length=1)
    """What a release asks, and the answers it expects."""
