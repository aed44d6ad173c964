"""Runs on this machine: compile, execute under kfp's local runner, and keep what happened."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp import components as kfp_components
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from kfp_lifecycle.compilation.definitions import read_definitions
from kfp_lifecycle.compilation.parameters import read_parameters
from kfp_lifecycle.compilation.pipeline import compile_pipeline, declared_parameters
from kfp_lifecycle.compilation.tasks import steps_of
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local.events import RunProgress, append_event, event, read_progress
from kfp_lifecycle.local.kfp_runner import Session, StepOutputs, require_environments, run_pipeline
from kfp_lifecycle.local.lineage_events import LineageEvents, reads_of
from kfp_lifecycle.local.reporting import write_report
from kfp_lifecycle.local.run_records import EVENTS_FILE, RunRecord, all_runs, read_record, resume_command, run_folders
from kfp_lifecycle.local.state import STATE, Lock, alive, exclusive, trouble
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.code_version import VARIABLE, code_version
from kfp_lifecycle.runtime.states import RunState, State
from kfp_lifecycle.serving.release.local.servers import check_address

REPORT_FILE = "report.html"
# Temporary files of the steps, in the run's folder.
SCRATCH = "scratch"
STOPPED = "stopped by the user"


class NothingToResume(Exception):
    """There is no run to go on with; the message says why."""


def run_to_resume(pipeline: str | None) -> RunRecord:
    """The newest run, of a pipeline or of any, which did not come to its end.

    Raises:
        NothingToResume: it did, or is still under way, or is damaged, or there is none.
    """
    newest = next((run for run in all_runs() if pipeline in (None, run.pipeline)), None)
    start = f"`lifecycle run {pipeline or (newest.pipeline if newest else '') or 'training'}`"
    if newest is None:
        raise NothingToResume(f"no run{f' of {pipeline}' if pipeline else ''} has begun here. Start one with {start}")
    if newest.state is RunState.running:
        raise NothingToResume(f"the last run, {newest.id}, is still under way (process {newest.process})")
    if newest.state is RunState.damaged:
        raise NothingToResume(
            f"nobody knows what the last run, {newest.id}, was told ({newest.reason}). Start one anew with {start} and "
            "its settings: the steps that are done are taken over"
        )
    if newest.state not in (RunState.failed, RunState.interrupted):
        raise NothingToResume(f"the last run, {newest.id}, came to its end. Start one with {start}")
    return newest


def remove_leftovers() -> None:
    """Remove what killed runs left and nobody reads: their steps' temporary files, the outputs of the step that was
    cut off, folders in which no run began. Finished outputs stay, a resumed run takes them over.

    To be called while no run works.
    """
    for folder in run_folders():
        record = read_record(folder)
        if record is None:
            shutil.rmtree(folder)
            continue
        if (folder / SCRATCH).exists():
            shutil.rmtree(folder / SCRATCH)
            for step in record.progress().steps.values():
                if step.state is State.running:
                    for outputs in (folder / "artifacts").glob(f"*/{step.name}"):
                        shutil.rmtree(outputs)


class _Recorder:
    """Writes what happens to the run's events, and passes it on to who watches."""

    def __init__(self, progress: RunProgress, file: Path, watch: Callable[[RunProgress], None]) -> None:
        self.progress, self._file, self._watch = progress, file, watch

    def started(self, step: str, log: Path) -> None:
        self._record(event(step, State.running, log=str(log)))

    def cached(self, step: str, outputs: StepOutputs) -> None:
        self._record(event(step, State.cached, **_described(outputs)))

    def done(self, step: str, outputs: StepOutputs) -> None:
        self._record(event(step, State.done, **_described(outputs)))

    def failed(self, step: str, reason: str, log: Path) -> None:
        self._record(event(step, State.failed, reason=reason))

    def interrupted(self, step: str) -> None:
        self._record(event(step, State.failed, reason="interrupted"))

    def skip_the_rest(self) -> None:
        for step in self.progress.steps.values():
            if step.state is State.waiting:
                self._record(event(step.name, State.skipped))

    def _record(self, value: Mapping[str, Any]) -> None:
        append_event(self._file, value)
        self.progress.apply(json.loads(json.dumps(value, default=str)))
        self._watch(self.progress)


def _described(outputs: StepOutputs) -> dict[str, Any]:
    artifacts = {name: {"path": path, "metadata": dict(data)} for name, (path, data) in outputs.artifacts.items()}
    return {"artifacts": artifacts, "parameters": dict(outputs.parameters)}


