"""Doctor: what a run on a target would need, looked at before anything is started."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore

from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.uploads import STORE_ERRORS, credentials_of, reason_of
from kfp_lifecycle.compilation.pipeline import PIPELINES, CompiledPipeline, compile_pipeline
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.connections.buckets import store_of
from kfp_lifecycle.environments.locks import SETUP, STEP_ENVIRONMENTS, is_built
from kfp_lifecycle.runtime.state_folder import state_folder

# What the environments and a few runs take.
ROOM_GB = 10


def examine(
    configuration: Configuration,
    target: TargetName,
    project: Path,
    folder: Path,
    *,
    from_a_pod: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Finding]:
    """Look at everything a run needs, one after the other.

    Args:
        configuration: The project's configuration.
        target: Where runs would run.
        project: The project's folder.
        folder: An empty folder to compile to.
        from_a_pod: Whether to ask the stores from a pod too, which takes a run.
        say: Called with a line of progress.
    """
    if target == "local":
        yield from _local(configuration)
        return
    compiled: list[CompiledPipeline] = []
    for name in PIPELINES:
        try:
            compiled.append(compile_pipeline(name, target, project, folder / f"{name}.yaml"))
        except ConfigurationError as error:
            yield Finding("the project compiles", Found.bad, str(error), "correct pipeline.yaml")
            return
    yield Finding("the project compiles", Found.good, f"{len(compiled)} pipelines for {target}")
    root = compiled[0].upload_root
    if root:
        yield _upload_root(root)
    kubeflow, vertex = configuration.targets.kubeflow, configuration.targets.vertex
    if target == "vertex" and vertex is not None:
        from kfp_lifecycle.backends.vertex.doctor import examine_vertex

        yield from examine_vertex(configuration, vertex, [folder / f"{name}.yaml" for name in PIPELINES])
    if target == "kubeflow" and kubeflow is not None:
        from kfp_lifecycle.backends.kubeflow.doctor import examine_from_a_pod, examine_kubeflow

        yield from examine_kubeflow(configuration, kubeflow, [folder / f"{name}.yaml" for name in PIPELINES])
        if from_a_pod:
            yield from examine_from_a_pod(configuration, kubeflow, project, folder, say)


def _local(configuration: Configuration) -> Iterator[Finding]:
    missing = [name for name in STEP_ENVIRONMENTS if not is_built(name)]
    yield Finding(
        "environments are built",
        Found.bad if missing else Found.good,
        f"missing: {', '.join(missing)}" if missing else ", ".join(STEP_ENVIRONMENTS),
        f"run `{SETUP}`" if missing else "",
    )
    state = state_folder()
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free / 1e9
    yield Finding(
        "there is room",
        Found.good if free > ROOM_GB else Found.bad,
        f"{free:.0f} GB free at {state}",
        "" if free > ROOM_GB else f"make room for {ROOM_GB} GB, or name another folder in LIFECYCLE_STATE",
    )
    port = configuration.deployment.http_port
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    yield Finding(
        "the endpoint's port",
        Found.good,
        f"{port} is {'answered already: by the last release, or by something else' if taken else 'free'}",
    )


def _upload_root(root: str) -> Finding:
    """Write a small object and take it away again."""
    try:
        store, folder = store_of(root)
        key = "/".join(filter(None, (folder, f"doctor-{secrets.token_hex(4)}")))
        obstore.put(store, key, b"written by lifecycle doctor")
        obstore.delete(store, key)
    except STORE_ERRORS as error:
        return Finding(
            "the upload root is writable",
            Found.bad,
            f"{root}: {reason_of(error)}",
            f"see upload_root, and this machine's credentials: {credentials_of(root)}",
        )
    return Finding("the upload root is writable", Found.good, root)
