"""Vertex AI backend: runs on Vertex AI Pipelines, by Google's own client of its v1 API."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from google.cloud import aiplatform_v1 as api
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

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
from kfp_lifecycle.backends.vertex.jobs import LONGEST_ID, NAME, PIPELINE, PROJECT, id_of, label, new_job
from kfp_lifecycle.backends.vertex.logs import log_lines
from kfp_lifecycle.backends.vertex.tasks import UNEXPLAINED, details_of, progress_of
from kfp_lifecycle.config.targets import TargetName, VertexTarget
from kfp_lifecycle.local.events import RunProgress
from kfp_lifecycle.runtime.states import RunState, State

PAGE = 100
# For how long a run's entry in Vertex ML Metadata is waited for, which Vertex AI makes some seconds after the run.
METADATA_PATIENCE = 60.0
# What is read of runs that are listed: their pipelines would be most of it.
LISTED = FieldMask(paths=["name", "display_name", "state", "create_time", "end_time", "labels", "schedule_name"])
# What a changed schedule may have otherwise, and what of its job nothing takes away again.
UPDATED = ("display_name", "cron", "create_pipeline_job_request")
OPTIONAL = ("service_account", "network", "reserved_ip_ranges", "encryption_spec")
RESUMED = re.compile(r"(?P<first>.+)-resumed(-(?P<number>\d+))?")
JOB_STATES = {
    "PIPELINE_STATE_SUCCEEDED": RunState.done,
    "PIPELINE_STATE_FAILED": RunState.failed,
    "PIPELINE_STATE_CANCELLED": RunState.interrupted,
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
            submission.file,
            submission.pipeline,
            {**submission.labels, NAME: submission.name},
            submission.parameters,
            use_cache=submission.use_cache,
        )
        job.display_name = submission.name
        run_id, adopted = self._create(job, id_of(submission.name))
        if not adopted and self._target.experiment:
            self._add_to_experiment(run_id, self._target.experiment)
        return run_id

    def _new_job(
        self,
        file: Path,
        pipeline: str,
        labels: Mapping[str, str],
        parameters: Mapping[str, Any],
        *,
        use_cache: bool = True,
    ) -> Any:
        named = {PROJECT: self._project, PIPELINE: pipeline, **labels}
        return new_job(self.api, self._target, file.read_text("utf-8"), named, parameters, use_cache=use_cache)

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
            request = self.api.version.ListPipelineJobsRequest(
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
        return [self._summary(job, None) for job in self._listed(f'labels.{PROJECT}="{label(self._project)}"', limit)]

    def runs_named(self, beginning: str) -> list[RunSummary]:
        """As the protocol says."""
        ours = f'labels.{PROJECT}="{label(self._project)}" AND display_name:"{beginning}*"'
        return [self._summary(job, None) for job in self._listed(ours, None)]

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says. Key figures are metadata of what a step wrote; reasons come from its job."""
        job = self._job(run_id)
        progress = progress_of(job, ended=job.state.name in JOB_STATES)
        said = " ".join(job.error.message.split()) or UNEXPLAINED
        return status_of(self._summary(job, progress), progress, said)

    def _summary(self, job: Any, progress: RunProgress | None) -> RunSummary:
        state = JOB_STATES.get(job.state.name, RunState.running)
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
        if job.state.name not in JOB_STATES:
            self.api.ask("cancel the run", lambda call: self.api.jobs.cancel_pipeline_job(name=job.name, **call))

    def resume(self, run_id: str) -> str:
        """As the protocol says: Vertex AI goes on with no run, so that it is a run of its own, `RUN-resumed`.

        What succeeded is taken from the cache, unless the run was started without it. Asked again, it is the same run.
        """
        job = self._job(run_id)
        if JOB_STATES.get(job.state.name) not in (RunState.failed, RunState.interrupted):
            words = job.state.name.removeprefix("PIPELINE_STATE_").lower()
            raise BackendError(f"the run {run_id} is {words}: there is nothing to resume")
        name = _resumed(run_id)
        again = self.api.version.PipelineJob(
            display_name=name,
            pipeline_spec=type(job).pb(job).pipeline_spec,
            runtime_config=job.runtime_config,
            labels={**job.labels, NAME: label(name)},
            service_account=job.service_account,
            network=job.network,
            reserved_ip_ranges=job.reserved_ip_ranges,
            encryption_spec=job.encryption_spec,
        )
        resumed, was_there = self._create(again, name)
        if was_there and JOB_STATES.get(self._job(resumed).state.name) in (RunState.failed, RunState.interrupted):
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
            if job.state.name in JOB_STATES or time.monotonic() > until:
                raise BackendError("Vertex ML Metadata has no entry for it")
            time.sleep(1)

    # Schedules

    def schedules(self) -> list[ExistingSchedule]:
        """As the protocol says: those that are named as this library names them."""
        # Names of pipelines have no hyphen, those of projects may.
        ours = re.compile(rf"(?P<name>{re.escape(self._project)}-\w+) (?P<digest>[0-9a-f]{{16}})")
        request = self.api.version.ListSchedulesRequest(
            parent=self.api.parent, filter=f'display_name:"{self._project}-*"'
        )
        found = self.api.ask(
            "list the schedules", lambda call: list(self.api.schedules.list_schedules(request, **call))
        )
        return [
            ExistingSchedule(
                schedule.name.rpartition("/")[2],
                named["name"],
                schedule.cron,
                named["digest"],
                schedule.state.name == "ACTIVE",
            )
            for schedule in found
            if (named := ours.fullmatch(schedule.display_name))
        ]

    def create_schedule(self, planned: PlannedSchedule) -> str:
        """As the protocol says."""
        wanted = self._new_schedule(planned)
        name = wanted.display_name
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

    def update_schedule(self, schedule_id: str, planned: PlannedSchedule) -> bool:
        """As the protocol says. Vertex AI does not unset what a schedule has, so that one which loses its end, say, is
        made anew."""
        name = self._schedule(schedule_id)
        wanted = self._new_schedule(planned)
        wanted.name = name
        there = self.api.ask("read the schedule", lambda call: self.api.schedules.get_schedule(name=name, **call))
        before, after = (item.create_pipeline_job_request.pipeline_job for item in (there, wanted))
        lost = [field for field in OPTIONAL if getattr(before, field) and not getattr(after, field)]
        if lost or (there.end_time and not wanted.end_time):
            return False
        paths = [*UPDATED, *(field for field in ("start_time", "end_time") if getattr(wanted, field))]
        mask = FieldMask(paths=paths)
        self.api.ask(
            f"change the schedule {planned.name}",
            lambda call: self.api.schedules.update_schedule(schedule=wanted, update_mask=mask, **call),
        )
        return True

    def _new_schedule(self, planned: PlannedSchedule) -> Any:
        """A schedule as it is sent."""
        schedule, types = planned.schedule, self.api.version
        job = self._new_job(planned.file, planned.pipeline, {}, schedule.parameters)
        return types.Schedule(
            # Names of schedules are not unique; with the digest a second one of the same is not made.
            display_name=f"{planned.name} {planned.digest}",
            cron=f"TZ={schedule.zone} {schedule.cron}",
            start_time=schedule.start,
            end_time=schedule.end,
            # How many may be started at once, and how many may be at work at once.
            max_concurrent_run_count=1,
            max_concurrent_active_run_count=1,
            allow_queueing=False,
            create_pipeline_job_request=types.CreatePipelineJobRequest(parent=self.api.parent, pipeline_job=job),
        )

    def pause_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        name = self._schedule(schedule_id)
        self.api.ask("pause the schedule", lambda call: self.api.schedules.pause_schedule(name=name, **call))

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        request = self.api.version.ResumeScheduleRequest(name=self._schedule(schedule_id), catch_up=False)
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
        return any(job.state.name not in JOB_STATES for job in newest)

    def _schedule(self, schedule_id: str) -> str:
        return f"{self.api.parent}/schedules/{schedule_id}"


def _resumed(run_id: str) -> str:
    found = RESUMED.fullmatch(run_id)
    ending = f"-resumed-{int(found['number'] or 1) + 1}" if found else "-resumed"
    return (found["first"] if found else run_id)[: LONGEST_ID - len(ending)] + ending
