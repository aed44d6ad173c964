"""Runs: created, listed, shown with their tasks, terminated, retried, archived, deleted, and the logs of their pods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.control_planes.kubeflow.control_plane import (
    ControlPlane,
    new_id,
    refuse_unknown,
    timestamp,
    without_empty,
)
from tests.control_planes.kubeflow.errors import ApiError, Code, internal, invalid, not_found
from tests.control_planes.kubeflow.execution import Execution, generated_name
from tests.control_planes.kubeflow.experiments import Experiments
from tests.control_planes.kubeflow.listing import page
from tests.control_planes.kubeflow.pipelines import Pipelines
from tests.control_planes.kubeflow.specification import Template
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.kubeflow.workflow import FINAL, Phase, Workflow

FIELDS = {
    "id": "id",
    "run_id": "id",
    "name": "display_name",
    "display_name": "display_name",
    "created_at": "created",
    "finished_at": "finished",
    "scheduled_at": "scheduled",
    "description": "description",
    "storage_state": "storage_state",
    "state": "state",
    "namespace": "namespace",
    "experiment_id": "experiment_id",
    "recurring_run_id": "recurring_run_id",
}
KNOWN = {
    "experiment_id",
    "run_id",
    "display_name",
    "storage_state",
    "description",
    "pipeline_version_id",
    "pipeline_spec",
    "pipeline_version_reference",
    "runtime_config",
    "service_account",
    "created_at",
    "scheduled_at",
    "finished_at",
    "state",
    "error",
    "run_details",
    "recurring_run_id",
    "state_history",
    "plugins_input",
    "plugins_output",
}
# The API's states by Argo's phases. It has no word for what was omitted.
STATES = {
    Phase.pending: "PENDING",
    Phase.running: "RUNNING",
    Phase.succeeded: "SUCCEEDED",
    Phase.skipped: "SKIPPED",
    Phase.failed: "FAILED",
    Phase.error: "FAILED",
}
FINAL_STATES = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
# The moment that Go has where a moment is missing.
NO_MOMENT = "0001-01-01T00:00:00Z"
_MACRO = re.compile(r"\[\[(?P<name>\w+)\]\]|\{\{\$\.(?P<moment>\w+)\.strftime\('(?P<format>[^']*)'\)\}\}")


def source_of(plane: ControlPlane, pipelines: Pipelines, body: Mapping[str, Any]) -> tuple[Template, str, str]:
    """The pipeline that a request names or brings: its template, and the IDs of pipeline and version, if it has any.

    Raises:
        ApiError: there is none, or it is no pipeline.
    """
    reference = body.get("pipeline_version_reference") or {}
    pipeline, version = reference.get("pipeline_id", ""), reference.get("pipeline_version_id", "")
    if version or pipeline:
        found = pipelines.find_version(version) if version else pipelines.latest_version(pipeline)
        if pipeline and found["pipeline_id"] != pipeline:
            raise invalid(f"Pipeline version {version} belongs to pipeline {found['pipeline_id']} (not {pipeline})")
        return Template.parse(found["text"]), found["pipeline_id"], found["id"]
    if not body.get("pipeline_spec"):
        raise invalid("Failed to fetch a template with an empty pipeline spec manifest")
    return Template.submitted(body["pipeline_spec"]), "", ""


def arguments_of(plane: ControlPlane, body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a request.

    Raises:
        ApiError: they are longer than what is kept of them.
    """
    arguments: dict[str, Any] = (body.get("runtime_config") or {}).get("parameters") or {}
    limit = plane.settings.max_parameter_bytes
    if len(json.dumps(arguments, separators=(",", ":"), ensure_ascii=False).encode()) > limit:
        raise invalid(f"The input parameter length exceed maximum size of {limit}")
    return arguments


