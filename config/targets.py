"""Configuration of targets: the locations of each cluster, and what its pods are given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.section import Section

ClaimName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$")]


class KubeflowTarget(Locations):
    """Stores of a Kubeflow, with the secrets and volumes that they need."""

    secrets: dict[SecretName, dict[SecretKey, Variable]] = Field(default={})
    """Kubernetes secrets in the namespace of the runs, whose keys become variables of every step:
    `mlflow: {password: MLFLOW_TRACKING_PASSWORD}`. Only names stand here and in the compiled pipeline."""
    volumes: dict[ClaimName, MountPath] = Field(default={})
    """PersistentVolumeClaims that every step mounts, and every server on KServe in the same namespace: where, by name.
    Without one for `prediction_log` each server's log is gone with its pod."""


class Targets(Section):
    """The stores of each cluster. The local target keeps everything in `.lifecycle/`."""

    kubeflow: KubeflowTarget | None = None
    """Stores of a self-hosted Kubeflow, with secrets and volumes for its steps."""
    vertex: Locations | None = None
    """Stores on Vertex AI."""
