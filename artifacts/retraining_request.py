"""Retraining request: who asks, why, and how to grant it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kfp_lifecycle.artifacts.document import Document, Part


class Change(Part):
    """A column that drifted."""

    column: str
    aspect: str
    change: str
    """What changed, in words."""


class RetrainingRequest(Document):
    """A request that a person or a scheduler can grant."""

    FILE = "request.json"
    WRITER = "trigger_retraining"

    project: str
    model: str
    version: str
    reason: str
    columns: list[Change]
    requested_at: datetime
    command: str
    explanation: str
    """What stands for what in the command."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "reason": self.reason,
            "command": self.command,
            "requested_at": self.requested_at.isoformat(),
            "summary": f"retraining of {self.project} requested",
        }
