"""Steps of a compiled pipeline in pods: kfp's local runner leads, and each container is a pod of the node.

What stands for Kubeflow's driver and launcher is here: the executor input comes from the local runner, whose folders
all pods mount. All else of a pod is what was compiled: image, command, variables, resources, and of the second document
secrets, claims, labels and the user. To it comes what Kubeflow Pipelines 2.17 adds to every pod.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from kfp.local import importer_handler, status

from kfp_lifecycle.local import kfp_runner
from tests.control_planes.kubeflow.order import place_of
from tests.kubernetes_node.pods import ALLOWED, Namespace
from tests.node.environment_images import volume_of

# The run's id, as Kubeflow Pipelines writes it on each pod.
RUN = "f2b1c0de-0000-4000-8000-000000000000"
STEP_SECONDS = 600


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline: what it says of the pod of each step."""

    containers: Mapping[str, Any]
    platform: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> Pipeline:
        """Containers and what Kubernetes is told of them, by the name of the task."""
        pipeline, kubernetes = yaml.safe_load_all(file.read_text("utf-8"))
        executors = pipeline["deploymentSpec"]["executors"]
        told = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        components = pipeline["components"]
        dags = [part["dag"] for part in (pipeline["root"], *components.values()) if "dag" in part]
        labels = {
            name: components[task["componentRef"]["name"]].get("executorLabel", "")
            for dag in dags
            for name, task in dag["tasks"].items()
        }
        steps = {name: label for name, label in labels.items() if "container" in executors.get(label, {})}
        return cls(
            {name: executors[label]["container"] for name, label in steps.items()},
            {name: told.get(label, {}) for name, label in steps.items()},
        )


@dataclass
class Recorder:
    """The pods that there were, by the step's name; what is told to an observer beside them, nobody here needs."""

    pods: dict[str, Any] = field(default_factory=dict)
    """As they were at their end."""
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As they were created."""

    def started(self, step: str, log: Path) -> None: ...
    def cached(self, step: str, outputs: kfp_runner.StepOutputs) -> None: ...
    def done(self, step: str, outputs: kfp_runner.StepOutputs) -> None: ...
    def failed(self, step: str, reason: str, log: Path) -> None: ...
    def interrupted(self, step: str) -> None: ...


class PodTaskHandler(kfp_runner.EnvironmentTaskHandler):
    """Runs a task's container in a pod."""

    namespace: ClassVar[Namespace]
    pipeline: ClassVar[Pipeline]
    recorder: ClassVar[Recorder]
    shared: ClassVar[Mapping[str, Path]]
    """Claims that every pod mounts, where the machine has their folders: those of the local runner."""

    def validate_image(self, image: str) -> None:
        """Any image."""

    def validate_not_container_component(self, full_command: list[str]) -> None:
        """Any command."""

    def validate_not_containerized_python_component(self, full_command: list[str]) -> None:
        """Its code is in the image."""

    def run(self) -> status.Status:
        """Run the pod to its end."""
        place = self.full_command.index("--executor_input") + 1
        executor_input = json.loads(self.full_command[place])
        step = Path(executor_input["outputs"]["outputFile"]).parent.name
        command = list(self.full_command)
        command[place] = json.dumps(as_kubeflow_tells(executor_input, failed=bool(self.session.failures)))
        for file in output_places(executor_input):
            file.parent.mkdir(parents=True, exist_ok=True)
        sent = self.recorder.sent[step] = pod_of_step(step, self.pipeline, command, self.shared)
        pod = self.recorder.pods[step] = self.namespace.ended(self.namespace.create(sent), STEP_SECONDS)
        ended = terminated(pod)
        if ended.exit_code:
            self.session.failures[step] = ended.message or ended.reason
            return status.Status.FAILURE
        for path, _ in kfp_runner.read_outputs(executor_input).artifacts.values():
            if not Path(path).exists():
                Path(path).touch()
        return status.Status.SUCCESS


