"""Configuration of targets: the locations of each cluster, and what its pods are given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kfp_lifecycle.config.locations import Locations, located
from kfp_lifecycle.config.section import Section

ClaimName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$")]


_UPLOAD_ROOT = r"(gs|s3|minio)://[^/].*[^/]"
UploadRoot = Annotated[
    str,
    located(
        _UPLOAD_ROOT,
        "code archives and definitions are uploaded to an object store that KFP reads with its own credentials: "
        "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or minio://BUCKET/FOLDER, without a slash at the end",
    ),
]


class ClusterTarget(Locations):
    """Locations of a cluster, and where pipelines find what they were compiled with."""

    upload_root: UploadRoot
    """Folder of an object store that holds code archives and definitions, each named by its content's digest; the
    pipeline root is a good one. KFP's importers fetch them with its own credentials."""


class KubeflowTarget(ClusterTarget):
    """Locations of a Kubeflow, with the secrets and volumes that its steps need."""

    upload_root: UploadRoot = "minio://mlpipeline/v2/artifacts"
    """Folder of an object store that holds code archives and definitions, each named by its content's digest; by
    default the pipeline root of a Kubeflow as it is installed."""
    secrets: dict[SecretName, dict[SecretKey, Variable]] = Field(default={})
    """Kubernetes secrets in the namespace of the runs, whose keys become variables of every step:
    `mlflow: {password: MLFLOW_TRACKING_PASSWORD}`. Only names stand here and in the compiled pipeline."""
    volumes: dict[ClaimName, MountPath] = Field(default={})
    """PersistentVolumeClaims that every step mounts, and every server on KServe in the same namespace: where, by name.
    Without one for `prediction_log` each server's log is gone with its pod."""


class Targets(Section):
    """The locations of each cluster. The local target keeps everything in `.lifecycle/`."""

    kubeflow: KubeflowTarget | None = None
    """Locations of a self-hosted Kubeflow, with secrets and volumes for its steps."""
    vertex: ClusterTarget | None = None
    """Locations on Vertex AI."""
