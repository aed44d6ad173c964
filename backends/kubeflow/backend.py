"""Kubeflow backend: runs on a self-hosted Kubeflow Pipelines, by kfp's own client of its v2beta1 API."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import kfp
from google.protobuf import json_format
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
    status_of,
    step_with_log,
)
from kfp_lifecycle.backends.kubeflow.api import TIMEOUT, KubeflowApi
from kfp_lifecycle.backends.kubeflow.cluster import kubernetes_api
from kfp_lifecycle.backends.kubeflow.named import Named, equals, predicate
from kfp_lifecycle.backends.kubeflow.pods import reasons_of_pods
from kfp_lifecycle.backends.kubeflow.workflow_nodes import moment, progress_of
from kfp_lifecycle.backends.uploads import download, object_names
from kfp_lifecycle.config.targets import KubeflowTarget, TargetName
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.asking import PATIENCE
from kfp_lifecycle.runtime.contract import outcome_in
from kfp_lifecycle.runtime.states import RunState, State

PAGE = 100
# For how long, in seconds, who holds a run's name is waited for; it makes the run at once.
CLAIM_PATIENCE = 90.0
LOG_GONE = "its log is gone with its pod"
WORDLESS = "it ended without a word: out of memory, evicted, or stopped; its pod's events know"
UNEXPLAINED = "no step says why: the dashboard may know (an image that cannot be pulled, a quota)"
# Where a Kubeflow as it is installed keeps what steps write, and what the launcher puts beside their artifacts.
DEFAULT_ROOT, EXECUTOR_LOGS = "minio://mlpipeline/v2/artifacts", "executor-logs"
# What a recurring run's description says of who made it, with what.
MADE_BY = re.compile(r"kfp-lifecycle (?P<name>\S+) (?P<digest>[0-9a-f]{16})")

STATES = {
    "SUCCEEDED": RunState.done,
    "SKIPPED": RunState.done,
    "FAILED": RunState.failed,
    "ERROR": RunState.failed,
    "CANCELED": RunState.interrupted,
    "CANCELING": RunState.interrupted,
}


class KubeflowBackend:
    """Runs of a project on a Kubeflow.

    Args:
        target: What the project says of the Kubeflow.
        project: The project's name: its experiment, unless the target names another.
    """

    target: ClassVar[TargetName] = "kubeflow"

    def __init__(self, target: KubeflowTarget, project: str) -> None:
        self._target, self._project = target, project
        self.api = KubeflowApi(target)
        self._named = Named(self.api, target, project)
        # Whether Kubernetes tells of pods here; where it does not, it is not asked again.
        self._sees_pods = True
        # What a step's log said at its end; it will say the same again.
        self._outcomes: dict[tuple[str, datetime | None, float | None], tuple[str, str]] = {}

    # Runs

    def submit(self, submission: Submission) -> str:
        """As the protocol says. Pipeline, version and experiment are made where they are not there yet."""
        experiment = self._named.experiment()
        if submission.once:
            return self._submit_once(submission, experiment)
        pipeline_id, version_id = self._named.version(f"{self._project}-{submission.pipeline}", submission.file)
        return self._submit(submission, experiment, pipeline_id, version_id)

    def _submit_once(self, submission: Submission, experiment: str) -> str:
        """Make a run where others may be at it. The one that holds its name makes it, and the others find it. A holder
        that made none was interrupted: its claim is withdrawn, and with it what it could make a run of."""
        name, holder = submission.name, secrets.token_hex(8)
        seen: dict[str, float] = {}
        while True:
            claim = self._named.claim(f"{self._project}-{submission.pipeline}", name, submission.file, holder)
            if made := self._by_name(name, experiment):
                return made
            if claim.holder == holder:
                return self._submit(submission, experiment, claim.pipeline_id, claim.version_id)
            if time.monotonic() - seen.setdefault(claim.version_id, time.monotonic()) > CLAIM_PATIENCE:
                self._named.withdraw(claim)
            time.sleep(1)

    def _submit(self, submission: Submission, experiment: str, pipeline_id: str, version_id: str) -> str:
        sent = time.monotonic()
        while True:
            try:
                return self._create(submission, experiment, pipeline_id, version_id)
            except Unreachable:
                # It may have been made before the connection was cut.
                if made := self._by_name(submission.name, experiment):
                    return made
                if time.monotonic() - sent > PATIENCE:
                    raise
                time.sleep(1)

    def _create(self, submission: Submission, experiment: str, pipeline_id: str, version_id: str) -> str:
        def create(client: kfp.Client) -> str:
            run = client.run_pipeline(
                experiment,
                submission.name,
                pipeline_package_path=None if submission.use_cache else str(submission.file),
                params=dict(submission.parameters),
                pipeline_id=pipeline_id if submission.use_cache else None,
                version_id=version_id if submission.use_cache else None,
                pipeline_root=self._target.pipeline_root or None,
                enable_caching=None if submission.use_cache else False,
                service_account=self._target.service_account or None,
            )
            return str(run.run_id)

        return self.api.ask(f"start the run {submission.name}", create, repeat=False)

    def _by_name(self, name: str, experiment: str) -> str | None:
        asked = equals("display_name", name)
        found = self.api.ask(
            "look for the run", lambda client: client.list_runs(page_size=1, experiment_id=experiment, filter=asked)
        )
        return found.runs[0].run_id if found.runs else None

    def runs(self, limit: int) -> list[RunSummary]:
        """As the protocol says: those of the project's experiment."""
        return [self._listed(run) for run in islice(self._runs(page_size=min(PAGE, limit)), limit)]

    def runs_named(self, beginning: str) -> list[RunSummary]:
        """As the protocol says."""
        asked = predicate("IS_SUBSTRING", "display_name", beginning)
        return [self._listed(run) for run in self._runs(filter=asked) if run.display_name.startswith(beginning)]

    def _runs(self, **asked: Any) -> Iterator[Any]:
        """The runs of the project's experiment, the newest first, asked for page by page."""
        asked = {"page_size": PAGE, **asked, "experiment_id": self._named.experiment(), "page_token": ""}
        while True:
            page = self.api.ask("list the runs", partial(_runs_page, dict(asked)))
            yield from page.runs or []
            if not page.next_page_token:
                return
            asked["page_token"] = page.next_page_token

    def _listed(self, run: Any) -> RunSummary:
        """A run of a list, which tells of its nodes too: what Kubeflow calls succeeded may have been rejected."""
        progress = None
        if STATES.get(run.state) is RunState.done:
            # A pipeline that was deleted meanwhile leaves its runs.
            with contextlib.suppress(NotThere):
                progress = self._progress(run)
        return self._summary(run, progress)

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says. Key figures and reasons stand in the steps' logs."""
        run = self._run(run_id)
        progress = self._progress(run)
        for step in progress.steps.values():
            if step.state in (State.done, State.failed) and step.log:
                step.summary, step.reason = self._outcome(run_id, step)
            elif step.log:
                step.reason = self._pod_reason(run_id, step)
        return status_of(self._summary(run, progress), progress, _message(run) or UNEXPLAINED)

    def _run(self, run_id: str) -> Any:
        return self.api.ask("read the run", lambda client: client.get_run(run_id))

    def _progress(self, run: Any) -> RunProgress:
        """A run's steps, without what their logs say."""
        nodes = list((run.run_details.task_details if run.run_details else None) or [])
        return progress_of(nodes, *self._specification(run), ended=run.state in STATES)

    def _summary(self, run: Any, progress: RunProgress | None) -> RunSummary:
        state = STATES.get(run.state, RunState.running)
        if state is RunState.failed and any(past.state == "CANCELING" for past in run.state_history or []):
            # Argo calls a Workflow that was terminated failed.
            state = RunState.interrupted
        if progress is not None:
            state = outcome_of(state, progress)
        return RunSummary(
            id=run.run_id,
            name=run.display_name,
            pipeline=self._pipeline_of(run),
            project=self._project,
            state=state,
            started_at=run.created_at,
            finished_at=moment(run.finished_at),
            link=f"{self._target.dashboard or self._target.endpoint}/#/runs/details/{run.run_id}",
            schedule=run.recurring_run_id or "",
        )

    def _pipeline_of(self, run: Any) -> str:
        """Names of runs do not tell it: a scheduled run's begins with the project's."""
        if run.pipeline_spec:
            return str(self._specification(run)[0].pipeline_info.name)
        reference = run.pipeline_version_reference
        return self._named.pipeline(reference.pipeline_id) if reference else ""

    def _specification(self, run: Any) -> tuple[PipelineSpec, Mapping[str, Any]]:
        """The compiled pipeline, and what its second document gives the pod of each executor."""
        specification = run.pipeline_spec
        if not specification and run.pipeline_version_reference:
            specification = self._named.specification(run.pipeline_version_reference)
        specification = specification or {}
        kubernetes = specification.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
        pipeline = specification.get("pipeline_spec", specification)
        return (
            json_format.ParseDict(pipeline, PipelineSpec(), ignore_unknown_fields=True),
            kubernetes.get("deploymentSpec", {}).get("executors", {}),
        )

    def _outcome(self, run_id: str, step: StepRecord) -> tuple[str, str]:
        # A step that was tried again may have a pod of the same name.
        attempt = (step.log, step.started_at, step.seconds)
        if attempt not in self._outcomes:
            try:
                said = outcome_in("\n" + "\n".join(self.api.log_lines(run_id, step.log, follow=False)))
            except NotThere:
                return "", (self._pod_reason(run_id, step) or LOG_GONE) if step.state is State.failed else ""
            if step.state is State.failed and not said[1]:
                said = (said[0], self._pod_reason(run_id, step) or WORDLESS)
            self._outcomes[attempt] = said
        return self._outcomes[attempt]

    def _pod_reason(self, run_id: str, step: StepRecord) -> str:
        """What Kubernetes itself has to say of a step's pod, where this machine may ask it."""
        if not self._sees_pods:
            return ""
        try:
            reasons = reasons_of_pods(kubernetes_api(), self._target.namespace or self._target.installation, run_id)
        except BackendError:
            self._sees_pods = False
            return ""
        return reasons.get(step.log, "")

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """As the protocol says."""
        found = step_with_log(run_id, self._progress(self._run(run_id)), step)
        return self.api.log_lines(run_id, found.log, follow=found.state is State.running)

    def cancel(self, run_id: str) -> None:
        """As the protocol says."""
        run = self._run(run_id)
        if run.state not in STATES:
            self.api.ask("cancel the run", lambda client: client.terminate_run(run_id))

    def resume(self, run_id: str) -> str:
        """As the protocol says: Kubeflow runs the failed steps of the same run again."""
        run = self._run(run_id)
        if STATES.get(run.state) not in (RunState.failed, RunState.interrupted):
            raise BackendError(f"the run {run_id} is {run.state.lower()}: there is nothing to resume")
        self._outcomes.clear()
        self.api.ask(
            "resume the run", lambda client: client._run_api.run_service_retry_run(run_id, _request_timeout=TIMEOUT)
        )
        return run_id

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        """As the protocol says. The API tells of none: they are looked for below the pipeline root, where the launcher
        puts them: `<pipeline>/<run>/<step>/<random>/<artifact>`."""
        run = self._run(run_id)
        pipeline = self._specification(run)[0].pipeline_info.name
        root = self._target.pipeline_root or DEFAULT_ROOT
        found = {}
        for path in object_names(f"{root}/{pipeline}/{run_id}"):
            step, _, rest = path.partition("/")
            attempt, _, name = rest.partition("/")
            name = name.partition("/")[0]
            if name and not name.startswith(EXECUTOR_LOGS):
                found[step, name] = f"{root}/{pipeline}/{run_id}/{step}/{attempt}/{name}"
        return [RunArtifact(step, name, "", uri, {}) for (step, name), uri in sorted(found.items())]

    def fetch(self, artifact: RunArtifact, file: str, folder: Path) -> Path:
        """As the protocol says."""
        return download(artifact.uri, file, folder / artifact.step)

    # Schedules: recurring runs

    def schedules(self) -> list[ExistingSchedule]:
        """As the protocol says."""
        experiment = self._named.experiment()
        found: list[ExistingSchedule] = []
        token = ""
        while True:
            asked = {"page_size": PAGE, "page_token": token, "experiment_id": experiment}
            page = self.api.ask("list the recurring runs", partial(_recurring_page, asked))
            for item in page.recurring_runs or []:
                made_by = MADE_BY.fullmatch(item.description or "")
                if made_by is not None:
                    cron = item.trigger.cron_schedule.cron if item.trigger and item.trigger.cron_schedule else ""
                    enabled = item.status == "ENABLED"
                    found.append(
                        ExistingSchedule(item.recurring_run_id, made_by["name"], cron, made_by["digest"], enabled)
                    )
            token = page.next_page_token or ""
            if not token:
                return found

    def create_schedule(self, planned: PlannedSchedule) -> str:
        """As the protocol says."""
        if planned.schedule.zone != "UTC":
            raise BackendError(
                f"schedules.{planned.pipeline}.zone is {planned.schedule.zone}, but Kubeflow reads all of them in the "
                "one zone of its controller (CRON_SCHEDULE_TIMEZONE, UTC by default): write the expression in UTC"
            )
        experiment = self._named.experiment()
        pipeline_id, version_id = self._named.version(planned.name, planned.file)
        # Names of recurring runs are not unique; with the digest a second one of the same is not made.
        name = f"{planned.name}-{planned.digest}"

        def make(client: kfp.Client) -> str:
            schedule = planned.schedule
            made = client.create_recurring_run(
                experiment,
                name,
                description=f"kfp-lifecycle {planned.name} {planned.digest}",
                start_time=schedule.start.isoformat() if schedule.start else None,
                end_time=schedule.end.isoformat() if schedule.end else None,
                # Seconds come first.
                cron_expression=f"0 {schedule.cron}",
                max_concurrency=1,
                no_catchup=True,
                params=dict(schedule.parameters),
                pipeline_id=pipeline_id,
                version_id=version_id,
                pipeline_root=self._target.pipeline_root or None,
                service_account=self._target.service_account or None,
            )
            return str(made.recurring_run_id)

        def look(client: kfp.Client) -> str | None:
            asked = equals("display_name", name)
            found = client.list_recurring_runs(page_size=1, experiment_id=experiment, filter=asked).recurring_runs
            return str(found[0].recurring_run_id) if found else None

        return self._named.once(f"make the recurring run {name}", make, look)

    def update_schedule(self, schedule_id: str, planned: PlannedSchedule) -> bool:
        """As the protocol says: Kubeflow cannot (kubeflow/pipelines#3789)."""
        return False

    def pause_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self.api.ask("pause the recurring run", lambda client: client.disable_recurring_run(schedule_id))

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self.api.ask("resume the recurring run", lambda client: client.enable_recurring_run(schedule_id))

    def delete_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self.api.ask("delete the recurring run", lambda client: client.delete_recurring_run(schedule_id))

    def is_busy(self, schedule_id: str) -> bool:
        """As the protocol says."""
        newest = islice(self._runs(), PAGE)
        return any(run.recurring_run_id == schedule_id and run.state not in STATES for run in newest)


def _runs_page(asked: Mapping[str, Any], client: kfp.Client) -> Any:
    return client.list_runs(sort_by="created_at desc", **asked)


def _recurring_page(asked: Mapping[str, Any], client: kfp.Client) -> Any:
    return client.list_recurring_runs(**asked)


def _message(run: Any) -> str:
    return " ".join(str(run.error.message).split()) if run.error and run.error.message else ""
