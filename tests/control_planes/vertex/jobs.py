"""Pipeline jobs: created, read, listed, cancelled, deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1beta1
from google.protobuf import json_format

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.errors import ApiError, Code
from tests.control_planes.kubeflow.specification import ParameterType, Template
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.kubeflow.workflow import FINAL, Phase, Workflow
from tests.control_planes.vertex.errors import GoogleError, invalid, not_found
from tests.control_planes.vertex.execution import JobExecution
from tests.control_planes.vertex.filters import page
from tests.control_planes.vertex.tasks import failed_tasks, moment, task_details

KIND = "runs"
ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
LABEL_KEY, LABEL_VALUE, MOST_LABELS = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}"), 64
SHAPES = {
    "service_account": re.compile(r"[a-z0-9-]+@[a-z0-9.:-]+\.com"),
    "network": re.compile(r"projects/\d+/global/networks/[a-z]([-a-z0-9]{0,61}[a-z0-9])?"),
}
KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
STATES = {
    Phase.pending: "PIPELINE_STATE_PENDING",
    Phase.running: "PIPELINE_STATE_RUNNING",
    Phase.succeeded: "PIPELINE_STATE_SUCCEEDED",
    Phase.failed: "PIPELINE_STATE_FAILED",
    Phase.error: "PIPELINE_STATE_FAILED",
}
FIELDS = {
    "display_name": lambda job: job["displayName"],
    "state": lambda job: job["state"],
    "labels": lambda job: job.get("labels", {}),
    "schedule_name": lambda job: job.get("scheduleName", ""),
    "pipeline_name": lambda job: job["pipelineSpec"]["pipelineInfo"]["name"],
}


class Jobs:
    """The service of pipeline jobs."""

    def __init__(self, plane: ControlPlane, execution: JobExecution) -> None:
        self._plane, self._state, self._execution = plane, plane.state, execution

    def create(self, parent: str, job: Mapping[str, Any], identity: str) -> Document:
        """A new job, which begins at once."""
        message, template = checked(job)
        identity = identity or f"{template.name}-{self._plane.clock.today():%Y%m%d%H%M%S}"
        if not ID.fullmatch(identity):
            raise invalid(f"Invalid pipeline_job_id: {identity}. It has to match {ID.pattern}")
        return self._answer(self._begin(parent, identity, message, template, ""))

    def create_scheduled(self, parent: str, job: Mapping[str, Any], schedule: str) -> Document:
        """A job of a schedule."""
        message, template = checked(job)
        identity = f"{template.name}-{self._plane.clock.today():%Y%m%d%H%M%S}"
        return self._begin(parent, identity, message, template, schedule)

    def _begin(self, parent: str, identity: str, message: Any, template: Template, schedule: str) -> Document:
        name = f"{parent}/pipelineJobs/{identity}"
        with self._state.lock:
            if self._state.get(KIND, identity) is not None:
                raise GoogleError(Code.already_exists, "Pipeline job with the specified ID already exists.")
            written = json_format.MessageToDict(message)
            run = {
                "id": identity,
                "name": name,
                "parent": parent,
                "workflow": identity,
                "text": template.text(),
                "job": {**written, "displayName": message.display_name or identity},
                "arguments": _arguments(message, template),
                "pipeline_root": message.runtime_config.gcs_output_directory,
                "schedule": schedule,
                "state": "PIPELINE_STATE_PENDING",
                "created": self._plane.clock.now(),
                "ended": 0.0,
                "cancelled": 0.0,
                "abandoned": False,
            }
            self._execution.start(run)
            self._state.save(KIND, run)
            return run

    def get(self, identity: str) -> Document:
        """A job with its tasks."""
        return self._answer(self._find(identity))

    def listed(self, parent: str, query: Mapping[str, str]) -> Document:
        """A page of the jobs of a location."""
        found = [self._answer(run) for run in self._state.all(KIND) if run["parent"] == parent]
        return page("pipelineJobs", found, query, FIELDS)

    def cancel(self, identity: str) -> Document:
        """Stop a job; what has begun is stopped, exit handlers run."""
        run = self._find(identity)
        if not self.is_active(run):
            raise GoogleError(
                Code.failed_precondition, f"Cannot cancel a pipeline job that is in state {run['state']}."
            )
        with self._state.lock:
            run["cancelled"] = self._plane.clock.now()
            self._state.save(KIND, run)
        self._execution.terminate(run)
        return {}

    def delete(self, identity: str) -> Document:
        """Forget a job that has ended."""
        run = self._find(identity)
        if self.is_active(run):
            raise GoogleError(Code.failed_precondition, f"Cannot delete a pipeline job in state {run['state']}.")
        self._state.delete(KIND, identity)
        return {}

    def is_active(self, run: Document) -> bool:
        """Whether a job has not ended."""
        self._refresh(run)
        return not run["ended"]

    def of_schedule(self, schedule: str) -> list[Document]:
        """The jobs that a schedule started."""
        return [run for run in self._state.all(KIND) if run["schedule"] == schedule]

    def executed(self) -> Iterator[tuple[Document, Workflow, Path]]:
        """The jobs that have begun, each with its workflow and the folder of what it left."""
        for run in self._state.all(KIND):
            workflow = self._execution.workflow(run)
            if workflow is not None:
                yield run, workflow, self._execution.folder(run)

    def lose(self, identity: str) -> None:
        """Kill what executes a job."""
        self._execution.kill(self._find(identity))

    def end_all(self) -> None:
        """End the processes of all jobs."""
        for run in self._state.all(KIND):
            self._execution.kill(run)

    def _find(self, identity: str) -> Document:
        run = self._state.get(KIND, identity)
        if run is None:
            raise not_found("PipelineJob", identity)
        return run

    def _refresh(self, run: Document) -> Workflow | None:
        workflow = self._execution.workflow(run)
        if workflow is None or run["ended"]:
            return workflow
        state = STATES[workflow.phase]
        if run["cancelled"]:
            state = "PIPELINE_STATE_CANCELLED" if workflow.phase in FINAL else "PIPELINE_STATE_CANCELLING"
        if state != run["state"]:
            with self._state.lock:
                run["state"], run["ended"] = state, workflow.finished_at if workflow.phase in FINAL else 0.0
                self._state.save(KIND, run)
        return workflow

    def _answer(self, run: Document) -> Document:
        workflow = self._refresh(run)
        answer = {
            **run["job"],
            "name": run["name"],
            "state": run["state"],
            "createTime": moment(run["created"]),
            "updateTime": moment(run["ended"] or run["created"]),
            "scheduleName": run["schedule"],
        }
        if workflow is None:
            return answer
        folder = self._execution.folder(run)
        details = task_details(run, workflow, folder, self._plane.objects, run["parent"])
        answer["startTime"] = moment(run["created"])
        answer["jobDetail"] = {
            # Vertex ML Metadata hears of a job when it has begun.
            "pipelineRunContext": {"name": f"{run['parent']}/metadataStores/default/contexts/{run['id']}"},
            "taskDetails": details,
        }
        if run["ended"]:
            answer["endTime"] = moment(run["ended"])
        if run["state"] == "PIPELINE_STATE_FAILED":
            names = ", ".join(failed_tasks(details))
            message = f"The DAG failed because some tasks failed. The failed tasks are: [{names}]."
            answer["error"] = {"code": 9, "message": message if names else workflow.message}
        return answer


def checked(job: Mapping[str, Any]) -> tuple[Any, Template]:
    """A job as a message, and its pipeline.

    Raises:
        GoogleError: Vertex AI would not take it.
    """
    message = aiplatform_v1beta1.PipelineJob.pb(aiplatform_v1beta1.PipelineJob())
    try:
        json_format.ParseDict(dict(job), message)
    except json_format.ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if len(message.display_name) > 128:
        raise invalid("display_name has more than 128 characters")
    _check_labels(message.labels)
    if not message.runtime_config.gcs_output_directory.startswith("gs://"):
        raise invalid(f"Invalid gcs_output_directory: {message.runtime_config.gcs_output_directory or '(empty)'}")
    for field, shape in SHAPES.items():
        if (value := getattr(message, field)) and not shape.fullmatch(value):
            raise invalid(f"Invalid {field}: {value}")
    if (key := message.encryption_spec.kms_key_name) and not KEY.fullmatch(key):
        raise invalid(f"Invalid kms_key_name: {key}")
    try:
        template = Template.parse(json.dumps(json_format.MessageToDict(message.pipeline_spec)))
        template.check_name()
        template.check_arguments(json_format.MessageToDict(message.runtime_config).get("parameterValues", {}))
    except ApiError as error:
        raise invalid(error.message) from error
    return message, template


def _arguments(message: Any, template: Template) -> dict[str, Any]:
    """The parameters of a job. Numbers of JSON are doubles; those of integer type are integers again."""
    kinds = template.message.root.input_definitions.parameters
    given = json_format.MessageToDict(message.runtime_config).get("parameterValues", {})
    return {
        name: int(value) if kinds[name].parameter_type == ParameterType.NUMBER_INTEGER else value
        for name, value in given.items()
    }


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MOST_LABELS:
        raise invalid(f"There are more than {MOST_LABELS} labels")
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise invalid(f"Invalid label: {key}={value}")
