"""Retraining request: why a retraining is due, what the project's policy says of it, and the run that it led to."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.document import Document
from kfp_lifecycle.config.retraining import TrainingRemedy


class RetrainingRequest(Document):
    """What `trigger_retraining` did about a retraining that is due."""

    FILE = "request.json"
    WRITER = "trigger_retraining"
    FORMAT = 2

    format: int = 2
    """Version of the document's format."""
    project: str
    """The project's name."""
    model: str
    """Its name in the registry."""
    version: str
    """The version that the window is judged by."""
    verdict: str
    """What has happened, as `decide_remedy` says."""
    remedy: TrainingRemedy = TrainingRemedy.retrain
    """What the training run makes anew."""
    adjustment: Adjustment | None = None
    """The remedy as monitoring measured it, which the training run finds in the history of windows; null where it
    learns from labels."""
    reason: str
    """Why a retraining is due: the remedy's sentence."""
    since: date | None
    """The day on which it began; null where nobody knows. Where the world moved, a training run that learns from labels
    is given it."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Of the window; not included."""
    action: Literal["start", "ask", "hold"]
    """What `monitoring.retraining` says: `start` it, `ask` for a person's approval, or `hold` it back."""
    decision: str
    """That, and why, in a sentence."""
    requested_at: datetime
    """When it was decided."""
    asked_by: str
    """The run of monitoring."""
    run: str
    """The name of the training run, which is started by this policy or by a person's approval: that of the same window
    and reason is the same."""
    run_id: str
    """Its id on the target; empty where it is not started, or is found by its name: on this machine."""

    @property
    def sentence(self) -> str:
        """Why, and what is done."""
        return f"{self.reason} {self.decision}"

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "action": self.action,
            "reason": self.reason,
            "sentence": self.decision,
            "run": self.run,
            "run_id": self.run_id,
            "asked_by": self.asked_by,
            "summary": self.decision,
        }

    @property
    def parameters(self) -> dict[str, str]:
        """What the training run is given."""
        given = {"asked_by": self.asked_by}
        if self.since and self.verdict == "world moved" and self.adjustment is None:
            given["since"] = self.since.isoformat()
        if self.remedy is not TrainingRemedy.retrain:
            given["remedy"] = self.remedy
        return given
