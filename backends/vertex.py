"""Vertex AI backend: runs on Vertex AI Pipelines, by Google's own client of its v1 API.

The client of the API is used, and not the one for people above it (`aiplatform.PipelineJob`): that takes three times
as long to import, keeps its settings in the module, prints, and makes a bucket where one is missing.
"""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import requests
import yaml
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as api
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from kfp_lifecycle.backends.backend import (
    BackendError,
    ExistingSchedule,
    NotThere,
    PlannedSchedule,
    RunArtifact,
    RunStatus,
    RunSummary,
    Submission,
    Unreachable,
    outcome_of,
)
from kfp_lifecycle.backends.kubeflow.workflow_nodes import steps_in
from kfp_lifecycle.backends.uploads import download
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.locations import VertexServing, serving_place
from kfp_lifecycle.config.targets import TargetName, VertexTarget
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.contract import outcome_in
from kfp_lifecycle.runtime.states import RunState, State

T = TypeVar("T")
Task = api.PipelineTaskDetail.State
Job = api.PipelineState

CONSOLE = "https://console.cloud.google.com"
# Seconds that one answer may take, and for how long one that does not come is asked for again.
TIMEOUT = 60.0
PATIENCE, LONGEST_PAUSE = 20.0, 5.0
RETRIED = {429, 500, 502, 503, 504}
PAGE = 100
# For how long a run's entry in Vertex ML Metadata is waited for, which Vertex AI makes some seconds after the run.
METADATA_PATIENCE = 60.0
# What a run's labels say of it; keys and values are small letters, digits, `-` and `_`.
PROJECT, PIPELINE, NAME = "lifecycle_project", "lifecycle_pipeline", "lifecycle_name"
LONGEST_LABEL, LONGEST_ID = 63, 128
# What is read of runs that are listed: their pipelines would be most of it.
LISTED = FieldMask(paths=["name", "display_name", "state", "create_time", "end_time", "labels", "schedule_name"])
RESUMED = re.compile(r"(?P<first>.+)-resumed(-(?P<number>\d+))?")
# How a job says why it ended: before it which replica and its exit code, behind it where the log is.
LAST_WORDS = re.compile(
    r".*Termination (?:log message|reason):(?: \w+\.)?(?P<words>.*?)(?:To find out more about why your job exited|$)",
    re.DOTALL,
)

JOB_STATES = {
    Job.PIPELINE_STATE_SUCCEEDED: RunState.done,
    Job.PIPELINE_STATE_FAILED: RunState.failed,
    Job.PIPELINE_STATE_CANCELLED: RunState.interrupted,
}
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


