"""Workflow size: the bytes that a pipeline becomes on a Kubeflow, when it is submitted and at the end of its run.

Argo refuses a Workflow object above 1,048,576 bytes (`MAX_WORKFLOW_SIZE`). It packs the status of its nodes where the
whole is larger, and Kubeflow Pipelines turns no offloading of the status on. Kubeflow's compiler
(backend/src/v2/compiler/argocompiler) writes each distinct component and container once into `spec.arguments`, as JSON
inside JSON, and each task's specification into a template. Each task then has nodes in the status: a driver's, whose
inputs are these again, and an implementation's, whose container the driver patches: command, component, what the
platform's document gives the pod, and every input and output with its metadata, six times over
(kubeflow/pipelines#13738). Older backends keep component
specifications in annotations of 262,144 bytes in all (kubeflow/pipelines#10968).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kfp_lifecycle.compilation.compiled_file import read_documents

LIMIT_BYTES = 1_048_576
# What one run of each pipeline came to on Kubeflow Pipelines 2.17.0 with Argo 4.0.5, as all figures here.
# Argo's packed status, of what it is unpacked; less where no container carries code.
PACKED_SHARE = 0.35
# Copies in the status of a finished run: of the driver's patch, of a task's container, and of its component's and its
# own specification.
PATCHES, CONTAINERS, SPECIFICATIONS = 6, 2, 4
# Of what a pod is given: the driver's inputs. Its labels and annotations are parameters of four more nodes.
PODS, METADATA = 2, 4
# Nodes of a task, of an importer and of a group of tasks, and of the run and its exit handler; without what they are
# given.
NODES, IMPORTER_NODES, GROUP_NODES, OTHER_NODES, NODE_BYTES = 7, 2, 4, 8, 560
# A patch beside the container and the component: the launcher's options, and an artifact that is read or written.
LAUNCHER_BYTES, INPUT_BYTES, OUTPUT_BYTES = 200, 1_000, 260
# What surrounds each part in the Workflow, as Kubeflow Pipelines 2.17.0 writes it: measured.
TEMPLATES_BYTES = 7_500
ARGUMENT_BYTES = 130
TASK_BYTES = 800
# A pod's argument and how it is named where it is handed on; a label or an annotation, two parameters each time.
POD_BYTES, LABEL_BYTES = 150, 55

Json = Mapping[str, Any]
NO_PODS: Json = {}


def submitted_bytes(pipeline: Json, pods: Json = NO_PODS) -> int:
    """Size of the Workflow as it is submitted.

    Args:
        pipeline: The pipeline specification, the first document of a compiled file.
        pods: What each executor's pod is given beside its container, as `read_pods` gives it.
    """
    executors = pipeline["deploymentSpec"]["executors"]
    components = pipeline["components"]
    arguments = [*_distinct(components.values()), *_distinct(_containers(executors))]
    arguments.append(_text(pipeline["root"]))
    tasks = [_text(task) for dag in _dags(pipeline) for task in dag["tasks"].values()]
    return (
        TEMPLATES_BYTES
        + sum(ARGUMENT_BYTES + _escaped(text) for text in arguments)
        + sum(TASK_BYTES + _escaped(text) for text in tasks)
        + sum(POD_BYTES + _escaped(_text(pod)) + _metadata_bytes(pod) for pod in pods.values())
    )


def copied_bytes(pipeline: Json, copies: int = 8) -> int:
    """What a pipeline itself brings to its Workflow: its size as it is submitted, and each task's container so many
    times more, as the status repeats it; nothing packed, and nothing that Kubeflow adds to a patch."""
    executors = pipeline["deploymentSpec"]["executors"]
    labels = [component.get("executorLabel") for component in pipeline["components"].values()]
    containers = [executors[label]["container"] for label in labels if label and "container" in executors[label]]
    return submitted_bytes(pipeline) + copies * sum(_escaped(_text(container)) for container in containers)


def finished_bytes(pipeline: Json, pods: Json = NO_PODS) -> int:
    """Size of the Workflow at the end of a run of every task, nothing packed."""
    executors, components = pipeline["deploymentSpec"]["executors"], pipeline["components"]
    status = OTHER_NODES * NODE_BYTES
    for dag in _dags(pipeline):
        for task in dag["tasks"].values():
            component = components[task["componentRef"]["name"]]
            executor = executors.get(component.get("executorLabel"), {})
            given = _escaped(_text(component)) + _escaped(_text(task))
            if "container" in executor:
                container = executor["container"]
                status += NODES * NODE_BYTES + SPECIFICATIONS * given + CONTAINERS * _escaped(_text(container))
                status += PATCHES * _patch_bytes(component, task, container)
                pod = pods.get(component["executorLabel"], {})
                # What the driver makes of it is about as long.
                status += (PODS + PATCHES) * _escaped(_text(pod)) + METADATA * _metadata_bytes(pod)
            elif "importer" in executor:
                status += IMPORTER_NODES * (NODE_BYTES + given + _escaped(_text(executor["importer"])))
            else:
                status += GROUP_NODES * NODE_BYTES + 2 * given
    return submitted_bytes(pipeline, pods) + status


def stored_bytes(pipeline: Json, pods: Json = NO_PODS) -> int:
    """What Argo holds against its limit at the end of a run of every task: the Workflow with its status packed."""
    submitted = submitted_bytes(pipeline, pods)
    return submitted + int(PACKED_SHARE * (finished_bytes(pipeline, pods) - submitted))


def pods(pipeline: Json, skipped: Collection[str] = ()) -> int:
    """Pods of a run on Kubeflow Pipelines 2.17: a driver and a container for each step, one for each importer, and a
    driver for each group of tasks, that of all included.

    Args:
        pipeline: The pipeline specification.
        skipped: Names of groups whose condition does not hold: their driver finds out, and nothing of them runs.
    """

    def below(dag: Json) -> int:
        return 1 + sum(of(task) for task in dag["tasks"].values())

    def of(task: Json) -> int:
        component = pipeline["components"][task["componentRef"]["name"]]
        if "dag" in component:
            return 1 if task["taskInfo"]["name"] in skipped else below(component["dag"])
        return 1 if "importer" in pipeline["deploymentSpec"]["executors"][component["executorLabel"]] else 2

    return below(pipeline["root"]["dag"])


def _metadata_bytes(pod: Json) -> int:
    """Bytes of a pod's labels and annotations as parameters, once."""
    metadata = pod.get("podMetadata", {})
    pairs = [pair for kind in ("labels", "annotations") for pair in metadata.get(kind, {}).items()]
    return sum(2 * LABEL_BYTES + len(key) + len(value) for key, value in pairs)


