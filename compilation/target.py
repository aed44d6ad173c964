"""Compilation target: what a pipeline is compiled for, and how an environment becomes an image there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from kfp import dsl

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.steps import StepSettings
from kfp_lifecycle.config.targets import STOCK_IMAGE, KubeflowTarget, TargetName, VertexTarget
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.runtime.code_version import VARIABLE

# How a step comes by the library's code: it is in the environment's image, in an archive that is an input of the
# step, or, on this machine, in a folder.
Vehicle = Literal["image", "artifact", "folder"]
VEHICLES: tuple[Vehicle, ...] = ("image", "artifact")

LOCAL_IMAGE = re.compile(r"^python-(?P<environment>[a-z]+):(?P<digest>[0-9a-f]+)$")


@dataclass(frozen=True)
class Target:
    """What a pipeline is compiled for."""

    name: TargetName
    vehicle: Vehicle = "folder"
    _: KW_ONLY
    state: Path | None = None
    """Where a local run keeps the code of its steps; by default the state folder."""
    image_registry: str = ""
    """Registry and repository prefix of the environments' images, which hold the library (`image`)."""
    stock_image: str = STOCK_IMAGE
    """What steps run on whose code comes in archives: they install their lock on it."""
    library_digest: str = ""
    """Digest of the whole library, part of those images' tags."""
    configuration: Configuration | None = None
    """What components are given their settings from; None in a pipeline that gives each component its own."""
    locations: Locations | None = None
    """What components are told in their variables; None where whoever runs the steps tells them."""
    definitions: Mapping[str, str] = field(default_factory=dict)
    """URI of each definition (`feature_repo`, `label_query`, `expectations`)."""
    code: Mapping[str, str] = field(default_factory=dict)
    """URI of each environment's code archive (`artifact`)."""
    code_version: str = ""
    """As `runtime.code_version` writes it; empty where whoever runs the steps tells them."""
    steps: Mapping[str, StepSettings] = field(default_factory=dict)
    """What the project gives the pods of steps, by the component's name, and `default` for all."""
    kubeflow: KubeflowTarget | None = None
    """What every step's pod is given on a Kubeflow: secrets, volumes and their like, which no other target has."""
    vertex: VertexTarget | None = None
    """What steps and servers are told on Vertex AI: references to secrets, machines and their like."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that lead from a pod to what it was compiled from."""
    keeps_code: bool = True
    """Whether a local run's state folder is given the code of its steps; what is only described runs nothing."""
    imported: dict[str, dsl.PipelineArtifactChannel] = field(default_factory=dict, compare=False)
    """The code archives that the pipeline being defined has imported, by environment."""

    def image(self, environment: str) -> str:
        """The image of an environment, tagged by the digest of its lock and, where it holds it, of the library."""
        if self.name == "local":
            return f"python-{environment}:{lock_digest(environment)}"
        if self.vehicle == "image":
            tag = f"{lock_digest(environment)}-{self.library_digest}"
            return f"{self.image_registry}/kfp-lifecycle-{environment}:{tag}"
        return self.stock_image

    def origin(self) -> dict[str, str]:
        """What a step that records where its result comes from is told: the code's version. Its image or its archive
        knows the environment."""
        return {VARIABLE: self.code_version} if self.code_version else {}


LOCAL = Target("local")
_target: ContextVar[Target] = ContextVar("target")


@contextlib.contextmanager
def compiling_for(target: Target) -> Iterator[None]:
    """Components called inside are built for this target."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def current_target() -> Target:
    """The target that the pipeline which is being defined is for."""
    return _target.get(LOCAL)