class VertexBackend:
    """Runs of a project on Vertex AI.

    Args:
        target: What the project says of Vertex AI.
        project: The project's name, by which its runs are labelled.

    Raises:
        ConfigurationError: it is not known in which Google Cloud project and region.
    """

    target: ClassVar[TargetName] = "vertex"

    def __init__(self, target: VertexTarget, project: str) -> None:
        self._target, self._project = target, project
        serving = serving_place(target.serving)
        place = serving if isinstance(serving, VertexServing) else VertexServing("", "")
        self._cloud_project = target.project or place.project
        self._location = target.location or place.location
        if not (self._cloud_project and self._location):
            raise ConfigurationError(
                "it is not known where on Vertex AI pipelines run: set targets.vertex.project and "
                "targets.vertex.location in pipeline.yaml"
            )
        self._parent = f"projects/{self._cloud_project}/locations/{self._location}"

    # The client

    @cached_property
    def _jobs(self) -> Any:
        return self._client(api.PipelineServiceClient)

    @cached_property
    def _schedules(self) -> Any:
        return self._client(api.ScheduleServiceClient)

    @cached_property
    def _metadata(self) -> Any:
        return self._client(api.MetadataServiceClient)

    @property
    def _endpoint(self) -> str:
        return self._target.endpoint or f"https://{self._location}-aiplatform.googleapis.com"

    def _client(self, kind: Callable[..., Any]) -> Any:
        # No token is sent to where others may read it.
        anonymous = self._endpoint.startswith("http://")
        credentials = AnonymousCredentials() if anonymous else None  # type: ignore[no-untyped-call]
        with warnings.catch_warnings(action="ignore"):
            # REST, since gRPC's threads outlive a call, and proxies know HTTP.
            return kind(
                credentials=credentials,
                transport="rest",
                client_options=ClientOptions(api_endpoint=self._endpoint),
            )

    def _ask(self, what: str, call: Callable[[dict[str, Any]], T], *, repeat: bool = True) -> T:
        """Ask the API, again where it does not answer.

        Args:
            what: What is asked, for messages: `list the runs`.
            call: Asks it, given how long to wait, and that the client is to ask but once.
            repeat: Whether asking twice does no harm.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """
        until, pause = time.monotonic() + PATIENCE, 0.5
        while True:
            last = not repeat or time.monotonic() + pause > until
            try:
                return call({"timeout": TIMEOUT, "retry": None})
            except exceptions.GoogleAPICallError as error:
                if error.code not in RETRIED or last:
                    raise self._refusal(what, error) from error
            except (auth_exceptions.TransportError, requests.RequestException, OSError) as error:
                if last:
                    raise Unreachable(
                        f"Vertex AI at {self._endpoint} does not answer, so that it is not known how to {what}: "
                        f"{_root(error)}. See that this machine reaches it, and that targets.vertex.location is right."
                    ) from error
            except auth_exceptions.GoogleAuthError as error:
                raise BackendError(_not_logged_in(what, str(error))) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _refusal(self, what: str, error: exceptions.GoogleAPICallError) -> BackendError:
        said = _said(error)
        if error.code == 401:
            return BackendError(_not_logged_in(what, said))
        if error.code == 403:
            return BackendError(
                f"this account may not {what} in {self._cloud_project} (403): {self._permission(said)}. It says: {said}"
            )
        if error.code == 404:
            return NotThere(f"Vertex AI in {self._cloud_project}, {self._location} does not have it: {said}")
        if error.code == 409:
            return _Taken(f"Vertex AI does not {what}, since there is one of that name (409): {said}")
        if error.code == 429:
            return Unreachable(
                f"the quota of {self._cloud_project} in {self._location} does not suffice to {what} (429): wait until "
                f"others are done, or have it raised at {CONSOLE}/iam-admin/quotas?project={self._cloud_project}. "
                f"It says: {said}"
            )
        kind = Unreachable if error.code in RETRIED else BackendError
        return kind(f"Vertex AI in {self._cloud_project}, {self._location} does not {what} ({error.code}): {said}")

    def _permission(self, said: str) -> str:
        """Who has to allow what, by what a refusal says."""
        if "SERVICE_DISABLED" in said or "has not been used in project" in said:
            return f"enable the API, gcloud services enable aiplatform.googleapis.com --project={self._cloud_project}"
        if "actas" in said.lower() or "act as" in said.lower():
            account = self._target.service_account or "the Compute Engine default service account"
            return f"ask for the role roles/iam.serviceAccountUser on {account}, which the steps work as"
        return "ask for the role roles/aiplatform.user there"

    # Runs

    def submit(self, submission: Submission) -> str:
        """As the protocol says: the run's id is made of its name, so that a second one of the same is refused."""
        job = self._new_job(
            submission.file.read_text("utf-8"),
            submission.pipeline,
            submission.parameters,
            {**submission.labels, NAME: submission.name},
            use_cache=submission.use_cache,
        )
        job.display_name = submission.name
        run_id, adopted = self._create(job, _id_of(submission.name))
        if not adopted and self._target.experiment:
            self._add_to_experiment(run_id, self._target.experiment)
        return run_id

    def _new_job(
        self,
        text: str,
        pipeline: str,
        parameters: Mapping[str, Any],
        labels: Mapping[str, str],
        *,
        use_cache: bool = True,
    ) -> Any:
        """A job as it is sent: the compiled pipeline, with all that the target says of runs."""
        documents = [document for document in yaml.safe_load_all(text) if document]
        if len(documents) != 1:
            raise BackendError(
                f"the pipeline {pipeline} has {len(documents)} YAML documents, and Vertex AI takes one: compile it "
                "for vertex, without Kubernetes' settings"
            )
        root = self._target.pipeline_root or self._target.upload_root
        if not root.startswith("gs://"):
            raise BackendError(
                f"Vertex AI keeps the outputs of steps in Cloud Storage, and not in {root}: set "
                "targets.vertex.pipeline_root to gs://BUCKET/FOLDER"
            )
        specification = documents[0]
        if not use_cache:
            _forget_cache(specification)
        named = {PROJECT: self._project, PIPELINE: pipeline, **labels}
        return api.PipelineJob(
            pipeline_spec=json_format.ParseDict(specification, Struct()),
            runtime_config=api.PipelineJob.RuntimeConfig(gcs_output_directory=root, parameter_values=dict(parameters)),
            labels={key: _label(value) for key, value in named.items()},
            service_account=self._target.service_account,
            network=self._target.network,
            encryption_spec=api.EncryptionSpec(kms_key_name=self._target.encryption_key)
            if self._target.encryption_key
            else None,
        )

    def _create(self, job: Any, run_id: str) -> tuple[str, bool]:
        """Start a run. Where there is one of that id, from before a connection was cut, say, it is that.

        Returns:
            Its id, and whether it was there.
        """
        what = f"start the run {job.display_name}"
        try:
            self._ask(
                what,
                lambda call: self._jobs.create_pipeline_job(
                    parent=self._parent, pipeline_job=job, pipeline_job_id=run_id, **call
                ),
            )
        except _Taken:
            there = self._job(run_id)
            if there.display_name != job.display_name:
                raise BackendError(
                    f"Vertex AI cannot {what}: its id would be {run_id}, which the run {there.display_name} has. "
                    "Choose another name."
                ) from None
            return run_id, True
        return run_id, False

    def _job(self, run_id: str) -> Any:
        name = f"{self._parent}/pipelineJobs/{run_id}"
        return self._ask("read the run", lambda call: self._jobs.get_pipeline_job(name=name, **call))

    def _listed(self, filter: str, limit: int) -> list[Any]:
        """The newest runs that a filter lets through, without their pipelines."""

        def read(call: dict[str, Any]) -> list[Any]:
            request = api.ListPipelineJobsRequest(
                parent=self._parent,
                filter=filter,
                order_by="create_time desc",
                page_size=min(PAGE, limit),
                read_mask=LISTED,
            )
            return list(islice(self._jobs.list_pipeline_jobs(request, **call), limit))

        return self._ask("list the runs", read)

    def runs(self, limit: int) -> list[RunSummary]:
        """As the protocol says: those that have the project's label."""
        return [self._summary(job, None) for job in self._listed(f'labels.{PROJECT}="{_label(self._project)}"', limit)]

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says. Key figures are metadata of what a step wrote; reasons come from its job."""
        job = self._job(run_id)
        progress = _progress(job, ended=job.state in JOB_STATES)
        summary = self._summary(job, progress)
        failed = progress.failed()
        reason = failed.reason if failed else ""
        if not failed and summary.state is RunState.failed:
            reason = " ".join(job.error.message.split()) or "Vertex AI does not say why"
        if summary.state is RunState.interrupted:
            reason = "it was cancelled"
        return RunStatus(summary, progress, reason, failed.name if failed else "")

    def _summary(self, job: Any, progress: RunProgress | None) -> RunSummary:
        state = JOB_STATES.get(job.state, RunState.running)
        run_id = job.name.rpartition("/")[2]
        return RunSummary(
            id=run_id,
            name=job.display_name,
            pipeline=job.labels.get(PIPELINE, ""),
            project=self._project,
            state=state if progress is None else outcome_of(state, progress),
            started_at=job.create_time,
            finished_at=job.end_time,
            link=f"{CONSOLE}/vertex-ai/locations/{self._location}/pipelines/runs/{run_id}?project={self._cloud_project}",
            schedule=job.schedule_name.rpartition("/")[2],
        )

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """As the protocol says, which is to say: never. Cloud Logging has it, and the message how to read it there."""
        progress = self.status(run_id).progress
        name = step.replace("_", "-")
        found = progress.steps.get(name)
        if found is None:
            raise NotThere(f"the run {run_id} has no step {step}; it has {', '.join(progress.steps)}")
        if not found.log:
            raise NotThere(f"the step {name} of the run {run_id} has no log: it is {found.state}")
        query = f'resource.type="ml_job" AND resource.labels.job_id="{found.log}"'
        raise NotThere(
            f"Cloud Logging keeps the log of the step {name}. Read it by\n"
            f"gcloud logging read '{query}' --project={self._cloud_project} --order=asc "
            "--format='value(textPayload,jsonPayload.message)'\n"
            f"or at {CONSOLE}/logs/query;query={quote(query, safe='')}?project={self._cloud_project}"
        )

    def cancel(self, run_id: str) -> None:
        """As the protocol says."""
        job = self._job(run_id)
        if job.state not in JOB_STATES:
            self._ask("cancel the run", lambda call: self._jobs.cancel_pipeline_job(name=job.name, **call))

    def resume(self, run_id: str) -> str:
        """As the protocol says: Vertex AI goes on with no run, so that it is a run of its own, `RUN-resumed`.

        What succeeded is taken from the cache, unless the run was started without it. Asked again, it is the same run.
        """
        job = self._job(run_id)
        if JOB_STATES.get(job.state) not in (RunState.failed, RunState.interrupted):
            words = job.state.name.removeprefix("PIPELINE_STATE_").lower()
            raise BackendError(f"the run {run_id} is {words}: there is nothing to resume")
        name = _resumed(run_id)
        again = api.PipelineJob(
            display_name=name,
            pipeline_spec=api.PipelineJob.pb(job).pipeline_spec,
            runtime_config=job.runtime_config,
            labels={**job.labels, NAME: _label(name)},
            service_account=job.service_account,
            network=job.network,
            reserved_ip_ranges=job.reserved_ip_ranges,
            encryption_spec=job.encryption_spec,
        )
        resumed, was_there = self._create(again, name)
        if was_there and JOB_STATES.get(self._job(resumed).state) in (RunState.failed, RunState.interrupted):
            raise BackendError(f"the run {run_id} was resumed before, as {resumed}, which has failed: resume that one")
        return resumed

    def fetch(self, artifact: RunArtifact, file: str, folder: Path) -> Path:
        """As the protocol says."""
        return download(artifact.uri, file, folder / artifact.step)

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        """As the protocol says."""
        return [
            RunArtifact(
                detail.task_name,
                name,
                artifact.schema_title.rpartition(".")[2],
                artifact.uri,
                json_format.MessageToDict(artifact.metadata),
            )
            for detail in _details(self._job(run_id))
            for name, found in detail.outputs.items()
            for artifact in found.artifacts
        ]

    def _add_to_experiment(self, run_id: str, experiment: str) -> None:
        """Add a run to an experiment, which is made where there is none."""
        store = f"{self._parent}/metadataStores/default"
        name = f"{store}/contexts/{experiment}"
        try:
            run = self._context_of(run_id)
            with contextlib.suppress(_Taken):
                self._ask(
                    f"make the experiment {experiment}",
                    lambda call: self._metadata.create_context(
                        parent=store,
                        context=api.Context(
                            display_name=experiment,
                            schema_title="system.Experiment",
                            schema_version="0.0.1",
                            # It is how Google's own client marks those that are there.
                            metadata={"experiment_deleted": False},
                        ),
                        context_id=experiment,
                        **call,
                    ),
                )
            request = api.AddContextChildrenRequest(context=name, child_contexts=[run])
            self._ask(
                f"add the run to the experiment {experiment}",
                lambda call: self._metadata.add_context_children(request, **call),
            )
        except BackendError as error:
            raise BackendError(
                f"the run {run_id} is started, but it could not be added to the experiment {experiment}: {error}"
            ) from error

    def _context_of(self, run_id: str) -> str:
        """A run's entry in Vertex ML Metadata."""
        until = time.monotonic() + METADATA_PATIENCE
        while True:
            job = self._job(run_id)
            if job.job_detail.pipeline_run_context.name:
                return str(job.job_detail.pipeline_run_context.name)
            if job.state in JOB_STATES or time.monotonic() > until:
                raise BackendError("Vertex ML Metadata has no entry for it")
            time.sleep(1)

    # Schedules

    def schedules(self) -> list[ExistingSchedule]:
        """As the protocol says: those that are named as this library names them."""
        # Names of pipelines have no hyphen, those of projects may.
        ours = re.compile(rf"(?P<name>{re.escape(self._project)}-\w+) (?P<digest>[0-9a-f]{{16}})")
        request = api.ListSchedulesRequest(parent=self._parent, filter=f'display_name:"{self._project}-*"')
        found = self._ask("list the schedules", lambda call: list(self._schedules.list_schedules(request, **call)))
        return [
            ExistingSchedule(
                schedule.name.rpartition("/")[2],
                named["name"],
                schedule.cron,
                named["digest"],
                schedule.state == api.Schedule.State.ACTIVE,
            )
            for schedule in found
            if (named := ours.fullmatch(schedule.display_name))
        ]

    def create_schedule(self, planned: PlannedSchedule) -> str:
        """As the protocol says."""
        schedule = planned.schedule
        # Names of schedules are not unique; with the digest a second one of the same is not made.
        name = f"{planned.name} {planned.digest}"
        job = self._new_job(planned.file.read_text("utf-8"), planned.pipeline, schedule.parameters, {})
        wanted = api.Schedule(
            display_name=name,
            cron=f"TZ={schedule.zone} {schedule.cron}",
            start_time=schedule.start,
            end_time=schedule.end,
            # How many may be started at once, and how many may be at work at once.
            max_concurrent_run_count=1,
            max_concurrent_active_run_count=1,
            allow_queueing=False,
            create_pipeline_job_request=api.CreatePipelineJobRequest(parent=self._parent, pipeline_job=job),
        )
        try:
            made = self._ask(
                f"make the schedule {name}",
                lambda call: self._schedules.create_schedule(parent=self._parent, schedule=wanted, **call),
                repeat=False,
            )
        except Unreachable:
            # It may have been made before the connection was cut.
            there = [item.id for item in self.schedules() if f"{item.name} {item.digest}" == name]
            if not there:
                raise
            return there[0]
        return str(made.name).rpartition("/")[2]

    def pause_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        name = self._schedule(schedule_id)
        self._ask("pause the schedule", lambda call: self._schedules.pause_schedule(name=name, **call))

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        request = api.ResumeScheduleRequest(name=self._schedule(schedule_id), catch_up=False)
        self._ask("resume the schedule", lambda call: self._schedules.resume_schedule(request, **call))

    def delete_schedule(self, schedule_id: str) -> None:
        """As the protocol says. What it started goes on."""
        name = self._schedule(schedule_id)
        operation = self._ask("delete the schedule", lambda call: self._schedules.delete_schedule(name=name, **call))
        self._ask("delete the schedule", lambda call: operation.result(timeout=TIMEOUT))

    def is_busy(self, schedule_id: str) -> bool:
        """As the protocol says."""
        newest = self._listed(f'schedule_name="{self._schedule(schedule_id)}"', PAGE)
        return any(job.state not in JOB_STATES for job in newest)

    def _schedule(self, schedule_id: str) -> str:
        return f"{self._parent}/schedules/{schedule_id}"


