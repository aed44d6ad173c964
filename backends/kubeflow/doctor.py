"""Doctor of a Kubeflow: its API, its namespace, and the stores as its pods see them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.backends.backend import BackendError, Submission
from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.kubeflow.cluster import kubernetes_api
from kfp_lifecycle.backends.kubeflow.namespace import StepRoom, examine_namespace
from kfp_lifecycle.backends.registries import examine_images, images_of, saved_login
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.targets import KubeflowTarget
from kfp_lifecycle.config.tuning import Engine

# The oldest Kubeflow Pipelines that takes artifacts of a folder's importer and conditions on outputs as compiled here.
OLDEST = (2, 5)
# The pipeline that asks the stores, its step, and how that step's log tells of each.
CHECK, CHECK_STEP, TOLD = "store_check", "check-stores", "store {"


def examine_kubeflow(
    configuration: Configuration, target: KubeflowTarget, compiled: Sequence[Path]
) -> Iterator[Finding]:
    """Look at a Kubeflow from here. Nothing is started.

    Args:
        configuration: The project's configuration.
        target: What it says of the Kubeflow.
        compiled: The pipelines that would run.
    """
    backend = KubeflowBackend(target, configuration.name)
    try:
        version = backend.api.version()
    except BackendError as error:
        yield Finding("Kubeflow Pipelines answers", Found.bad, str(error), "see targets.kubeflow.endpoint")
        return
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = bool(numbers) and numbers < OLDEST
    yield Finding(
        "Kubeflow Pipelines answers",
        Found.bad if old else Found.good,
        f"version {version or 'unknown'}",
        f"pipelines need {'.'.join(map(str, OLDEST))} or later" if old else "",
    )
    try:
        backend.runs(1)
    except BackendError as error:
        yield Finding("runs may be listed", Found.bad, str(error), "log in, or ask for the role that is named")
        return
    yield Finding("runs may be listed", Found.good, f"experiment {target.experiment or configuration.name}")
    yield from examine_images(images_of(compiled), saved_login)
    try:
        api = kubernetes_api()
    except BackendError as error:
        what = "secrets, volumes, quotas and rights in the cluster"
        yield Finding(what, Found.unknown, str(error), "log in to the cluster with kubectl")
        return
    steps = rooms_of(compiled)
    yield from examine_namespace(api, target, steps, katib=configuration.tuning.engine is Engine.katib)


def rooms_of(compiled: Sequence[Path]) -> list[StepRoom]:
    """What each step of compiled pipelines asks for: of a step that several have, once."""
    found: dict[str, StepRoom] = {}
    for file in compiled:
        for label, executor in read_pipeline(file)["deploymentSpec"]["executors"].items():
            if "container" in executor:
                step = label.removeprefix("exec-")
                found[step] = _room_of(step, executor["container"].get("resources", {}))
    return list(found.values())


def _room_of(step: str, resources: Mapping[str, Any]) -> StepRoom:
    named = {
        kind: {
            resource: resources[key]
            for resource in ("cpu", "memory")
            if (key := f"resource{resource.capitalize()}{kind}") in resources
        }
        for kind in ("Request", "Limit")
    }
    accelerator = resources.get("accelerator", {})
    given = {accelerator["resourceType"]: accelerator["resourceCount"]} if accelerator else {}
    # Where a container has a limit and no request, Kubernetes takes the limit for both.
    return StepRoom(step, {**named["Limit"], **named["Request"], **given}, {**named["Limit"], **given})


def examine_from_a_pod(
    configuration: Configuration,
    target: KubeflowTarget,
    project: Path,
    folder: Path,
    say: Callable[[str], None],
    pause: float | None = None,
) -> Iterator[Finding]:
    """Ask the stores from a pod: a run of one step, with the variables, secrets and volumes that every step has.

    Args:
        configuration: The project's configuration.
        target: What it says of the Kubeflow.
        project: The project's folder.
        folder: Where the compiled pipeline is kept.
        say: Called with a line of progress.
        pause: Seconds between two questions about the run; by default what suits the target.
    """
    backend = KubeflowBackend(target, configuration.name)
    file = folder / f"{CHECK}.yaml"
    compile_pipeline(CHECK, "kubeflow", project, file)
    name = f"{CHECK}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    try:
        run = backend.submit(Submission(file, CHECK, configuration.name, name, use_cache=False))
        say(f"asking the stores from a pod, in run {run}")
        status = watch(backend, run, lambda now: None, say, pause)
        if status.reason:
            remedy = f"see the run at {status.summary.link}"
            yield Finding("a pod starts and ends", Found.bad, status.reason, remedy)
            return
        lines = list(backend.log(run, CHECK_STEP))
    except BackendError as error:
        yield Finding("a pod starts and ends", Found.bad, str(error), "see what stands above")
        return
    yield Finding("a pod starts and ends", Found.good, f"run {run}")
    for line in lines:
        if line.startswith(TOLD):
            answer = json.loads(line.removeprefix("store "))
            reached = answer["reached"]
            yield Finding(
                f"{answer['store']} answers from a pod",
                Found.good if reached else Found.bad,
                answer["detail"],
                ""
                if reached
                else f"see targets.kubeflow.{answer['store']}, its secrets, and the network policies on the way",
            )