def terminated(pod: Any) -> Any:
    """How a pod's container ended."""
    (container,) = pod.status.container_statuses
    return container.state.terminated


def as_kubeflow_tells(executor_input: dict[str, Any], failed: bool) -> dict[str, Any]:
    """Tell an exit handler of the run's end as Kubeflow does: neither which step failed nor why."""
    parameters = executor_input.get("inputs", {}).get("parameterValues", {})
    for name, value in parameters.items():
        if isinstance(value, dict) and "pipeline_task_name" in value:
            state = "FAILED" if failed else "COMPLETE"
            parameters[name] = {"state": state, "pipelineTaskName": value["pipeline_task_name"], "error": {}}
    return executor_input


def output_places(executor_input: Mapping[str, Any]) -> Iterator[Path]:
    """Where a step is told to leave what it makes."""
    outputs = executor_input["outputs"]
    yield Path(outputs["outputFile"])
    for items in outputs.get("artifacts", {}).values():
        yield from (Path(item["uri"]) for item in items["artifacts"])


def pod_of_step(
    step: str, pipeline: Pipeline, command: list[str], shared: Mapping[str, Path] = {}, run: str = RUN
) -> dict[str, Any]:
    """The pod of a step, as Kubeflow Pipelines makes it of what was compiled."""
    container, told = pipeline.containers[step], pipeline.platform[step]
    claims = [(item["pvcNameParameter"]["runtimeValue"]["constant"], item["mountPath"]) for item in told["pvcMount"]]
    claims += [(name, str(folder)) for name, folder in shared.items()]
    if packages := volume_of(container["image"]):
        claims.append(packages)
    variables: list[dict[str, Any]] = [
        # As the launcher's: by it a step finds itself.
        {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *container.get("env", []),
    ]
    for secret in told.get("secretAsEnv", []):
        name = secret["secretNameParameter"]["runtimeValue"]["constant"]
        variables += [
            {"name": key["envVar"], "valueFrom": {"secretKeyRef": {"name": name, "key": key["secretKey"]}}}
            for key in secret["keyToEnv"]
        ]
    user = told["securityContext"]
    main = {
        "name": "main",
        "image": container["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": variables,
        "resources": _resources(container["resources"]),
        "volumeMounts": [{"name": name, "mountPath": place} for name, place in claims],
        "securityContext": {
            **ALLOWED,
            "runAsNonRoot": user["runAsNonRoot"],
            **({"runAsUser": int(user["runAsUser"])} if "runAsUser" in user else {}),
        },
    }
    labels = {**told["podMetadata"]["labels"], "pipeline/runid": run}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{step}-", "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [main],
            "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _ in claims],
        },
    }


def _resources(compiled: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """`resourceMemoryLimit` and its like, as Kubernetes has them."""
    found: dict[str, dict[str, str]] = {}
    for key, value in compiled.items():
        if match := re.fullmatch(r"resource(Cpu|Memory)(Request|Limit)", key):
            found.setdefault(f"{match[2].lower()}s", {})[match[1].lower()] = value
    return found


def in_pods(
    namespace: Namespace,
    pipeline: Pipeline,
    objects: Path,
    shared: Mapping[str, Path],
    patch: pytest.MonkeyPatch,
) -> Recorder:
    """Let kfp's local runner start each task in a pod.

    Args:
        namespace: Where the pods are.
        pipeline: What it runs.
        objects: Folder that stands for the object store, which importers name.
        shared: Claims that every pod mounts, and their folders.
        patch: Ends it.
    """
    recorder = Recorder()
    known = {"namespace": namespace, "pipeline": pipeline, "recorder": recorder, "shared": shared}
    uri = importer_handler.get_importer_uri
    patch.setattr(kfp_runner, "EnvironmentTaskHandler", type("Handler", (PodTaskHandler,), known))
    patch.setattr(importer_handler, "get_importer_uri", lambda **given: place_of(uri(**given), str(objects)))
    return recorder
