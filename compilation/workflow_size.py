"""Workflow size: the bytes that a pipeline becomes on a Kubeflow, when it is submitted and at the end of its run.

Argo refuses a Workflow object, with its node status, above 1,048,576 bytes (`MAX_WORKFLOW_SIZE`), and Kubeflow
Pipelines turns no offloading of the status on. Kubeflow's compiler (backend/src/v2/compiler/argocompiler) writes each
distinct component and container once into `spec.arguments`, as JSON inside JSON, and each task's specification into a
template; a task's container then comes up to eight times in the status, in the inputs and outputs of its driver and
its executor (kubeflow/pipelines#13738). Older backends keep component specifications in annotations of 262,144 bytes
in all (kubeflow/pipelines#10968).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

LIMIT_BYTES = 1_048_576
# Copies of a task's container in the status of a finished run.
COPIES_IN_STATUS = 8
# What surrounds each part in the Workflow, as Kubeflow Pipelines 2.17.0 writes it: measured.
TEMPLATES_BYTES = 7_500
ARGUMENT_BYTES = 130
TASK_BYTES = 800

Json = Mapping[str, Any]


def submitted_bytes(pipeline: Json) -> int:
    """Size of the Workflow as it is submitted.

    Args:
        pipeline: The pipeline specification, the first document of a compiled file.
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
    )


def finished_bytes(pipeline: Json) -> int:
    """Size of the Workflow at the end of a run of every task, without counting on compression."""
    executors = pipeline["deploymentSpec"]["executors"]
    labels = [component.get("executorLabel") for component in pipeline["components"].values()]
    containers = [executors[label]["container"] for label in labels if label and "container" in executors[label]]
    return submitted_bytes(pipeline) + COPIES_IN_STATUS * sum(_escaped(_text(container)) for container in containers)


def read_pipeline(file: Path) -> Json:
    """The pipeline specification of a compiled file, without the platform's document."""
    specification: Json = next(iter(yaml.safe_load_all(file.read_text("utf-8"))))
    return specification


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
