"""Which target a command means, what speaks to it, and how its refusals end a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, EXIT_USAGE, project_folder, refuse, say

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import Backend, ClusterBackend
    from kfp_lifecycle.config.configuration import Configuration
    from kfp_lifecycle.config.targets import TargetName


class TargetOption(StrEnum):
    """Where pipelines run."""

    local = "local"
    kubeflow = "kubeflow"
    vertex = "vertex"


NO_CLUSTER = "name the cluster, --target kubeflow or --target vertex"
OnTarget = Annotated[
    TargetOption | None,
    typer.Option("--target", help="Where it runs; by default what the project says (targets.default), or here."),
]


def target_of(target: TargetOption | None, project: Path | None) -> TargetName:
    """The target that is meant: the one named, else the project's default, else this machine."""
    return target.value if target is not None else _target_and_project(None, project)[0]


def backend_for(target: TargetOption | None, project: Path | None) -> Backend:
    """The backend of the target that is meant."""
    chosen, configuration = _target_and_project(target, project)
    if configuration is None or chosen == "local":
        # It needs what only runs here need.
        from kfp_lifecycle.backends.local import LocalBackend

        return LocalBackend()
    from kfp_lifecycle.backends.submission import backend_of

    return backend_of(configuration, chosen)


def cluster_backend_for(target: TargetOption | None, project: Path | None) -> ClusterBackend:
    """The backend of the cluster that is meant; the command ends where it is this machine."""
    chosen, configuration = _target_and_project(target, project)
    if configuration is None or chosen == "local":
        refuse(NO_CLUSTER)
    from kfp_lifecycle.backends.submission import backend_of

    return backend_of(configuration, chosen)


def _target_and_project(target: TargetOption | None, project: Path | None) -> tuple[TargetName, Configuration | None]:
    """The target that is meant, and the project's configuration where it takes one to know more."""
    from kfp_lifecycle.config.loading import load_configuration

    named: TargetName | None = target.value if target is not None else None
    if named == "local" or (named is None and project is None and not Path("pipeline.yaml").is_file()):
        return "local", None
    configuration = load_configuration(project_folder(project))
    return named or configuration.targets.default, configuration


@contextmanager
def plain_refusals() -> Iterator[None]:
    """End a command with what a backend says: exit code 1 where a target refuses, 2 where what was named is not
    there."""
    from kfp_lifecycle.backends.backend import BackendError, NotThere

    try:
        yield
    except BackendError as error:
        say(f"error: {error}")
        raise typer.Exit(EXIT_USAGE if isinstance(error, NotThere) else EXIT_FAILED) from None
