"""Step record: what every step notes on each of its outputs, for the picture of the run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict, ValidationError

from kfp_lifecycle.artifacts.document import Part


class StepRecord(Part):
    """Which step wrote an artifact, when, how long it took, and what came of it in a few words."""

    model_config = ConfigDict(extra="ignore")

    step: str
    """The component's name."""
    started_at: datetime
    """UTC."""
    seconds: float
    """How long it worked."""
    summary: str = ""
    """What it made, in a few words: "48,120 rows", "AUC 0.823"."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self | None:
        """The record in an artifact's metadata; None where no step of this library wrote it."""
        try:
            return cls.model_validate(dict(metadata))
        except ValidationError:
            return None
