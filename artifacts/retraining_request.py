"""Retraining request: who asks, why, and how to grant it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kfp_lifecycle.artifacts.document import Document, Part


class Change(Part):
    """A column that drifted."""

    column: str
    """The feature, or `score`."""
    aspect: str
    """`values`, or `missing` where the share of missing ones has changed."""
    change: str
    """What changed, in words."""


class RetrainingRequest(Document):
    """A request that a person or a scheduler can grant."""

    FILE = "request.json"
    WRITER = "trigger_retraining"

    project: str
    """The project's name."""
    model: str
    """Its name in the registry."""
    version: str
    """The version in production."""
    reason: str
    """Why, in a sentence."""
    columns: list[Change]
    """What has drifted."""
    requested_at: datetime
    """When."""
    command: str
    """What grants it."""
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
