"""Adjustment: how a version in production acts anew, by outcomes that monitoring followed before horizons were over."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Part
from kfp_lifecycle.artifacts.evaluation import Metric


class Adjustment(Part):
    """What `decide_remedy` measured of a remedy, for a training to carry out as it was judged."""

    remedy: Literal["recalibrate", "set the threshold"]
    """Which."""
    version: str
    """The version that was measured."""
    hazard_ratio: float = Field(default=1.0, gt=0)
    """So many times as many events come as its scores foretell; 1 where scores stay."""
    absence: bool = False
    """Whether the label is that no event comes."""
    threshold: float = Field(ge=0, le=1)
    """To act from, on the scores so changed."""
    since: datetime
    """From when on events were counted …"""
    until: datetime
    """… and until when."""
    observed: int
    """Events that came."""
    expected: float
    """Events that were foretold."""
    entities: int
    """Whose predictions were followed."""
    gain: Metric
    """Worth of its decisions less that of those that were made, for 1,000 predictions, cross-fitted by entity, with its
    95% interval."""
    currency: str
    """Of the gain."""

    @property
    def counted(self) -> str:
        """What it rests on, in words."""
        return (
            f"{self.observed:,} events where {self.expected:,.1f} were foretold, from {self.since:%Y-%m-%d} to "
            f"{self.until:%Y-%m-%d}"
        )
