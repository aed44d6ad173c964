"""Serving container on a cluster: its image, its program, its secrets and volumes."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from kfp_lifecycle.config.kserve_servers import KServeServers
from kfp_lifecycle.config.targets import VertexServers
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving import start_server

IMAGE_VARIABLE = "LIFECYCLE_SERVING_IMAGE"
SECRETS_VARIABLE = "LIFECYCLE_SERVING_SECRETS"
VOLUMES_VARIABLE = "LIFECYCLE_SERVING_VOLUMES"
REFERENCES_VARIABLE = "LIFECYCLE_SERVING_REFERENCES"
KSERVE_VARIABLE = "LIFECYCLE_SERVING_KSERVE"
VERTEX_VARIABLE = "LIFECYCLE_SERVING_VERTEX"
Value = TypeVar("Value")
# The image's own user; a stock image has none but root, whom clusters refuse.
USER = 1000


@dataclass(frozen=True)
class Container:
    """What a server runs on."""

    image: str
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Kubernetes secrets of the namespace: by name the variable that each key becomes."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """PersistentVolumeClaims of the namespace that it mounts: where, by name."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Secrets of Secret Manager: by variable the reference that the server resolves."""
    kserve: KServeServers = field(default_factory=KServeServers)
    """What it runs on at KServe."""
    vertex: VertexServers = field(default_factory=VertexServers)
    """What it runs on at Vertex AI."""

    @property
    def command(self) -> list[str]:
        """The program; the server's own arguments follow."""
        return ["python", "-s", "-c", inspect.getsource(start_server)]

    @property
    def is_stock(self) -> bool:
        """Whether it is a plain Python image: it has no user of its own, and the server installs its packages."""
        return re.match(r"(.*/)?python[:@]", self.image) is not None

    @property
    def variables(self) -> dict[str, str]:
        """What the program is told. A stock image has no home for its user: it gets one that can be written."""
        return {"HOME": "/tmp"} if self.is_stock else {}


def serving_container() -> Container:
    """The container of the serving environment, as a pipeline compiled for a cluster tells the step.

    Raises:
        ContractViolation: the step was compiled for no cluster, or a variable does not hold what it should.
    """
    image = os.environ.get(IMAGE_VARIABLE, "")
    if not image:
        raise ContractViolation(
            f"this step does not know what a cluster serves from: {IMAGE_VARIABLE} is not set. Compile the pipeline "
            "for a cluster (compile.py --target kubeflow or vertex)."
        )
    kserve = _variable(KSERVE_VARIABLE, KServeServers)
    return Container(
        kserve.image or image,
        _variable(SECRETS_VARIABLE, dict[str, dict[str, str]]),
        _variable(VOLUMES_VARIABLE, dict[str, str]),
        _variable(REFERENCES_VARIABLE, dict[str, str]),
        kserve,
        _variable(VERTEX_VARIABLE, VertexServers),
    )


def _variable(name: str, kind: type[Value]) -> Value:
    """A JSON object out of the environment; empty where the variable is not set."""
    try:
        return TypeAdapter(kind).validate_json(os.environ.get(name) or "{}")
    except ValidationError as error:
        raise ContractViolation(
            f"{name} is not what compile.py writes ({error.errors()[0]['msg']}). Compile the pipeline again."
        ) from error
