"""Vertex AI backend: runs on Vertex AI Pipelines, by Google's own client of its v1 API."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import yaml
from google.cloud import aiplatform_v1 as api
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from kfp_lifecycle.backends.backend import (
    BackendError,
    ExistingSchedule,
    PlannedSchedule,
    RunArtifact,
    RunStatus,
    RunSummary,
    Submission,
    Unreachable,
    outcome_of,
    status_of,
    step_with_log,
)
from kfp_lifecycle.backends.uploads import download
from kfp_lifecycle.backends.vertex.api import CONSOLE, TIMEOUT, Taken, VertexApi
from kfp_lifecycle.backends.vertex.logs import log_lines
from kfp_lifecycle.backends.vertex.tasks import UNEXPLAINED, details_of, progress_of
from kfp_lifecycle.config.targets import TargetName, VertexTarget
from kfp_lifecycle.local.events import RunProgress
from kfp_lifecycle.runtime.states import RunState, State

Job = api.PipelineState

PAGE = 100
# For how long a run's entry in Vertex ML Metadata is waited for, which Vertex AI makes some seconds after the run.
METADATA_PATIENCE = 60.0
# What a run's labels say of it; keys and values are small letters, digits, `-` and `_`.
PROJECT, PIPELINE, NAME = "lifecycle_project", "lifecycle_pipeline", "lifecycle_name"
LONGEST_LABEL, LONGEST_ID = 63, 128
# What is read of runs that are listed: their pipelines would be most of it.
LISTED = FieldMask(paths=["name", "display_name", "state", "create_time", "end_time", "labels", "schedule_name"])
RESUMED = re.compile(r"(?P<first>.+)-resumed(-(?P<number>\d+))?")
JOB_STATES = {
    Job.PIPELINE_STATE_SUCCEEDED: RunState.done,
    Job.PIPELINE_STATE_FAILED: RunState.failed,
    Job.PIPELINE_STATE_CANCELLED: RunState.interrupted,
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
        self.api = VertexApi(target)

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
            self.api.ask(
                what,
                lambda call: self.api.jobs.create_pipeline_job(
                    parent=self.api.parent, pipeline_job=job, pipeline_job_id=run_id, **call
                ),
            )
        except Taken:
            there = self._job(run_id)
            if there.display_name != job.display_name:
                raise BackendError(
                    f"Vertex AI cannot {what}: its id would be {run_id}, which the run {there.display_name} has. "
                    "Choose another name."
                ) from None
            return run_id, True
        return run_id, False

    def _job(self, run_id: str) -> Any:
        name = f"{self.api.parent}/pipelineJobs/{run_id}"
        return self.api.ask("read the run", lambda call: self.api.jobs.get_pipeline_job(name=name, **call))

    def _listed(self, filter: str, limit: int | None) -> list[Any]:
        """The newest runs that a filter lets through, without their pipelines; all of them where there is no limit."""

        def read(call: dict[str, Any]) -> list[Any]:
            request = api.ListPipelineJobsRequest(
                parent=self.api.parent,
                filter=filter,
                order_by="create_time desc",
                page_size=min(PAGE, limit or PAGE),
                read_mask=LISTED,
            )
            return list(islice(self.api.jobs.list_pipeline_jobs(request, **call), limit))

        return self.api.ask("list the runs", read)

    def runs(self, limit: int) -> list[RunSummary]:
        """As the protocol says: those that have the project's label."""
        return [self._summary(job, None) for job in self._listed(f'labels.{PROJECT}="{_label(self._project)}"', limit)]

    def runs_named(self, beginning: str) -> list[RunSummary]:
        """As the protocol says."""
        ours = f'labels.{PROJECT}="{_label(self._project)}" AND display_name:"{beginning}*"'
        return [self._summary(job, None) for job in self._listed(ours, None)]

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says. Key figures are metadata of what a step wrote; reasons come from its job."""
        job = self._job(run_id)
        progress = progress_of(job, ended=job.state in JOB_STATES)
        said = " ".join(job.error.message.split()) or UNEXPLAINED
        return status_of(self._summary(job, progress), progress, said)

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
            link=f"{CONSOLE}/vertex-ai/locations/{self.api.location}/pipelines/runs/{run_id}"
            f"?project={self.api.project}",
            schedule=job.schedule_name.rpartition("/")[2],
        )

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """As the protocol says, out of Cloud Logging."""
        found = step_with_log(run_id, self.status(run_id).progress, step)

        def is_running() -> bool:
            return self.status(run_id).progress.steps[found.name].state is State.running

        return log_lines(self.api, found.log, f"the step {found.name} of the run {run_id}", is_running)

    def cancel(self, run_id: str) -> None:
        """As the protocol says."""
        job = self._job(run_id)
        if job.state not in JOB_STATES:
            self.api.ask("cancel the run", lambda call: self.api.jobs.cancel_pipeline_job(name=job.name, **call))

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
            for detail in details_of(self._job(run_id))
            for name, found in detail.outputs.items()
            for artifact in found.artifacts
        ]

    def _add_to_experiment(self, run_id: str, experiment: str) -> None:
        """Add a run to an experiment, which is made where there is none."""
        store = f"{self.api.parent}/metadataStores/default"
        name = f"{store}/contexts/{experiment}"
        try:
            run = self._context_of(run_id)
            with contextlib.suppress(Taken):
                self.api.ask(
                    f"make the experiment {experiment}",
                    lambda call: self.api.metadata.create_context(
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
            self.api.ask(
                f"add the run to the experiment {experiment}",
                lambda call: self.api.metadata.add_context_children(request, **call),
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
        request = api.ListSchedulesRequest(parent=self.api.parent, filter=f'display_name:"{self._project}-*"')
        found = self.api.ask(
            "list the schedules", lambda call: list(self.api.schedules.list_schedules(request, **call))
        )
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
            create_pipeline_job_request=api.CreatePipelineJobRequest(parent=self.api.parent, pipeline_job=job),
        )
        try:
            made = self.api.ask(
                f"make the schedule {name}",
                lambda call: self.api.schedules.create_schedule(parent=self.api.parent, schedule=wanted, **call),
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
        self.api.ask("pause the schedule", lambda call: self.api.schedules.pause_schedule(name=name, **call))

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        request = api.ResumeScheduleRequest(name=self._schedule(schedule_id), catch_up=False)
        self.api.ask("resume the schedule", lambda call: self.api.schedules.resume_schedule(request, **call))

    def delete_schedule(self, schedule_id: str) -> None:
        """As the protocol says. What it started goes on."""
        name = self._schedule(schedule_id)
        operation = self.api.ask(
            "delete the schedule", lambda call: self.api.schedules.delete_schedule(name=name, **call)
        )
        self.api.ask("delete the schedule", lambda call: operation.result(timeout=TIMEOUT))

    def is_busy(self, schedule_id: str) -> bool:
        """As the protocol says."""
        newest = self._listed(f'schedule_name="{self._schedule(schedule_id)}"', PAGE)
        return any(job.state not in JOB_STATES for job in newest)

    def _schedule(self, schedule_id: str) -> str:
        return f"{self.api.parent}/schedules/{schedule_id}"


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
