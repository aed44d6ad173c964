"""`lifecycle trigger`: a run for each reason there is, once, however often it is asked."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    AsJson,
    Project,
    Settings,
    out,
    project_folder,
    refuse,
    say,
    write_json,
)
from kfp_lifecycle.cli.intervals import interval
from kfp_lifecycle.cli.named_runs import Starter, starter_for
from kfp_lifecycle.cli.retraining import record_approval, start
from kfp_lifecycle.cli.targets import OnTarget, TargetOption, backend_for, plain_refusals, target_of
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState

if TYPE_CHECKING:
    from kfp_lifecycle.backends.triggers import Reason
    from kfp_lifecycle.config.configuration import Configuration

trigger = typer.Typer(
    no_args_is_help=True, help="Start a run where there is a reason for one, once for each: for cron jobs and events."
)
Every = Annotated[
    str | None, typer.Option("--every", metavar="INTERVAL", help="Stay, and look again: every 30s, 5m or 1h.")
]


@trigger.command("new-data")
def on_new_data(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="What is run of it.")] = "training",
    version: Annotated[
        str,
        typer.Option("--version", help="The data's version, where an event tells it; by default it is found out."),
    ] = "",
    every: Every = None,
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline if the source holds another version than any that it was run of.

    A version is told by sizes and times of files, and by the ETags of objects in s3:// and gs://. Of a database nothing
    short of reading tells it: whoever brings the data names it with --version. On a cluster the run is submitted and
    left; its name holds the version, by which it is found again after any restart.

    Example: `lifecycle trigger new-data --target kubeflow --every 5m`

    Example: `lifecycle trigger new-data --target kubeflow --version "$OBJECT_ETAG"`

    Exit codes: 0 started, or there is nothing new; 1 the target refused, or the run here failed; 2 the command or the
    project is wrong.
    """
    from kfp_lifecycle.backends.triggers import new_data
    from kfp_lifecycle.compilation.pipeline import PIPELINES

    if pipeline not in PIPELINES:
        refuse(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")

    def look(configuration: Configuration, folder: Path) -> Reason:
        return new_data(pipeline, configuration.source, folder, version)

    _start_for(look, pipeline, every, target, project, settings or [], as_json)


@trigger.command("approve")
def approve(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The run of monitoring that asks; by default the newest.", show_default=False
        ),
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit record.")] = "",
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Start the retraining that a run of monitoring asks for, or that the project's policy held back.

    What monitoring asks for by itself, and when, says `monitoring.retraining`. The training run has the name that the
    request says, so that it is started once. On this machine it runs in the background, and outlives the terminal. Who
    started it, and why, is in the audit record, and in the lineage of what it trains.

    Example: `lifecycle trigger approve --reason "the new price list is in force"`

    Example: `lifecycle trigger approve 0d6f9c3e-47c1-4a3e-9a55-0a3b3e1f7a10 --target kubeflow`

    Exit codes: 0 started, or it was before; 1 the target refused, or another training is at work; 2 there is no such
    request, or the project is wrong.
    """
    from kfp_lifecycle.backends.retraining import newest_look, obstacle_to, request_of
    from kfp_lifecycle.backends.triggers import Reason, started_before

    backend = backend_for(target, project)
    with plain_refusals():
        asking = run or getattr(newest_look(backend), "id", "")
        request = request_of(backend, asking) if asking else None
        if request is None:
            refuse(f"the run {asking} asks for no retraining" if asking else "no run of monitoring has come to its end")
        before = started_before(backend, request.project, Reason(request.run, request.reason))
        if before is not None:
            _tell(before.id, before.state, started=False, sentence=request.reason, as_json=as_json)
            return
        if obstacle := obstacle_to(backend, request):
            say(f"error: {obstacle}")
            raise typer.Exit(EXIT_FAILED)
        chosen, folder = target_of(target, project), project_folder(project)
        try:
            record_approval(request, chosen, folder, settings or [], reason)
        except ContractViolation as error:
            say(f"error: {error}")
            raise typer.Exit(EXIT_FAILED) from None
        started = start(request, chosen, folder, settings or [])
    if started is None:
        say(f"{request.run} was started before")
        return
    _tell(started, None, started=True, sentence=request.reason, as_json=as_json)


def _start_for(
    look: Callable[[Configuration, Path], Reason],
    pipeline: str,
    every: str | None,
    target: TargetOption | None,
    project: Path | None,
    overrides: list[str],
    as_json: bool,
) -> None:
    """Look for a reason, once or again and again, and start a run for one that had none."""
    from kfp_lifecycle.compilation.pipeline import compile_pipeline

    chosen, folder = target_of(target, project), project_folder(project)
    pause = interval("--every", every, "smhd") if every else None

    def look_once() -> bool:
        with plain_refusals(), tempfile.TemporaryDirectory(prefix="trigger-") as place:
            file = Path(place) / f"{pipeline}.yaml"
            # Anew each time: a project that has changed meanwhile is run as it is then.
            compiled = compile_pipeline(pipeline, chosen, folder, file, overrides=overrides)
            starter = starter_for(chosen, pipeline, folder, overrides, compiled, file)
            reason = look(compiled.configuration, folder)
            return _start_once(starter, compiled.configuration.name, reason, as_json)

    failed = look_once()
    while pause is not None:
        time.sleep(pause.total_seconds())
        # A source that is being replaced, a target that is away: it was said, and may be otherwise the next time.
        with contextlib.suppress(typer.Exit):
            look_once()
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _start_once(starter: Starter, project: str, reason: Reason, as_json: bool) -> bool:
    """Start a run for a reason, unless there was one. Returns whether it has failed already, as one here may have."""
    from kfp_lifecycle.backends.triggers import started_before

    before = started_before(starter.backend, project, reason)
    if before is not None:
        _tell(before.id, before.state, started=False, sentence=reason.sentence, as_json=as_json)
        return False
    run = starter.start(reason.name, {})
    state = starter.backend.status(run).summary.state
    _tell(run, state, started=True, sentence=reason.sentence, as_json=as_json)
    return state is RunState.failed


def _tell(run: str, state: RunState | None, *, started: bool, sentence: str, as_json: bool) -> None:
    if as_json:
        write_json({"run": run, "state": state, "started": started, "reason": sentence})
    elif started:
        say(f"{sentence}: started")
        out.say(run)
    else:
        say(f"{sentence}: it was run as {run}, which is {state}")
