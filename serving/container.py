"""Serving container on a cluster: its image, what it installs on it, its program, its secrets and volumes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving import start_server

IMAGE_VARIABLE = "LIFECYCLE_SERVING_IMAGE"
PACKAGES_VARIABLE = "LIFECYCLE_SERVING_PACKAGES"
SECRETS_VARIABLE = "LIFECYCLE_SERVING_SECRETS"
VOLUMES_VARIABLE = "LIFECYCLE_SERVING_VOLUMES"
Value = TypeVar("Value")
# The image's own user; a stock image has none but root, whom clusters refuse.
USER = 1000


@dataclass(frozen=True)
class Container:
    """What a server runs on."""

    image: str
    packages: str = ""
    """One pin a line, to be installed at each start; none where the image holds them."""
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Kubernetes secrets of the namespace: by name the variable that each key becomes."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """PersistentVolumeClaims of the namespace that it mounts: where, by name."""

    @property
    def command(self) -> list[str]:
        """The program; the server's own arguments follow."""
        return ["python", "-s", "-c", inspect.getsource(start_server)]

    @property
    def variables(self) -> dict[str, str]:
        """What the program is told. A user without a home gets one that can be written."""
        return {PACKAGES_VARIABLE: self.packages, "HOME": "/tmp"} if self.packages else {}


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
    return Container(
        image,
        os.environ.get(PACKAGES_VARIABLE, ""),
        _variable(SECRETS_VARIABLE, dict[str, dict[str, str]]),
        _variable(VOLUMES_VARIABLE, dict[str, str]),
    )


def _variable(name: str, kind: type[Value]) -> Value:
    """A JSON object out of the environment; empty where the variable is not set."""
    try:
        return TypeAdapter(kind).validate_json(os.environ.get(name) or "{}")
    except ValidationError as error:
        raise ContractViolation(
            f"{name} is not what compile.py writes ({error.errors()[0]['msg']}). Compile the pipeline again."
        ) from error
