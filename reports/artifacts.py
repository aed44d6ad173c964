"""Artifact views: each artifact as the report is given it, a place on this machine and what its step recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kfp_lifecycle.artifacts.step_record import StepRecord


@dataclass(frozen=True)
class ArtifactView:
    """Where an artifact is on this machine, and its metadata."""

    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> StepRecord | None:
        """What its step recorded."""
        return StepRecord.of(self.metadata)


class KfpArtifact(Protocol):
    """A KFP artifact, as far as a view of it needs one."""

    path: str
    metadata: dict[str, Any]


def views(**artifacts: KfpArtifact | None) -> dict[str, ArtifactView]:
    """The artifacts that a step was given, by name; those left out are None and have no view."""
    return {
        name: ArtifactView(Path(artifact.path), dict(artifact.metadata))
        for name, artifact in artifacts.items()
        if artifact is not None
    }