class _Taken(BackendError):
    """There is one of that name."""


def _id_of(name: str) -> str:
    """A run's id: small letters, digits and hyphens, a letter first."""
    return re.sub(r"^[^a-z]+", "run-", re.sub(r"[^a-z0-9]+", "-", name.lower()))[:LONGEST_ID].rstrip("-")


def _resumed(run_id: str) -> str:
    found = RESUMED.fullmatch(run_id)
    ending = f"-resumed-{int(found['number'] or 1) + 1}" if found else "-resumed"
    return (found["first"] if found else run_id)[: LONGEST_ID - len(ending)] + ending


def _label(value: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", value.lower())[:LONGEST_LABEL]


def _forget_cache(specification: Mapping[str, Any]) -> None:
    """Let no task of a pipeline take over what an earlier run left."""
    for component in (specification["root"], *specification.get("components", {}).values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}


def _details(job: Any) -> list[Any]:
    """What is told of a run's tasks, as they began."""
    details = api.PipelineJob.pb(job).job_detail.task_details
    return sorted(details, key=lambda detail: (detail.create_time.seconds, detail.create_time.nanos))


def _progress(job: Any, *, ended: bool) -> RunProgress:
    specification = json_format.ParseDict(
        json_format.MessageToDict(api.PipelineJob.pb(job).pipeline_spec), PipelineSpec(), ignore_unknown_fields=True
    )
    named: dict[str, Any] = {}
    for detail in _details(job):
        # In a loop a task is there once for each item: one that failed counts.
        if named.get(detail.task_name) is None or named[detail.task_name].state != Task.FAILED:
            named[detail.task_name] = detail
    records = {}
    for name, _, _ in steps_in(specification):
        # What was not come to, as it is in a branch that was not taken, is not told of.
        records[name] = StepRecord(name, State.skipped if ended else State.waiting)
        if name in named:
            _tell(records[name], named[name])
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
        step.reason = "it was cancelled" if detail.state == Task.CANCELLED else reason_in(detail.error.message)


def reason_in(message: str) -> str:
    """Why a step failed, in its own words where they are in what Vertex AI says of its job.

    Args:
        message: `The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. …`, with what
            the step left in its termination log, or else the end of its log.
    """
    found = LAST_WORDS.search(message)
    words = found["words"].strip() if found else ""
    if not words:
        return " ".join(message.split()) or "Vertex AI does not say why"
    return outcome_in(f"\n{words}")[1] or words


def _moment(value: Any) -> datetime | None:
    return value.ToDatetime(UTC) if value.seconds else None


def _not_logged_in(what: str, said: str) -> str:
    return (
        f"Google Cloud does not know who asks to {what} (401): log in by gcloud auth application-default login, or "
        f"name a service account's key in GOOGLE_APPLICATION_CREDENTIALS. It says: {' '.join(said.split())[:500]}"
    )


def _said(error: exceptions.GoogleAPICallError) -> str:
    """The server's own words, without the address that was asked."""
    text = str(error.message)
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        text = error.response.json()["error"]["message"]
    return " ".join(str(text).split())[:500]


def _root(error: BaseException) -> str:
    for reason in (getattr(error, "reason", None), *error.args):
        if isinstance(reason, BaseException):
            return _root(reason)
    return str(error)
