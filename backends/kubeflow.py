"""Kubeflow backend: runs on a self-hosted Kubeflow Pipelines, by kfp's own client of its v2beta1 API."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import kfp
import kfp_server_api
import urllib3
from google.protobuf import json_format
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
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
from kfp_lifecycle.backends.uploads import download, object_names
from kfp_lifecycle.backends.workflow_nodes import moment, progress_of
from kfp_lifecycle.config.targets import KubeflowTarget, TargetName
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.local.runs import RunState
from kfp_lifecycle.runtime.contract import outcome_in
from kfp_lifecycle.runtime.states import State

T = TypeVar("T")

# Where the API server wants to know who asks: a token, or the cookies of a session that a browser has.
TOKEN_VARIABLE, COOKIES_VARIABLE = "LIFECYCLE_KUBEFLOW_TOKEN", "LIFECYCLE_KUBEFLOW_COOKIES"
# Seconds to connect, and between two pieces of an answer.
TIMEOUT = (10, 60)
# For how long, in seconds, a server that does not answer is asked again, and how long the pauses may get.
PATIENCE, LONGEST_PAUSE = 20.0, 5.0
RETRIED = {429, 500, 502, 503, 504}
PAGE = 100
# A log that cannot be read is answered with status 200 and this.
NO_LOG = '{"error_message":'
LOG_GONE = "its log is gone with its pod"
WORDLESS = "it ended without a word: out of memory, evicted, or stopped; its pod's events know"
UNEXPLAINED = "no step says why; its pods may: an image that cannot be pulled, say, or a quota"
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
        self._namespace = target.namespace
        self._client_made: kfp.Client | None = None
        # What a step's log said at its end; it will say the same again.
        self._outcomes: dict[tuple[str, datetime | None, float | None], tuple[str, str]] = {}

    # The client

    @property
    def _client(self) -> kfp.Client:
        if self._client_made is None:
            if not (self._target.endpoint or os.environ.get("KUBERNETES_SERVICE_HOST") or _kubeconfig().is_file()):
                raise BackendError(
                    "it is not known where the Kubeflow is: set targets.kubeflow.endpoint in pipeline.yaml to the "
                    f"address that a browser shows before /#/, or log in to its cluster ({_kubeconfig()} is missing)"
                )
            mounted = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH).is_file()
            with _quietly():
                self._client_made = kfp.Client(
                    host=self._target.endpoint or None,
                    existing_token=os.environ.get(TOKEN_VARIABLE) or None,
                    cookies=os.environ.get(COOKIES_VARIABLE) or None,
                    credentials=ServiceAccountTokenVolumeCredentials() if mounted else None,
                    namespace=self._target.installation,
                )
        return self._client_made

    def _ask(self, what: str, call: Callable[[kfp.Client], T], *, repeat: bool = True) -> T:
        """Ask the API server, again where it does not answer.

        Args:
            what: What is asked, for messages: `list the runs`.
            call: Asks it of a client.
            repeat: Whether asking twice does no harm.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """
        until, pause, renewed = time.monotonic() + PATIENCE, 0.5, False
        while True:
            try:
                with _quietly():
                    return call(self._client)
            except kfp_server_api.ApiException as error:
                if error.status == 401 and not renewed:
                    # A token is short-lived: whoever writes it may have written another.
                    self._client_made, renewed = None, True
                    continue
                if error.status not in RETRIED or not repeat or time.monotonic() + pause > until:
                    raise self._refusal(what, error) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not repeat or time.monotonic() + pause > until:
                    raise Unreachable(
                        f"the Kubeflow at {self._host} does not answer, so that it is not known how to {what}: "
                        f"{_root(error)}. See that targets.kubeflow.endpoint is its address and that it is up."
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _refusal(self, what: str, error: kfp_server_api.ApiException) -> BackendError:
        said = _said(error)
        if error.status == 401:
            return BackendError(
                f"the Kubeflow at {self._host} does not know who asks to {what} (401): log in, and give the token in "
                f"{TOKEN_VARIABLE} or the session's cookies in {COOKIES_VARIABLE}. It says: {said}"
            )
        if error.status == 403:
            return BackendError(
                f"this account may not {what} in namespace {self._namespace or '(none)'} (403): see "
                f"targets.kubeflow.namespace, and ask for the role kubeflow-pipelines-edit there. It says: {said}"
            )
        if error.status == 404:
            return NotThere(f"the Kubeflow at {self._host} does not have it: {said}")
        kind = Unreachable if error.status in RETRIED else BackendError
        return kind(f"the Kubeflow at {self._host} does not {what} ({error.status}): {said}")

    @property
    def _host(self) -> str:
        return self._target.endpoint or "this cluster"

    def version(self) -> str:
        """The version of Kubeflow Pipelines; empty where it does not say: its newer API has no word for it."""
        self._ask("answer", lambda client: client.get_kfp_healthz())

        def read(client: kfp.Client) -> Any:
            return client._run_api.api_client.call_api(
                "/apis/v1beta1/healthz",
                "GET",
                auth_settings=["Bearer"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )

        try:
            answer = self._ask("tell its version", read)
        except BackendError:
            return ""
        return str(answer.get("tag_name", "")) if isinstance(answer, dict) else ""

    # Runs

    def submit(self, submission: Submission) -> str:
        """As the protocol says. Pipeline, version and experiment are made where they are not there yet."""
        experiment = self._experiment()
        content = submission.file.read_bytes()
        pipeline = f"{self._project}-{submission.pipeline}"
        version = hashlib.sha256(content).hexdigest()[:12]
        pipeline_id, version_id = self._version(pipeline, version, submission.file)
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

        return self._ask(f"start the run {submission.name}", create, repeat=False)

    def _by_name(self, name: str, experiment: str) -> str | None:
        asked = _equals("display_name", name)
        found = self._ask(
            "look for the run", lambda client: client.list_runs(page_size=1, experiment_id=experiment, filter=asked)
        )
        return found.runs[0].run_id if found.runs else None

    def _experiment(self) -> str:
        name = self._target.experiment or self._project
        return self._ask(
            f"make the experiment {name}",
            # It gives the one that is there.
            lambda client: str(client.create_experiment(name, namespace=self._namespace or None).experiment_id),
        )

    def _version(self, pipeline: str, version: str, file: Path) -> tuple[str, str]:
        """Ids of a pipeline and of the version that is this file, both made where they are not there."""
        pipeline_id = self._ask("look for the pipeline", lambda client: client.get_pipeline_id(pipeline))
        if pipeline_id is None:
            pipeline_id = self._once(
                f"make the pipeline {pipeline}",
                lambda client: (
                    client.upload_pipeline(str(file), pipeline, namespace=self._namespace or None).pipeline_id
                ),
                lambda client: client.get_pipeline_id(pipeline),
            )

        def existing(client: kfp.Client) -> str | None:
            asked = _equals("display_name", version)
            found = client.list_pipeline_versions(pipeline_id, page_size=1, filter=asked).pipeline_versions
            return found[0].pipeline_version_id if found else None

        found = self._ask("look for the pipeline's version", existing)
        if found is None:
            found = self._once(
                f"make version {version} of the pipeline {pipeline}",
                lambda client: (
                    client.upload_pipeline_version(str(file), version, pipeline_id=pipeline_id).pipeline_version_id
                ),
                existing,
            )
        return pipeline_id, found

    def _once(self, what: str, make: Callable[[kfp.Client], Any], look: Callable[[kfp.Client], str | None]) -> str:
        """Make something that has a name; where it was made meanwhile, or before a connection was cut, take that."""
        try:
            return str(self._ask(what, make, repeat=False))
        except BackendError:
            found = self._ask(what, look)
            if found is None:
                raise
            return found

    def runs(self, limit: int) -> list[RunSummary]:
        """As the protocol says: those of the project's experiment."""
        experiment = self._experiment()
        found: list[RunSummary] = []
        token = ""
        while len(found) < limit:
            asked = {"page_size": min(PAGE, limit - len(found)), "page_token": token, "experiment_id": experiment}
            page = self._ask("list the runs", partial(_runs_page, asked))
            found += [self._summary(run, None) for run in page.runs or []]
            token = page.next_page_token or ""
            if not token:
                break
        return found

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says. Key figures and reasons stand in the steps' logs."""
        run = self._ask("read the run", lambda client: client.get_run(run_id))
        nodes = list((run.run_details.task_details if run.run_details else None) or [])
        progress = progress_of(nodes, self._specification(run), ended=run.state in STATES)
        for step in progress.steps.values():
            if step.state in (State.done, State.failed) and step.log:
                step.summary, step.reason = self._outcome(run_id, step)
        summary = self._summary(run, progress)
        failed = progress.failed()
        reason = failed.reason if failed else ""
        if not failed and summary.state is RunState.failed:
            reason = (
                _message(run) or "no step says why: the dashboard may know (an image that cannot be pulled, a quota)"
            )
        if summary.state is RunState.interrupted:
            reason = "it was cancelled"
        return RunStatus(summary, progress, reason, failed.name if failed else "")

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
            pipeline=_pipeline_named(run.display_name),
            project=self._project,
            state=state,
            started_at=run.created_at,
            finished_at=moment(run.finished_at),
            link=f"{self._target.dashboard or self._target.endpoint}/#/runs/details/{run.run_id}",
            schedule=run.recurring_run_id or "",
        )

    def _specification(self, run: Any) -> PipelineSpec:
        specification = run.pipeline_spec
        if not specification and run.pipeline_version_reference:
            reference = run.pipeline_version_reference
            specification = self._ask(
                "read the run's pipeline",
                lambda client: client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id),
            ).pipeline_spec
        specification = (specification or {}).get("pipeline_spec", specification) or {}
        return json_format.ParseDict(specification, PipelineSpec(), ignore_unknown_fields=True)

    def _outcome(self, run_id: str, step: StepRecord) -> tuple[str, str]:
        # A step that was tried again may have a pod of the same name.
        attempt = (step.log, step.started_at, step.seconds)
        if attempt not in self._outcomes:
            try:
                said = outcome_in("\n" + "\n".join(self._lines(run_id, step.log, follow=False)))
            except NotThere:
                return "", LOG_GONE if step.state is State.failed else ""
            if step.state is State.failed and not said[1]:
                said = (said[0], WORDLESS)
            self._outcomes[attempt] = said
        return self._outcomes[attempt]

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """As the protocol says."""
        progress = self.status(run_id).progress
        name = step.replace("_", "-")
        found = progress.steps.get(name)
        if found is None:
            raise NotThere(f"the run {run_id} has no step {step}; it has {', '.join(progress.steps)}")
        if not found.log:
            raise NotThere(f"the step {name} of the run {run_id} has no log: it is {found.state}")
        return self._lines(run_id, found.log, follow=found.state is State.running)

    def _lines(self, run_id: str, pod: str, *, follow: bool) -> Iterator[str]:
        def read(client: kfp.Client) -> Any:
            return client._run_api.api_client.call_api(
                f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log",
                "GET",
                query_params=[("follow", "true")] if follow else [],
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(TIMEOUT[0], None) if follow else TIMEOUT,
            )

        try:
            answer = self._ask("read a log", read, repeat=False)
        except BackendError as error:
            raise NotThere(f"the log of pod {pod} is gone, or not there yet ({error})") from error
        # Else it closes itself under whoever reads its last line.
        answer.auto_close = False
        lines = (line.rstrip("\n") for line in io.TextIOWrapper(answer, "utf-8", "replace"))
        begin = list(islice(lines, 1))
        if begin and begin[0].startswith(NO_LOG):
            raise NotThere(f"the log of pod {pod} is gone, or not there yet ({begin[0]})")
        return chain(begin, lines)

    def cancel(self, run_id: str) -> None:
        """As the protocol says."""
        run = self._ask("read the run", lambda client: client.get_run(run_id))
        if run.state not in STATES:
            self._ask("cancel the run", lambda client: client.terminate_run(run_id))

    def resume(self, run_id: str) -> str:
        """As the protocol says: Kubeflow runs the failed steps of the same run again."""
        run = self._ask("read the run", lambda client: client.get_run(run_id))
        if STATES.get(run.state) not in (RunState.failed, RunState.interrupted):
            raise BackendError(f"the run {run_id} is {run.state.lower()}: there is nothing to resume")
        self._outcomes.clear()
        self._ask(
            "resume the run", lambda client: client._run_api.run_service_retry_run(run_id, _request_timeout=TIMEOUT)
        )
        return run_id

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        """As the protocol says. The API tells of none: they are looked for below the pipeline root, where the launcher
        puts them: `<pipeline>/<run>/<step>/<random>/<artifact>`."""
        run = self._ask("read the run", lambda client: client.get_run(run_id))
        pipeline = self._specification(run).pipeline_info.name
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
        experiment = self._experiment()
        found: list[ExistingSchedule] = []
        token = ""
        while True:
            asked = {"page_size": PAGE, "page_token": token, "experiment_id": experiment}
            page = self._ask("list the recurring runs", partial(_recurring_page, asked))
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
        experiment = self._experiment()
        version = hashlib.sha256(planned.file.read_bytes()).hexdigest()[:12]
        pipeline_id, version_id = self._version(planned.name, version, planned.file)
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
            asked = _equals("display_name", name)
            found = client.list_recurring_runs(page_size=1, experiment_id=experiment, filter=asked).recurring_runs
            return str(found[0].recurring_run_id) if found else None

        return self._once(f"make the recurring run {name}", make, look)

    def pause_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self._ask("pause the recurring run", lambda client: client.disable_recurring_run(schedule_id))

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self._ask("resume the recurring run", lambda client: client.enable_recurring_run(schedule_id))

    def delete_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self._ask("delete the recurring run", lambda client: client.delete_recurring_run(schedule_id))

    def is_busy(self, schedule_id: str) -> bool:
        """As the protocol says."""
        newest = self.runs(PAGE)
        return any(run.schedule == schedule_id and run.state is RunState.running for run in newest)


def _runs_page(asked: Mapping[str, Any], client: kfp.Client) -> Any:
    return client.list_runs(sort_by="created_at desc", **asked)


def _recurring_page(asked: Mapping[str, Any], client: kfp.Client) -> Any:
    return client.list_recurring_runs(**asked)


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _pipeline_named(run: str) -> str:
    """`training` of `training-20261128-…`, which is how submissions are named."""
    return run.partition("-")[0]


def _kubeconfig() -> Path:
    """The file that kubectl reads, the first where there are several."""
    return Path(os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0] or Path.home() / ".kube" / "config")


def _said(error: kfp_server_api.ApiException) -> str:
    """The server's own words: grpc-gateway's message, or what a proxy before it wrote."""
    text = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or error.reason)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        answer = json.loads(text)
        text = answer.get("message") or answer.get("error_message") or answer["error"]
    return " ".join(str(text).split())[:500]


def _message(run: Any) -> str:
    return " ".join(str(run.error.message).split()) if run.error and run.error.message else ""


def _root(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return _root(reason) if isinstance(reason, BaseException) else str(error)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """kfp's client prints links of its own, and warns of versions that nobody has."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=FutureWarning):
        yield
