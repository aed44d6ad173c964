"""Configuration of the gate: what a candidate must meet to be promoted."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from project.section import Section


class Bound(StrEnum):
    """What of a measured value has to meet the threshold."""

    estimate = "estimate"
    confidence = "confidence"


class GateRule(Section):
    """One condition for promotion. A metric that was not measured fails its rule."""

    metric: str = Field(pattern=r"^[a-z_]+(\.[A-Za-z0-9_:<>=\-+ ]+)+$")
    """`dimension.metric` or `dimension.metric.slice`, as the evaluation names it, such as
    `fairness.demographic_parity_ratio.gender`."""
    at_least: float | None = None
    """The smallest value that passes."""
    at_most: float | None = None
    """The largest value that passes."""
    bound: Bound = Bound.estimate
    """`estimate` compares the value itself, `confidence` the worse end of its 95% interval."""
    why: str = ""
    """The reason for the rule, shown in reports."""

    @model_validator(mode="after")
    def _has_a_threshold(self) -> GateRule:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"the gate rule for {self.metric} needs at_least, at_most or both")
        return self


class Champion(Section):
    """The comparison with the model in production, on the same test rows."""

    metric: Literal["roc_auc", "average_precision", "brier_score", "log_loss", "expected_value"] = "roc_auc"
    """What is compared, both models on the same rows."""
    margin: float = Field(default=0.0, ge=0)
    """How much better than the champion the candidate has to be, in the metric's own unit."""


class Gate(Section):
    """What a candidate must meet, all of it, to be promoted."""

    rules: list[GateRule] = Field(min_length=1)
    """All must hold."""
    champion: Champion = Champion()
    """And the candidate must be better than this."""
