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
from kfp_lifecycle.cli.targets import OnTarget, TargetOption, plain_refusals, target_of
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

    def look(configuration: Configuration, folder: Path, starter: Starter) -> Reason | None:
        return new_data(pipeline, configuration.source, folder, version)

    _start_for(look, pipeline, every, target, project, settings or [], as_json)


@trigger.command("retraining")
def on_request(
    every: Every = None,
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train if the newest run of monitoring asks for it, once for each time that it does.

    Example: `lifecycle trigger retraining --target kubeflow`

    Exit codes: as those of `lifecycle trigger new-data`.
    """
    from kfp_lifecycle.backends.triggers import retraining

    def look(configuration: Configuration, folder: Path, starter: Starter) -> Reason | None:
        return retraining(starter.backend)

    _start_for(look, "training", every, target, project, settings or [], as_json)


def _start_for(
    look: Callable[[Configuration, Path, Starter], Reason | None],
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
            reason = look(compiled.configuration, folder, starter)
            return _start_once(starter, compiled.configuration.name, reason, as_json)

    failed = look_once()
    while pause is not None:
        time.sleep(pause.total_seconds())
        # A source that is being replaced, a target that is away: it was said, and may be otherwise the next time.
        with contextlib.suppress(typer.Exit):
            look_once()
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _start_once(starter: Starter, project: str, reason: Reason | None, as_json: bool) -> bool:
    """Start a run for a reason, unless there was one. Returns whether it has failed already, as one here may have."""
    from kfp_lifecycle.backends.triggers import started_before

    if reason is None:
        _tell("", None, started=False, sentence="monitoring asks for nothing", as_json=as_json)
        return False
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
        write_json({"run": run or None, "state": state, "started": started, "reason": sentence})
    elif started:
        say(f"{sentence}: started")
        out.print(run, markup=False, soft_wrap=True)
    else:
        say(f"{sentence}: {f'it was run as {run}, which is {state}' if run else 'nothing is started'}")
