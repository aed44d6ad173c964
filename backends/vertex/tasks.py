"""Steps of a run out of Vertex AI's task details."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from google.cloud import aiplatform_v1 as api
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from kfp_lifecycle.compilation.tasks import steps_of
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.contract import outcome_in
from kfp_lifecycle.runtime.states import State

Task = api.PipelineTaskDetail.State

UNEXPLAINED = "Vertex AI does not say why"

# How a job says why it ended: before it which replica and its exit code, behind it where the log is.
LAST_WORDS = re.compile(
    r".*Termination (?:log message|reason):(?: \w+\.)?(?P<words>.*?)(?:To find out more about why your job exited|$)",
    re.DOTALL,
)
# What Vertex AI says of a machine that was too small, and of one that there is none of.
LOW_ON_MEMORY = re.compile(r"(?i)low on memory|out[- ]of[- ]memory|OOMKilled|non-zero status of (9|137)\b")
NO_MACHINE = re.compile(r"(?i)resources are insufficient in region")

TASK_STATES = {
    Task.RUNNING: State.running,
    Task.CANCEL_PENDING: State.running,
    Task.CANCELLING: State.running,
    Task.SUCCEEDED: State.done,
    Task.SKIPPED: State.cached,
    Task.NOT_TRIGGERED: State.skipped,
    Task.CANCELLED: State.failed,
    Task.FAILED: State.failed,
}


def details_of(job: Any) -> list[Any]:
    """What is told of a run's tasks, as they began."""
    details = type(job).pb(job).job_detail.task_details
    return sorted(details, key=lambda detail: (detail.create_time.seconds, detail.create_time.nanos))


def progress_of(job: Any, *, ended: bool) -> RunProgress:
    """A run's steps as they stand.

    Args:
        job: The run, with its tasks.
        ended: Whether it has: what is not told of then was not come to.
    """
    specification = json_format.ParseDict(
        json_format.MessageToDict(type(job).pb(job).pipeline_spec), PipelineSpec(), ignore_unknown_fields=True
    )
    named: dict[str, Any] = {}
    for detail in details_of(job):
        # In a loop a task is there once for each item: one that failed counts.
        if named.get(detail.task_name) is None or named[detail.task_name].state != Task.FAILED:
            named[detail.task_name] = detail
    records = {}
    for step in steps_of(specification):
        # What was not come to, as it is in a branch that was not taken, is not told of.
        record = records[step.name] = StepRecord(step.name, State.skipped if ended else State.waiting)
        if step.name in named:
            _tell(record, named[step.name])
    return RunProgress(records)


def _tell(step: StepRecord, detail: Any) -> None:
    """Write down what Vertex AI tells of a step."""
    step.state = TASK_STATES.get(Task(detail.state), step.state)
    step.log = detail.executor_detail.container_detail.main_job.rpartition("/")[2]
    step.started_at = _moment(detail.start_time)
    finished = _moment(detail.end_time)
    if step.started_at and finished:
        step.seconds = max(0.0, (finished - step.started_at).total_seconds())
    for name, found in detail.outputs.items():
        for artifact in found.artifacts:
            step.artifacts[name] = (artifact.uri, json_format.MessageToDict(artifact.metadata))
    written = json_format.MessageToDict(detail.execution.metadata)
    step.parameters = {
        name.removeprefix("output:"): value for name, value in written.items() if name.startswith("output:")
    }
    step.summary = next((str(data["summary"]) for _, data in step.artifacts.values() if "summary" in data), "")
    if step.state is State.failed:
        step.reason = (
            "it was cancelled" if detail.state == Task.CANCELLED else reason_in(detail.error.message, step.name)
        )


def reason_in(message: str, step: str) -> str:
    """Why a step failed, in its own words where they are in what Vertex AI says of its job.

    Args:
        message: `The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. …`, with what
            the step left in its termination log, or else the end of its log.
        step: The step, whose settings are named where they are the remedy.
    """
    found = LAST_WORDS.search(message)
    words = found["words"].strip() if found else ""
    own = outcome_in(f"\n{words}")[1]
    said = " ".join(message.split())
    setting = f"targets.vertex.steps.{step.replace('-', '_')}"
    if not own and LOW_ON_MEMORY.search(message):
        return f"It was out of memory. Raise {setting}.memory. Vertex AI says: {said}"
    if not own and NO_MACHINE.search(message):
        return f"There is no machine for it now. Resume the run later, or change {setting}. Vertex AI says: {said}"
    return own or words or said or UNEXPLAINED


def _moment(value: Any) -> datetime | None:
    return value.ToDatetime(UTC) if value.seconds else None