def _patch_bytes(component: Json, task: Json, container: Json) -> int:
    """Bytes of what the driver makes of a container."""
    inputs = component.get("inputDefinitions", {}).get("artifacts", {})
    outputs = component.get("outputDefinitions", {}).get("artifacts", {})
    settings = _text(task.get("inputs", {}).get("parameters", {}))
    command = [_text(component), settings, *container.get("command", []), *container.get("args", [])]
    patch = _text({**container, "command": command})
    return LAUNCHER_BYTES + INPUT_BYTES * len(inputs) + OUTPUT_BYTES * len(outputs) + _escaped(patch)


def read_pipeline(file: Path) -> Json:
    """The pipeline specification of a compiled file, without the platform's document."""
    return read_documents(file)[0]


def read_pods(file: Path) -> Json:
    """What each executor's pod is given by a compiled file's second document, by the executor's label."""
    documents = read_documents(file)
    pods: Json = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if len(documents) > 1 else {}
    return pods


def _dags(pipeline: Json) -> Iterator[Json]:
    yield pipeline["root"]["dag"]
    yield from (component["dag"] for component in pipeline["components"].values() if "dag" in component)


def _containers(executors: Json) -> Iterator[Json]:
    yield from (executor["container"] for executor in executors.values() if "container" in executor)


def _distinct(values: Any) -> list[str]:
    return sorted({_text(value) for value in values})


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _escaped(text: str) -> int:
    """Bytes of a JSON text as a string inside JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode())
