"""Submission of a pipeline to a cluster: compile it, upload what its steps fetch, start a run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kfp_lifecycle.backends.backend import ClusterBackend, Submission
from kfp_lifecycle.backends.uploads import upload
from kfp_lifecycle.compilation.parameters import read_parameters
from kfp_lifecycle.compilation.pipeline import cluster_target, compile_pipeline
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.targets import TargetName


@dataclass(frozen=True)
class Submitted:
    """A run that was started."""

    backend: ClusterBackend
    run_id: str
    name: str


def backend_of(configuration: Configuration, target: TargetName) -> ClusterBackend:
    """The backend of a project's cluster.

    Raises:
        ConfigurationError: the project says nothing of it.
    """
    cluster_target(configuration, target)
    targets = configuration.targets
    if target == "kubeflow" and targets.kubeflow is not None:
        from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend

        return KubeflowBackend(targets.kubeflow, configuration.name)
    if target == "vertex" and targets.vertex is not None:
        try:
            from kfp_lifecycle.backends.vertex.backend import VertexBackend
        except ModuleNotFoundError as missing:
            raise ConfigurationError(
                f"Vertex AI is asked by Google's client, and {missing.name} is not installed here: "
                "pip install 'kfp-lifecycle[vertex]'"
            ) from missing

        return VertexBackend(targets.vertex, configuration.name)
    raise ConfigurationError(f"there is no backend for {target}")


def submit(
    pipeline: str,
    target: TargetName,
    project: Path,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    parameters: Sequence[str] = (),
    use_cache: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Submitted:
    """Compile a pipeline and start it on a cluster.

    Args:
        pipeline: One of PIPELINES.
        target: `kubeflow` or `vertex`.
        project: The project's folder.
        folder: Where the compiled YAML is kept.
        overrides: `KEY=VALUE` pairs for the configuration.
        parameters: `NAME=VALUE` pairs for the pipeline.
        use_cache: Take over what the target has kept of earlier runs.
        say: Called with a line of progress.

    Raises:
        ConfigurationError: the project cannot be compiled for the target, or the pipeline cannot be given these
            parameters; nothing was sent.
        BackendError: something cannot be uploaded, or no run can be started.
    """
    file = folder / f"{pipeline}.yaml"
    compiled = compile_pipeline(pipeline, target, project, file, overrides=overrides)
    given = read_parameters(pipeline, compiled.parameters, parameters, compiled.configuration)
    backend = backend_of(compiled.configuration, target)
    if compiled.uploads:
        upload(compiled.uploads, compiled.upload_root, say)
    name = f"{pipeline}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    say(f"submitting {name} to {target}")
    submission = Submission(file, pipeline, compiled.configuration.name, name, use_cache, given)
    return Submitted(backend, backend.submit(submission), name)
