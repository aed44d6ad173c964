"""Configuration of the model."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from project.section import Probability, Section


class Calibration(StrEnum):
    """How scores become probabilities, fitted on the validation snapshots."""

    sigmoid = "sigmoid"
    isotonic = "isotonic"
    none = "none"


class Costs(Section):
    """What decisions are worth, in the project's currency; they set the decision threshold."""

    saved: float = Field(default=100.0, gt=0)
    """What it is worth when the event would have come and the action prevented it."""
    action: float = Field(default=10.0, gt=0)
    """What acting on one entity costs, needed or not."""
    success_rate: Probability = 0.3
    """Share of actions that prevent the event."""
    currency: str = "USD"
    """For reports."""


class Training(Section):
    """The model."""

    estimator: str = Field(
        default="sklearn.ensemble.HistGradientBoostingClassifier", pattern=r"^sklearn(\.[A-Za-z_][A-Za-z0-9_]*)+$"
    )
    """Import path of a scikit-learn classifier that gives probabilities."""
    parameters: dict[str, Any] = Field(default={})
    """Its parameters where they differ from the library's defaults."""
    calibration: Calibration = Calibration.sigmoid
    """How scores become probabilities: `sigmoid`, `isotonic` or `none`; fitted on the validation snapshots."""
    costs: Costs = Costs()
    """What decisions are worth."""
    smallest_class: int = Field(default=10, gt=1)
    """Fewer rows than this of either class, in any part of the split, refuse the training: nothing could be learned."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Makes training, tuning and evaluation repeatable."""
