"""Configuration of how a candidate is examined."""

from __future__ import annotations

from pydantic import Field

from project.section import Section


class Evaluation(Section):
    """How the candidate is examined."""

    bootstrap_replicates: int = Field(default=200, ge=50, le=10_000)
    """Resamples behind every 95% interval; whole entities are drawn."""
    smallest_group: int = Field(default=100, gt=0)
    """A group with fewer rows is shown and said to be too small to judge."""
    explained_rows: int = Field(default=300, gt=0)
    """Rows that SHAP explains."""
    latency_requests: int = Field(default=300, gt=0)
    """Requests behind the latency figures."""
