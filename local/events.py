"""What happens in a run, step by step, as lines of JSON that the live view, `status` and the report read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp.local import graph_utils
from kfp.pipeline_spec import pipeline_spec_pb2

from kfp_lifecycle.runtime.states import State


@dataclass
class StepRecord:
    """One step of a run."""

    name: str
    state: State = State.waiting
    started_at: datetime | None = None
    seconds: float | None = None
    summary: str = ""
    reason: str = ""
    log: str = ""
    artifacts: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunProgress:
    """The steps of a run as they stand, in the order kfp runs them."""

    steps: dict[str, StepRecord]

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        step = self.steps.get(event.get("step", ""))
        if step is None:
            return
        at = datetime.fromisoformat(event["time"])
        step.state = State(event["state"])
        if step.state is State.running:
            step.started_at, step.log = at, event["log"]
            return
        if step.state is State.skipped:
            return
        if step.started_at is not None:
            step.seconds = (at - step.started_at).total_seconds()
        step.reason = event.get("reason", "")
        step.parameters = dict(event.get("parameters", {}))
        step.artifacts = {name: (item["path"], item["metadata"]) for name, item in event.get("artifacts", {}).items()}
        step.summary = next((str(data["summary"]) for _, data in step.artifacts.values() if "summary" in data), "")

    def artifact(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """Path and metadata of the newest artifact of this name."""
        found = [step.artifacts[name] for step in self.steps.values() if name in step.artifacts]
        return found[-1] if found else None

    def failed(self) -> StepRecord | None:
        """The first step that failed."""
        return next((step for step in self.steps.values() if step.state is State.failed), None)


def event(step: str, state: State, **details: Any) -> dict[str, Any]:
    """An event of now."""
    return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": step, "state": state, **details}


def append_event(file: Path, value: Mapping[str, Any]) -> None:
    """Write one event at the end of a run's events."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def read_progress(file: Path) -> RunProgress:
    """The state of a run from its events; the first line names its steps."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if not lines:
        return RunProgress({})
    progress = RunProgress({name: StepRecord(name) for name in json.loads(lines[0])["steps"]})
    for line in lines[1:]:
        progress.apply(json.loads(line))
    return progress


def steps_in_order(spec: pipeline_spec_pb2.PipelineSpec) -> list[str]:
    """Names of a compiled pipeline's steps in the order kfp's local runner takes them, branches included."""
    return list(_steps_of(spec, spec.root.dag))


def _steps_of(spec: pipeline_spec_pb2.PipelineSpec, dag: pipeline_spec_pb2.DagSpec) -> Iterator[str]:
    executors = spec.deployment_spec["executors"]
    importers = {label for label in executors if "importer" in executors[label]}
    waiting = graph_utils.topological_sort_tasks(dag.tasks)
    while waiting:
        reference = dag.tasks[waiting.pop()].component_ref.name
        component = spec.components[reference]
        if component.WhichOneof("implementation") == "dag":
            yield from _steps_of(spec, component.dag)
        # An importer only names what is there.
        elif component.executor_label not in importers:
            yield reference.removeprefix("comp-")
