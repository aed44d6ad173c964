"""Training-serving skew of logged requests: what was served beside what the training path computes for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part


class FeatureSkew(Part):
    """A feature of which some values differ."""

    feature: str
    """The model's input."""
    differing: int
    """Requests in which it is another value than the training path computes."""
    logged: str
    """Of the first of them, what was served."""
    computed: str
    """Likewise, what the training path computes."""
    since: datetime
    """Time of that request."""


class ServingSkew(Document):
    """What `recompute_features` found."""

    FILE = "skew.json"
    WRITER = "recompute_features"

    model: str
    """Its name in the registry."""
    version: str
    """The one that the window is judged by."""
    compared: int
    """Requests that were compared; 0 where none could be."""
    features: int
    """Features of each."""
    differences: list[FeatureSkew] = Field(default=[])
    """Features of which any value differs, the most first."""
    skewed: list[str] = Field(default=[])
    """Those that differ in more requests than may be chance or a caller's own values."""
    sentence: str
    """In words."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "compared": self.compared,
            "skewed": self.skewed,
            "summary": self.sentence,
        }
