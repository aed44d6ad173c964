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
    hazard_ratio_low: float = 1.0
    """Lower end of its 95% interval, that of a Poisson count."""
    hazard_ratio_high: float = 1.0
    """Upper end."""
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
    def level_is_off(self) -> bool:
        """Whether scores are shown to be too high or too low, beyond chance, and to correct that gains by what was
        counted, be that chance: whose scores are as high as events are decides as well as their ranking can."""
        off = self.hazard_ratio_low > 1 or self.hazard_ratio_high < 1
        return self.remedy == "recalibrate" and off and self.gain.value > 0

    @property
    def counted(self) -> str:
        """What it rests on, in words."""
        return (
            f"{self.observed:,} events where {self.expected:,.1f} were foretold, from {self.since:%Y-%m-%d} to "
            f"{self.until:%Y-%m-%d}"
        )
