"""Promotion record: the registry's alias `champion` after it was moved."""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.artifacts.document import Document


class Promotion(Document):
    """What the alias names now, and what it named before."""

    FILE = "promotion.json"
    WRITER = "promote_model"

    model: str
    """Its name in the registry."""
    version: str
    """What the alias `champion` names now."""
    previous_version: str | None
    """None where there was no champion."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "model": self.model,
            "version": self.version,
            "previous_version": self.previous_version or "",
            "summary": f"version {self.version}",
        }