def execute(
    pipeline: str,
    project: Path,
    *,
    overrides: Sequence[str] = (),
    parameters: Sequence[str] = (),
    name: str = "",
    use_cache: bool = True,
    watch: Callable[[RunRecord, RunProgress], None] = lambda record, progress: None,
    waiting: Callable[[str], None] = lambda holder: None,
) -> RunRecord:
    """Compile a pipeline with a project and run it on this machine.

    Args:
        pipeline: The pipeline's name.
        project: The project's folder.
        overrides: `KEY=VALUE` pairs for the configuration.
        parameters: `NAME=VALUE` pairs for the pipeline.
        name: What the run is called, where it is not called as its id.
        use_cache: Take the outputs of earlier runs where code, inputs and environment are the same.
        watch: Called after each change of a step.
        waiting: Called with the holder's name when another run has to end first.

    Returns:
        The finished run: done, rejected, failed or interrupted.

    Raises:
        ConfigurationError: the project, an override or a parameter cannot be used; nothing was run.
        ContractViolation: the address of the endpoint is taken; nothing was run.
        EnvironmentMissing: the environment of a step is not built; nothing was run.
    """
    # A project's own mistakes are told at once, and not when another run has ended.
    configuration = load_configuration(project, overrides)
    read_definitions(project, configuration)
    arguments = read_parameters(pipeline, declared_parameters(pipeline, configuration), parameters, configuration)
    with exclusive(waiting) as lock:
        remove_leftovers()
        record = replace(_begin(pipeline, project, overrides), parameters=list(parameters), name=name)
        lock.say(f"run {record.id}")
        with alive(record.folder):
            record.save()
            compiled = record.folder / "pipeline.yaml"
            try:
                made = compile_pipeline(pipeline, "local", project, compiled, overrides=overrides, state=STATE)
                configuration = made.configuration
                specification = kfp_components.load_component_from_file(str(compiled)).pipeline_spec
                require_environments(specification)
                if pipeline == "training":
                    # Known now, and not when a model has been trained that cannot be served.
                    check_address(STATE / "serving", configuration.deployment.model, configuration.deployment.http_port)
            except KeyboardInterrupt:
                record = replace(record, state=RunState.interrupted, reason=STOPPED, finished_at=_now())
                record.save()
                return record
            except BaseException:
                # A run that is refused never began.
                shutil.rmtree(record.folder, ignore_errors=True)
                raise
            record = replace(record, project=configuration.name, model=configuration.deployment.model)
            record.save()
            return _run(record, configuration, compiled, specification, arguments, use_cache, watch, lock)


def _begin(pipeline: str, project: Path, overrides: Sequence[str]) -> RunRecord:
    """A new run and its folder."""
    number = 1 + max((run.number for run in all_runs()), default=0)
    record = RunRecord(
        id=f"{pipeline}-{datetime.now():%Y%m%d-%H%M%S}-{number}",
        pipeline=pipeline,
        # Its own name is known when its configuration is read.
        project=project.name,
        project_folder=str(project),
        overrides=list(overrides),
        started_at=_now(),
        number=number,
    )
    record.folder.mkdir(parents=True)
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _run(
    record: RunRecord,
    configuration: Configuration,
    compiled: Path,
    specification: PipelineSpec,
    arguments: Mapping[str, Any],
    use_cache: bool,
    watch: Callable[[RunRecord, RunProgress], None],
    lock: Lock,
) -> RunRecord:
    folder = record.folder
    # kfp's local runner calls a step as its component.
    steps = [step.task.component_ref.name.removeprefix("comp-") for step in steps_of(specification)]
    append_event(folder / EVENTS_FILE, {"steps": steps})
    progress = read_progress(folder / EVENTS_FILE)
    logs, scratch = folder / "logs", folder / SCRATCH
    for place in (logs, scratch):
        place.mkdir()
    named = configuration.lineage.url, configuration.name, record.pipeline, record.id, reads_of(specification)
    lineage = LineageEvents(*named, logs / "lineage.log")
    recorder = _Recorder(progress, folder / EVENTS_FILE, lineage.watched(lambda now: watch(record, now)))
    watch(record, progress)
    variables = {
        **STEP_VARIABLES,
        "LIFECYCLE_SERVING_PYTHON": str(interpreter("serving")),
        "LIFECYCLE_RUN_ID": record.id,
        # What the exit handler, which has no inputs, finds out what was decided by, and what it has said before.
        "LIFECYCLE_RUN_EVENTS": str(folder / EVENTS_FILE),
        "LIFECYCLE_NOTIFY_LEDGER": str(STATE / "notifications.json"),
        VARIABLE: code_version(ROOT).variable(),
        **local_locations(STATE, configuration.name).as_variables(Locations.model_fields),
    }
    session = Session(recorder, logs, scratch, STATE / "code", variables, lock.descriptor)
    state, reason = RunState.failed, None
    try:
        run_pipeline(
            compiled,
            arguments,
            session=session,
            artifacts=folder / "artifacts",
            cache_root=STATE / "cache" / "steps" if use_cache else None,
            kfp_log=logs / "kfp.log",
        )
        state = _outcome(progress)
    except KeyboardInterrupt:
        state, reason = RunState.interrupted, STOPPED
    except Exception as error:
        if isinstance(error, OSError) and (told := trouble(error)):
            reason = told
            raise
        (logs / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
        reason = f"the run itself failed, not a step: {error} (see {logs / 'error.log'})"
        raise
    finally:
        # First of all, so that there is room for what is still to be written.
        shutil.rmtree(scratch, ignore_errors=True)
        recorder.skip_the_rest()
        failed = progress.failed()
        record = replace(
            record,
            state=state,
            failed_step=failed.name if failed else None,
            reason=reason or (failed.reason if failed else None),
            finished_at=_now(),
        )
        # Saved before the report is made, so that a report that cannot be made takes nothing else with it.
        record.save()
        lineage.end(state, record.reason)
    report = folder / REPORT_FILE
    write_report(
        report,
        configuration,
        Path(record.project_folder),
        pipeline=record.pipeline,
        run_id=record.id,
        progress=progress,
        resume=resume_command(record),
    )
    record = replace(record, report=str(report))
    record.save()
    return record


def _outcome(progress: RunProgress) -> RunState:
    """A run is done when no step failed; kfp's own state says so even when only the exit handler passed."""
    if progress.failed() is not None:
        return RunState.failed
    verdict = progress.artifact("verdict")
    return RunState.rejected if verdict is not None and verdict[1]["decision"] == "rejected" else RunState.done