class Runs:
    """The service of runs."""

    def __init__(
        self, plane: ControlPlane, experiments: Experiments, pipelines: Pipelines, execution: Execution
    ) -> None:
        self._plane, self._state, self._experiments = plane, plane.state, experiments
        self._pipelines, self._execution = pipelines, execution

    def create(self, body: Mapping[str, Any]) -> Document:
        """A new run, which begins at once."""
        refuse_unknown(body, KNOWN)
        if not body.get("display_name"):
            raise internal(
                "Failed to convert a API run detail to its internal representation",
                "Invalid input error: Run name cannot be empty",
            ).within("CreateJob(job.ToV2())Failed to create a run due to conversion error")
        experiment = self.experiment_of(body.get("experiment_id", ""), "Failed to create a new run", "a run")
        try:
            self._plane.authorize("create", "runs", experiment["namespace"])
        except ApiError as error:
            raise error.within(
                "Failed to create a new run",
                "Failed to create a run due to authorization error. Check if you have write permissions to namespace "
                f"{experiment['namespace']}",
            ) from error
        try:
            template, pipeline, version = source_of(self._plane, self._pipelines, body)
        except ApiError as error:
            raise internal("Failed to create a run due to error fetching manifest", error.message).within(
                "Failed to create a new run"
            ) from error
        run = self.new(
            experiment,
            display_name=body["display_name"],
            description=body.get("description", ""),
            text=template.text(),
            pipeline=(pipeline, version),
            arguments=arguments_of(self._plane, body),
            pipeline_root=(body.get("runtime_config") or {}).get("pipeline_root", ""),
            service_account=body.get("service_account", ""),
        )
        return self._answer(run, None)

    def new(
        self,
        experiment: Document,
        *,
        display_name: str,
        text: str,
        pipeline: tuple[str, str],
        arguments: Mapping[str, Any],
        description: str = "",
        pipeline_root: str = "",
        service_account: str = "",
        recurring_run: str = "",
        workflow: str = "",
        scheduled: float | None = None,
        index: int | None = None,
    ) -> Document:
        """Make and begin a run.

        Args:
            pipeline: IDs of its pipeline and version, empty where it has none.
            workflow: Name of its workflow, where a schedule chose it.
            scheduled: When a schedule wanted it.
            index: Its place in the schedule.
        """
        template, identity, now = Template.parse(text), new_id(), self._plane.seconds()
        filled = fill_macros(arguments, identity, now, scheduled, index)
        try:
            template.check_arguments(filled)
        except ApiError as error:
            raise error.within(
                "Failed to create a new run", "Failed to generate the ExecutionSpec", "invalid pipeline job inputs"
            ) from error
        run = {
            "id": identity,
            "display_name": display_name,
            "description": description,
            "experiment_id": experiment["id"],
            "namespace": experiment["namespace"],
            "recurring_run_id": recurring_run,
            "pipeline_id": pipeline[0],
            "version_id": pipeline[1],
            "text": text,
            "arguments": filled,
            "given": dict(arguments),
            "pipeline_root": pipeline_root,
            "service_account": service_account or "pipeline-runner",
            "storage_state": "AVAILABLE",
            "created": now,
            "scheduled": int(scheduled) if scheduled is not None else now,
            "finished": 0,
            "state": "PENDING",
            "history": [{"state": "PENDING", "at": now}],
            "workflow": workflow or generated_name(template.name),
            "terminating": False,
            "abandoned": False,
            "task_ids": {},
            "process": None,
        }
        with self._state.lock:
            self._execution.start(run)
            self._state.save("runs", run)
            experiment["last_run"] = now
            self._state.save("experiments", experiment)
        return run

    def experiment_of(self, identity: str, doing: str, what: str) -> Document:
        """The experiment that a request names, or the one of those that name none."""
        context = f"Failed to create {what} due to invalid experimentId and namespace combination"
        if not identity:
            if self._plane.settings.multi_user:
                raise invalid("Experiment id can not be empty in multi-user mode").within(doing, context)
            return self._experiments.default("")
        try:
            return self._experiments.find(identity)
        except ApiError as error:
            raise error.within(
                doing,
                context,
                f"Failed to fetch namespace for experiment {identity}",
                f"Failed to fetch namespace from experiment {identity}",
            ) from error

    def get(self, identity: str) -> Document:
        """A run with its tasks."""
        run = self._authorized("get", identity, "Failed to get a run")
        return self._answer(run, self.refresh(run))

    def listed(self, query: Mapping[str, str]) -> Document:
        """A page of the runs of an experiment or a namespace."""
        experiment, namespace = query.get("experiment_id", ""), query.get("namespace", "")
        namespace = self._experiments.find(experiment)["namespace"] if experiment else namespace
        namespace = self._plane.kept_namespace(namespace)
        self._plane.authorize("list", "runs", namespace)
        known = [
            run
            for run in self._state.all("runs")
            if run["namespace"] == namespace and experiment in ("", run["experiment_id"])
        ]
        for run in known:
            self.refresh(run)
        found, total, token = page("Run", known, "id", FIELDS, query)
        answers = [self._answer(run, self.refresh(run)) for run in found]
        return without_empty({"runs": answers, "total_size": total, "next_page_token": token})

    def archive(self, identity: str) -> Document:
        """Put a run away."""
        run = self._authorized("archive", identity, "Failed to archive a run")
        run["storage_state"] = "ARCHIVED"
        self._state.save("runs", run)
        return {}

    def unarchive(self, identity: str) -> Document:
        """Bring a run back."""
        run = self._authorized("unarchive", identity, "Failed to unarchive a run")
        if self._experiments.find(run["experiment_id"])["storage_state"] == "ARCHIVED":
            raise ApiError(
                Code.failed_precondition,
                f"Failed to unarchive run {identity} as experiment {run['experiment_id']} must be un-archived first",
                cause="Unarchive the experiment first to allow the run to be restored",
            ).within("Failed to unarchive a run")
        run["storage_state"] = "AVAILABLE"
        self._state.save("runs", run)
        return {}

    def delete(self, identity: str) -> Document:
        """Forget a run, and end it where it is under way."""
        run = self._authorized("delete", identity, "Failed to delete a run")
        self._execution.kill(run)
        self._state.delete("runs", identity)
        return {}

    def terminate(self, identity: str) -> Document:
        """End a run that is under way; its exit handlers run."""
        run = self._authorized("terminate", identity, "Failed to terminate a run")
        self.refresh(run)
        if run["state"] not in ("PAUSED", "PENDING", "RUNNING", ""):
            raise invalid(f"Failed to terminate a run {identity}. Row not found").within(
                "Failed to terminate a run", f"Failed to terminate run {identity}"
            )
        with self._state.lock:
            run["state"], run["terminating"] = "CANCELING", True
            self._state.save("runs", run)
        self._execution.terminate(run)
        return {}

    def retry(self, identity: str) -> Document:
        """Go on with a run that failed: what succeeded in it is not run again."""
        run = self._authorized("retry", identity, "Failed to retry a run")
        if self.refresh(run) is None:
            raise ApiError(
                Code.aborted,
                f"Failed to retry run {identity} due to error fetching workflow manifest",
                cause="Invalid input error: Workflow manifest cannot be empty",
            ).within("Failed to retry a run")
        if run["state"] != "FAILED":
            raise ApiError(
                Code.aborted, "Workflow must be Failed/Error to retry", cause="workflow cannot be retried"
            ).within("Failed to retry a run", f"Failed to retry run {identity}")
        with self._state.lock:
            self._execution.make_ready_to_retry(run)
            run["terminating"] = False
            self._execution.start(run)
            run["finished"] = 0
            self._become(run, "RUNNING")
            self._state.save("runs", run)
        return {}

    def log(self, identity: str, pod: str) -> Iterator[bytes]:
        """The log of a pod.

        Raises:
            ApiError: there is no such run or pod.
        """
        run = self._state.get("runs", identity)
        failed = f"Failed to read logs for run {identity}"
        if run is None:
            missing = not_found("Run", identity).message
            raise ApiError(Code.aborted, f"{failed} due to run fetching error", cause=missing)
        file = self._execution.log(run, pod)
        if file is None:
            opening = f"Failed to read logs from pod {pod} due to error opening log stream"
            missing_pod = f'pods "{pod}" not found'
            raise ApiError(Code.aborted, failed, cause=internal(opening, missing_pod).message)
        return iter([file.read_bytes()] if file.exists() else [])

    def artifact(self, identity: str, node: str, name: str) -> Document:
        """What Argo itself keeps of a node, which of these pipelines is nothing: their artifacts are Kubeflow's."""
        self._authorized("readArtifact", identity, "Failed to authorize the request")
        raise not_found("artifact", f"runs/{identity}/nodes/{node}/artifacts/{name}")

    def refresh(self, run: Document) -> Workflow | None:
        """Take over how a run's workflow stands, as the persistence agent reports it."""
        workflow = self._execution.workflow(run)
        if workflow is None:
            return None
        with self._state.lock:
            state = STATES[workflow.phase]
            if run["terminating"] and workflow.phase not in FINAL:
                state = "CANCELING"
            if state != run["history"][-1]["state"] or state != run["state"]:
                self._become(run, state)
                run["finished"] = int(workflow.finished_at)
                self._state.save("runs", run)
        return workflow

    def is_active(self, run: Document) -> bool:
        """Whether a run's workflow is under way."""
        self.refresh(run)
        return not run["abandoned"] and run["state"] not in FINAL_STATES

    def abandon(self, run: Document) -> None:
        """Delete a run's workflow: nobody tells the API server any more how it ends."""
        self.refresh(run)
        if run["state"] not in FINAL_STATES:
            run["abandoned"] = True
            self._state.save("runs", run)
            self._execution.kill(run)

    def lose(self, identity: str) -> None:
        """Kill what executes a run."""
        run = self._state.get("runs", identity)
        if run is None:
            raise not_found("Run", identity)
        self._execution.kill(run)

    def end_all(self) -> None:
        """End the processes of all runs."""
        for run in self._state.all("runs"):
            self._execution.kill(run)

    def _become(self, run: Document, state: str) -> None:
        run["state"] = state
        if run["history"][-1]["state"] != state:
            run["history"].append({"state": state, "at": self._plane.seconds()})

    def _authorized(self, verb: str, identity: str, doing: str) -> Document:
        run = self._state.get("runs", identity)
        if run is None:
            raise not_found("Run", identity).within(doing, f"Failed to fetch run {identity}")
        try:
            self._plane.authorize(verb, "runs", run["namespace"], run["workflow"])
        except ApiError as error:
            raise error.within(
                doing,
                "Failed to authorize the request",
                f"Failed to access run {identity}. Check if you have access to namespace {run['namespace']}",
            ) from error
        return run

    def _answer(self, run: Document, workflow: Workflow | None) -> Document:
        source: Document = {}
        if run["version_id"]:
            source["pipeline_version_reference"] = {
                "pipeline_id": run["pipeline_id"],
                "pipeline_version_id": run["version_id"],
            }
        else:
            source["pipeline_spec"] = Template.parse(run["text"]).as_struct()
        configuration = without_empty({"parameters": run["given"], "pipeline_root": run["pipeline_root"]})
        history = [{"update_time": timestamp(item["at"]), "state": item["state"]} for item in run["history"]]
        return without_empty(
            {
                "experiment_id": run["experiment_id"],
                "run_id": run["id"],
                "display_name": run["display_name"],
                "storage_state": run["storage_state"],
                "description": run["description"],
                **source,
                "runtime_config": configuration,
                "service_account": run["service_account"],
                "created_at": timestamp(run["created"]),
                "scheduled_at": timestamp(run["scheduled"]),
                "finished_at": timestamp(run["finished"]),
                "state": run["state"],
                "run_details": {"task_details": self._tasks(run, workflow)} if workflow else None,
                "recurring_run_id": run["recurring_run_id"],
                "state_history": history,
            }
        )

    def _tasks(self, run: Document, workflow: Workflow) -> list[Document]:
        """A run's tasks: one for each node of its workflow, and one for each that the cache keeps. Their order says
        nothing, nor does any name the pod that it is."""
        answers = []
        with self._state.lock:
            known = len(run["task_ids"])
            for name, node in workflow.nodes.items():
                task = run["task_ids"].setdefault(name, new_id())
                state = STATES.get(node.phase)
                answers.append(
                    without_empty(
                        {
                            "run_id": run["id"],
                            "task_id": task,
                            "display_name": node.display_name,
                            "create_time": timestamp(run["created"]),
                            "start_time": timestamp(node.started_at),
                            "end_time": timestamp(node.finished_at) if node.finished_at else NO_MOMENT,
                            "state": state,
                            "state_history": [
                                without_empty(
                                    {"update_time": timestamp(node.finished_at or node.started_at), "state": state}
                                )
                            ],
                            "child_tasks": [{"pod_name": child} for child in node.children],
                        }
                    )
                )
            if len(run["task_ids"]) != known and self._state.get("runs", run["id"]) is run:
                self._state.save("runs", run)
        for record in workflow.cache_records:
            moments = {"create_time": record["started_at"], "start_time": record["started_at"]}
            answers.append(
                {
                    "run_id": run["id"],
                    "task_id": record["id"],
                    **{name: timestamp(moment) for name, moment in moments.items()},
                    "end_time": timestamp(record["finished_at"]),
                }
            )
        return sorted(answers, key=lambda answer: answer["task_id"])


def fill_macros(
    arguments: Mapping[str, Any], run: str, now: float, scheduled: float | None, index: int | None
) -> dict[str, Any]:
    """Arguments with `[[RunUUID]]`, `[[CurrentTime]]`, `[[ScheduledTime]]`, `[[Index]]` and
    `{{$.scheduledTime.strftime('…')}}` filled in."""
    moments = {"CurrentTime": now, "currentTime": now}
    if scheduled is not None:
        moments |= {"ScheduledTime": scheduled, "scheduledTime": scheduled}
    words = {"RunUUID": run, **({"Index": str(index)} if index is not None else {})}

    def fill(match: re.Match[str]) -> str:
        name = match["name"] or match["moment"]
        if name in moments:
            moment = datetime.fromtimestamp(moments[name], UTC)
            return moment.strftime(match["format"] or "%Y%m%d%H%M%S")
        return words.get(name, match[0])

    return {name: _MACRO.sub(fill, value) if isinstance(value, str) else value for name, value in arguments.items()}
