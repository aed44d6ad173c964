"""Training pipeline as an artifact: what a step of monitoring starts, as it was compiled with monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kfp_lifecycle.config.targets import ClusterTarget, KubeflowTarget, TargetName, VertexTarget

# The pipeline that starts this one, and the definition by which it does.
ASKING = "monitoring"
NAME = "training_pipeline"
DESCRIPTION, COMPILED = "target.json", "training.yaml"


class TrainingTarget(BaseModel):
    """Where the training pipeline runs, and as whose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    target: TargetName
    cluster: dict[str, Any] = {}
    """The target's settings; none on this machine."""

    @property
    def kubeflow(self) -> KubeflowTarget:
        """Its settings on a Kubeflow."""
        return KubeflowTarget.model_validate(self.cluster)

    @property
    def vertex(self) -> VertexTarget:
        """Its settings on Vertex AI."""
        return VertexTarget.model_validate(self.cluster)


def training_files(
    project: str, target: TargetName, cluster: ClusterTarget | None = None, compiled: Path | None = None
) -> dict[str, bytes]:
    """The artifact's files, content by path.

    Args:
        project: The project's name.
        target: Where it runs.
        cluster: What the project says of the cluster; none on this machine.
        compiled: The training pipeline, compiled for it; none where nothing is started.
    """
    told = cluster.model_dump(mode="json", exclude_defaults=True) if cluster else {}
    description = TrainingTarget(project=project, target=target, cluster=told)
    files = {DESCRIPTION: (description.model_dump_json(exclude_defaults=True, indent=1) + "\n").encode()}
    return files | ({COMPILED: compiled.read_bytes()} if compiled else {})


def read_target(folder: Path) -> TrainingTarget:
    """Where the training pipeline of such an artifact runs."""
    return TrainingTarget.model_validate_json((folder / DESCRIPTION).read_bytes())
