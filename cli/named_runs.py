"""Runs that have a name of their own, so that they are found again: started and waited for on every target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.cli.console import refuse, say
from kfp_lifecycle.cli.interruption import stop_like_ctrl_c

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import Backend, RunStatus
    from kfp_lifecycle.compilation.pipeline import CompiledPipeline
    from kfp_lifecycle.config.targets import TargetName


@dataclass(frozen=True)
class Starter:
    """Starts runs of one pipeline on one target."""

    backend: Backend
    start: Callable[[str, Mapping[str, str]], str]
    """Starts a run of a name with parameters, and gives its id. On this machine the run has ended then."""

    def end_of(self, run: str) -> RunStatus:
        """Wait for the end of a run."""
        from kfp_lifecycle.backends.watching import watch

        return watch(self.backend, run, lambda status: None, say)


def starter_for(
    target: TargetName, pipeline: str, project: Path, overrides: list[str], compiled: CompiledPipeline, file: Path
) -> Starter:
    """What starts runs of a pipeline on a target.

    Args:
        target: Where they run.
        pipeline: The pipeline.
        project: The project's folder.
        overrides: `KEY=VALUE` pairs for the configuration.
        compiled: The pipeline, compiled for the target.
        file: The compiled YAML.
    """
    return _here(pipeline, project, overrides) if target == "local" else _on_cluster(target, pipeline, compiled, file)


def _here(pipeline: str, project: Path, overrides: list[str]) -> Starter:
    from kfp_lifecycle.backends.local import LocalBackend
    from kfp_lifecycle.local.runs import execute
    from kfp_lifecycle.runtime.contract import ContractViolation

    def start(name: str, parameters: Mapping[str, str]) -> str:
        given = [f"{key}={value}" for key, value in parameters.items()]
        say(f"running {name}")
        stop_like_ctrl_c()
        try:
            return execute(pipeline, project, overrides=overrides, parameters=given, name=name).id
        except ContractViolation as error:
            refuse(str(error))

    return Starter(LocalBackend(), start)


def _on_cluster(target: TargetName, pipeline: str, compiled: CompiledPipeline, file: Path) -> Starter:
    from kfp_lifecycle.backends.backend import Submission
    from kfp_lifecycle.backends.submission import backend_of
    from kfp_lifecycle.backends.uploads import upload

    backend = backend_of(compiled.configuration, target)

    def start(name: str, parameters: Mapping[str, str]) -> str:
        if compiled.uploads:
            upload(compiled.uploads, compiled.upload_root, say)
        say(f"submitting {name} to {target}")
        return backend.submit(
            Submission(file, pipeline, compiled.configuration.name, name, parameters=dict(parameters), once=True)
        )

    return Starter(backend, start)
