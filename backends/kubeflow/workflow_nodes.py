"""Steps of a run out of Argo's nodes: what the Kubeflow Pipelines API tells of a run is its Workflow, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PipelineTaskSpec

from kfp_lifecycle.compilation.tasks import steps_of
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.states import State

STATES = {
    "SUCCEEDED": State.done,
    "FAILED": State.failed,
    "ERROR": State.failed,
    "CANCELED": State.failed,
    "SKIPPED": State.skipped,
    "OMITTED": State.skipped,
    "RUNNING": State.running,
}
# Argo's node that runs a step's container, below the node that is called as the step; the template that makes its pod;
# and what a node of a hook is called behind that of its task.
EXECUTOR, TEMPLATE, HOOK = "executor", "system-container-impl", ".onExit"
# How often a step may have been tried.
MOST_ATTEMPTS = 20


def progress_of(
    nodes: Sequence[Any], specification: PipelineSpec, pods: Mapping[str, Any] = MappingProxyType({}), *, ended: bool
) -> RunProgress:
    """A run's steps as they stand.

    Args:
        nodes: `run_details.task_details`: each node with its display name, state, times and the ids of its children.
        specification: The compiled pipeline.
        pods: What its second document gives the pod of each executor.
        ended: Whether the run has: what is not there then was not come to.

    Returns:
        A step's `log` is the name of the pod that has it.
    """
    named = {node.display_name: node for node in nodes}
    workflow = _Workflow(nodes)
    records = {}
    for step in steps_of(specification):
        record = records[step.name] = StepRecord(step.name)
        node = named.get(step.name)
        if node is None:
            record.state = State.skipped if ended else State.waiting
            continue
        # What could not begin has a node without a state.
        record.state = STATES.get(node.state, State.skipped if ended else State.waiting)
        template = _template(step.task, pods.get(step.component.executor_label, {}))
        pod = workflow.pod([*step.groups, *_hook(step.task), step.name], template)
        if pod is None:
            if record.state is State.done:
                # Its outputs were there: the driver said so, and no pod was made.
                record.state = State.cached
            elif record.state is State.running:
                record.state = State.waiting
            continue
        record.log = pod
        record.started_at, finished = moment(node.start_time), moment(node.end_time)
        if record.started_at and finished and record.state is not State.running:
            # A pod's times are those of its node's clock.
            record.seconds = max(0.0, (finished - record.started_at).total_seconds())
    return RunProgress(records)


def _template(task: PipelineTaskSpec, pod: Mapping[str, Any]) -> str:
    """Kubeflow's compiler has a template for tasks with a retry policy, and one for each number of labels and
    annotations (backend/src/v2/compiler/argocompiler/container.go)."""
    name = f"retry-{TEMPLATE}" if task.HasField("retry_policy") else TEMPLATE
    if "podMetadata" not in pod:
        return name
    annotations, labels = (len(pod["podMetadata"].get(kind, {})) for kind in ("annotations", "labels"))
    return f"metadata-{annotations}-{labels}-{name}"


def _hook(task: PipelineTaskSpec) -> list[str]:
    """The exit task stands in a hook of the task that it follows whatever becomes of that."""
    ends = PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
    if task.trigger_policy.strategy == ends and task.dependent_tasks:
        return [f"{task.dependent_tasks[0]}{HOOK}"]
    return []


class _Workflow:
    """The ids of a Workflow's nodes.

    The API gives the children's ids and no node's own. But an id is the Workflow's name and a hash of the node's: the
    names of the tasks that it stands in, each with its attempt (`NodeID` in Argo's workflow_types.go).
    """

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._ids = {child.pod_name for node in nodes for child in node.child_tasks or [] if child.pod_name}
        names = {node.display_name for node in nodes if node.display_name}
        self._name = next((name for name in sorted(names) if f"{name}-{fnv(f'{name}(0)')}" in self._ids), "")

    def pod(self, path: Sequence[str], template: str) -> str | None:
        """Name of a step's pod, that of its last attempt; None where it has none."""
        node: str | None = self._last_attempt(self._name)
        for name in ("root", *path, EXECUTOR):
            node = node and self._last_attempt(f"{node}.{name}")
        return f"{self._name}-{template}-{fnv(node)}" if node else None

    def _last_attempt(self, name: str) -> str | None:
        """A node that was skipped has none."""
        attempts = [f"{name}({number})" for number in range(MOST_ATTEMPTS)]
        return next((attempt for attempt in reversed(attempts) if self._exists(attempt)), None)

    def _exists(self, name: str) -> bool:
        return f"{self._name}-{fnv(name)}" in self._ids


def fnv(text: str) -> int:
    """FNV-1a hash of 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def moment(value: datetime | None) -> datetime | None:
    """None where the API gives the beginning of time for a time that is not known."""
    return value if value is not None and value.year > 1970 else None
