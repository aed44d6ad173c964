"""Drift decision: how far production is from the training data, column by column, and what follows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from kfp_lifecycle.artifacts.document import Document, Part

Aspect = Literal["values", "missing"]
Decision = Literal["retrain", "keep", "undecided"]


class Finding(Part):
    """What the comparison of one column says."""

    column: str
    """The feature, or `score`."""
    aspect: Aspect
    """`values`: the values that are there; `missing`: how many are not."""
    test: str
    """The test behind the p-value."""
    p_value: float
    """Probability of a difference at least this large by chance alone."""
    corrected_p_value: float
    """The same, corrected by Holm for the number of comparisons."""
    distance: float
    """Jensen-Shannon distance, 0 to 1."""
    drifted: bool
    """Whether both are beyond the rule's limits."""
    sentence: str
    """What changed, in words."""


class Compared(Part):
    """How many predictions there were."""

    window: int
    """In the window."""
    champion: int
    """Of these, by the champion."""
    compared: int
    """Of these, each entity once."""


class DriftRule(Part):
    """The limits of the rule, as `monitoring` sets them."""

    significance: float
    """`monitoring.significance`."""
    min_effect: float
    """`monitoring.min_effect`."""
    max_drifted_share: float
    """`monitoring.max_drifted_share`."""
    min_window: int
    """`monitoring.min_window`."""


class Drift(Document):
    """What `detect_drift` decided, and by what."""

    FILE = "drift.json"
    WRITER = "detect_drift"

    decision: Decision
    """`retrain`, `keep`, or `undecided` where there are too few predictions."""
    sentence: str
    """Why."""
    model: str
    """Its name in the registry."""
    version: str
    """The champion's, whose training data is compared with."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Of the window; not included."""
    predictions: Compared
    """How many predictions there were, and how many were compared."""
    reference_rows: int
    """Of the sample of training data."""
    rule: DriftRule
    """The bounds that decided."""
    drifted_share: float
    """Of the features, 0 to 1."""
    drifted: list[str]
    """Features, in the model's order."""
    columns: list[Finding]
    """The score first, then the features; none where too few predictions were there to compare."""

    @property
    def key_figure(self) -> str:
        """Drift in a few words."""
        if self.decision == "undecided":
            return f"{self.predictions.compared:,} predictions"
        return f"{len(self.drifted)} {'feature' if len(self.drifted) == 1 else 'features'} drifted"

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "decision": self.decision,
            "sentence": self.sentence,
            "drifted": self.drifted,
            "drifted_share": self.drifted_share,
            "predictions": self.predictions.model_dump(),
            "version": self.version,
            "summary": f"{self.decision}: {self.key_figure}",
        }
