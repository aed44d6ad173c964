"""The one place that knows how an environment becomes an image, a list of packages or a local interpreter."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from kfp_lifecycle.environments.locks import lock_digest, pinned_requirements
from kfp_lifecycle.runtime.closure import PACKAGE, PROJECT_FOLDER, archive, embedded_files, module_closure
from kfp_lifecycle.runtime.code_version import VARIABLE

TargetName = Literal["local", "kubeflow", "vertex"]

# Where nothing was built, a step installs its pins on this image when it starts.
STOCK_IMAGE = "python:3.11-slim"
LOCAL_IMAGE = re.compile(r"^python-(?P<environment>[a-z]+):(?P<digest>[0-9a-f]+)$")

_EMBEDDED_ARCHIVE = re.compile(r"(?<=__KFP_EMBEDDED_ARCHIVE_B64 = ')[A-Za-z0-9+/=]+(?=')")


@dataclass(frozen=True)
class Target:
    """What a pipeline is compiled for."""

    name: TargetName
    image_registry: str = ""
    """Registry and repository prefix of the built images; empty: a stock Python image installs the same pins."""
    project_files: Mapping[str, bytes] = field(default_factory=dict)
    """The project that travels in the YAML, content by path."""
    code_version: str = ""
    """As `kfp_lifecycle.runtime.code_version` writes it; empty where whoever runs the steps tells them."""
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Kubernetes secrets whose keys become variables of every step: the variable by key, by secret."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """PersistentVolumeClaims that every step mounts: where, by claim."""

    def image(self, environment: str) -> str:
        """The image of an environment. Its tag is the digest of the lock, so a new lock is a new image."""
        if self.name == "local":
            return f"python-{environment}:{lock_digest(environment)}"
        if self.image_registry:
            return f"{self.image_registry}/kfp-lifecycle-{environment}:{lock_digest(environment)}"
        return STOCK_IMAGE

    def serving(self) -> dict[str, str]:
        """What a step that starts servers on a cluster is told: their image, and the pins that it lacks, one a line."""
        if self.name == "local":
            return {}
        pins = "\n".join(pinned_requirements("serving"))
        packages = {} if self.image_registry else {"LIFECYCLE_SERVING_PACKAGES": pins}
        return {"LIFECYCLE_SERVING_IMAGE": self.image("serving"), **packages}

    def origin(self, environment: str) -> dict[str, str]:
        """What a step that records where its result comes from is told: its environment, the code's version."""
        code = {VARIABLE: self.code_version} if self.code_version else {}
        return {"LIFECYCLE_ENVIRONMENT": f"{environment}-{lock_digest(environment)}", **code}

    def packages(self, environment: str) -> list[str] | None:
        """What a step has to install before it runs; None where its image holds everything."""
        if self.name == "local" or self.image_registry:
            return None
        # A lock is complete, so pip needs to resolve nothing.
        return ["--no-deps", *pinned_requirements(environment)]


_LOCAL = Target("local")
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
    return _target.get(_LOCAL)


class LifecycleComponent:
    """A KFP component of this library, built for a target when a pipeline uses it."""

    def __init__(
        self,
        function: Callable[..., Any],
        environment: str,
        carries: Iterable[str],
        project: bool,
        cached: bool,
        records_origin: bool,
        starts_servers: bool,
    ) -> None:
        self.function = function
        self.environment = environment
        self.name = function.__name__
        self.carries = tuple(carries)
        self.carries_project = project
        self.cached = cached
        self.records_origin = records_origin
        self.starts_servers = starts_servers
        self.__doc__ = function.__doc__

    def __call__(self, **arguments: Any) -> dsl.PipelineTask:
        """Add a task to the pipeline that is being defined, as calling a KFP component does."""
        target = current_target()
        task: dsl.PipelineTask = self.build(target)(**arguments)
        for secret, variables in target.secrets.items():
            kubernetes.use_secret_as_env(task, secret, dict(variables))
        for claim, place in target.volumes.items():
            kubernetes.mount_pvc(task, claim, place)
        return task if self.cached else task.set_caching_options(False)

    def files(self, target: Target) -> dict[str, bytes]:
        """All that travels with the component, content by path."""
        files = {**embedded_files(self.function), **module_closure(self.carries)}
        if self.carries_project:
            files |= {f"{PROJECT_FOLDER}/{path}": content for path, content in target.project_files.items()}
        return files

    def variables(self, target: Target) -> dict[str, str]:
        """What the step is told in its environment's variables."""
        origin = target.origin(self.environment) if self.records_origin else {}
        return {**origin, **(target.serving() if self.starts_servers else {})}

    def build(self, target: Target) -> BaseComponent:
        """The KFP component for a target."""
        with tempfile.TemporaryDirectory() as placeholder:
            built: BaseComponent = dsl.component(
                self.function,
                base_image=target.image(self.environment),
                packages_to_install=target.packages(self.environment),
                install_kfp_package=target.packages(self.environment) is not None,
                embedded_artifact_path=placeholder,
            )
        # kfp's own archive holds time stamps, so that no two compilations agree; ours takes its place.
        embedded = archive(self.files(target))
        container = built.component_spec.implementation.container
        container.command = [_EMBEDDED_ARCHIVE.sub(embedded, part) for part in container.command]
        container.env = self.variables(target) or None
        return built


def component(
    *,
    environment: str,
    carries: Iterable[str] = (),
    carries_project: bool = False,
    cached: bool = True,
    records_origin: bool = False,
    starts_servers: bool = False,
) -> Callable[[Callable[..., Any]], LifecycleComponent]:
    """Make a function a component that runs in a named environment.

    Args:
        environment: One of `environments/*.in`.
        carries: Modules that travel with the component beside those its body imports, to be handed on by it.
        carries_project: Whether the project itself travels with it.
        cached: Whether its outputs may stand in for a later run with the same code and inputs. False for what has an
            effect outside its outputs, and for what reads something that its inputs do not name.
        records_origin: Whether it is told its environment and the code's version, to keep them with its result.
        starts_servers: Whether it starts servers on a cluster, and so has to know what they run on.
    """

    def decorate(function: Callable[..., Any]) -> LifecycleComponent:
        return LifecycleComponent(
            function, environment, carries, carries_project, cached, records_origin, starts_servers
        )

    return decorate


def components_of(root: Path) -> dict[str, LifecycleComponent]:
    """Every component below `components/`, by name."""
    import importlib

    found: dict[str, LifecycleComponent] = {}
    for file in sorted((root / "components").glob("*/*/component.py")):
        module = importlib.import_module(".".join([PACKAGE, *file.relative_to(root).with_suffix("").parts]))
        found |= {item.name: item for item in vars(module).values() if isinstance(item, LifecycleComponent)}
    return found
