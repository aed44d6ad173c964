"""Remedy: what has happened to the model in production, and what to do about it, by all that monitoring found."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.evaluation import Metric

RemedyVerdict = Literal["keep", "broken data", "world moved", "model is worse", "undecided"]
RemedyName = Literal["nothing", "repair", "recalibrate", "set the threshold", "retrain", "roll back"]


class Reason(Part):
    """One finding that the verdict rests on, or that was looked at and did not decide."""

    source: Literal["drift", "caller", "skew", "outcomes", "performance", "costs", "release"]
    """What found it."""
    sentence: str
    """In words."""
    columns: list[str] = Field(default=[])
    """Features that it names."""


class Gain(Part):
    """What a remedy would have been worth to those whose outcome is known."""

    remedy: RemedyName
    """Which."""
    per_1000: Metric
    """Worth of its decisions less that of those that were made, for 1,000 predictions, by `training.costs`, with its
    95% interval."""


class Span(Part):
    """A window of time."""

    start: datetime
    """Included."""
    end: datetime
    """Not included."""


class Remedy(Document):
    """What `decide_remedy` decided."""

    FILE = "remedy.json"
    WRITER = "decide_remedy"

    verdict: RemedyVerdict
    """What has happened."""
    remedy: RemedyName
    """What to do about it."""
    sentence: str
    """Both, in one sentence: which feature or outcome, since when, how much, and what to do."""
    since: datetime | None
    """When it began; null where nothing has, or where it is older than what was looked at."""
    reasons: list[Reason]
    """What it rests on, what decided first."""
    gains: list[Gain] = Field(default=[])
    """What each remedy would have been worth; none where too few outcomes are known."""
    currency: str = ""
    """Of the gains."""
    adjustment: Adjustment | None = None
    """The remedy as it was measured, which a training carries out without waiting for labels; null where it has to
    wait for them, or none is needed."""
    model: str
    """Its name in the registry."""
    version: str
    """The one that the window is judged by."""
    window: Span
    """Which predictions were looked at."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "verdict": self.verdict,
            "remedy": self.remedy,
            "sentence": self.sentence,
            "since": self.since.isoformat() if self.since else "",
            "model": self.model,
            "version": self.version,
            "summary": self.sentence,
        }
