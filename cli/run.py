"""`lifecycle run`: a pipeline on this machine, or on a cluster that the project knows."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    AsJson,
    Project,
    err,
    out,
    project_folder,
    refuse,
    say,
    write_json,
)
from kfp_lifecycle.cli.interruption import stop_like_ctrl_c
from kfp_lifecycle.cli.runs import watch_until_end
from kfp_lifecycle.cli.targets import OnTarget, plain_refusals, target_of
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState

if TYPE_CHECKING:
    from kfp_lifecycle.config.targets import TargetName


GivenParameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", metavar="NAME=VALUE", help="Give the pipeline a parameter; may be repeated."),
]


def run(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="PIPELINE", help="training, monitoring, batch_scoring or materialization."),
    ] = None,
    project: Project = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key for this run; may be repeated."),
    ] = None,
    parameters: GivenParameters = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run, from the step that failed.")
    ] = False,
    cache: Annotated[bool, typer.Option(help="Take over what did not change since an earlier run.")] = True,
    target: OnTarget = None,
    detach: Annotated[bool, typer.Option("--detach", help="On a cluster: print the run's id at once.")] = False,
    # For what starts a run in the background, and has to find it again.
    name: Annotated[str, typer.Option("--name", hidden=True)] = "",
    as_json: AsJson = False,
) -> None:
    """Run a pipeline: on this machine, or on a cluster that the project knows.

    On a cluster it is compiled, what its steps fetch is uploaded, and the run is shown until it has ended; Ctrl-C then
    ends the watching and not the run.

    Steps whose code, inputs and environment did not change since an earlier run are taken over from it.
    A rejected candidate is no error: the champion goes on serving, and the report says why.

    Example: `lifecycle run training --set tuning.trials=30 --set training.seed=7`

    Example: `lifecycle run monitoring --parameter as_of=2026-11-01`

    Example: `lifecycle run training --target kubeflow --detach`

    Exit codes: 0 done or rejected, 1 a step failed, 2 the command or configuration is wrong, 130 interrupted
    (Ctrl-C, SIGTERM, or its terminal was closed).
    """
    from kfp_lifecycle.cli.live_view import RunView
    from kfp_lifecycle.compilation.pipeline import PIPELINES

    if (chosen := target_of(target, project)) != "local":
        if resume:
            refuse("on a cluster any run can go on: `lifecycle runs` lists them, `lifecycle resume RUN` resumes one")
        if pipeline not in PIPELINES:
            refuse(f"name a pipeline: {', '.join(PIPELINES)}")
        run_on_cluster(
            chosen, pipeline, project_folder(project), settings or [], parameters or [], cache, detach, as_json
        )
    from kfp_lifecycle.cli.outcome import describe_outcome, outcome_as_json
    from kfp_lifecycle.cli.retraining import start_what_was_asked_for
    from kfp_lifecycle.local.runs import NothingToResume, execute, run_to_resume

    overrides, given = [_resolved_from_here(setting) for setting in settings or []], parameters or []
    if resume:
        try:
            last = run_to_resume(pipeline)
        except NothingToResume as error:
            refuse(f"there is nothing to resume: {error}")
        pipeline, overrides, given = last.pipeline, [*last.overrides, *overrides], [*last.parameters, *given]
        project = project or Path(last.project_folder)
    if pipeline is None:
        refuse(f"name a pipeline: {', '.join(PIPELINES)}")
    if pipeline not in PIPELINES:
        refuse(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")
    folder = project_folder(project)
    stop_like_ctrl_c()
    try:
        with RunView(err if as_json else out) as view:
            record = execute(
                pipeline,
                folder,
                overrides=overrides,
                parameters=given,
                name=name,
                use_cache=cache,
                watch=view.update,
                waiting=view.waiting,
            )
    except ContractViolation as error:
        refuse(str(error))
    except KeyboardInterrupt:
        err.print("stopped before the run began")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    started = start_what_was_asked_for(record)
    if as_json:
        write_json(outcome_as_json(record))
    else:
        describe_outcome(out, record, started)
    ended = {RunState.failed: EXIT_FAILED, RunState.interrupted: EXIT_INTERRUPTED}
    raise typer.Exit(ended.get(record.state, 0))


def _resolved_from_here(setting: str) -> str:
    """A relative file in `--set source.url=…` is meant from where the command is typed."""
    from kfp_lifecycle.data.source_version import in_full, source_path

    key, _, url = setting.partition("=")
    path = source_path(url) if key.startswith("source.") and key.endswith(".url") else None
    return f"{key}={in_full(url, Path())}" if path is not None and path.exists() else setting


def run_on_cluster(
    target: TargetName,
    pipeline: str,
    project: Path,
    overrides: list[str],
    parameters: list[str],
    use_cache: bool,
    detach: bool,
    as_json: bool,
) -> NoReturn:
    """Submit a pipeline, watch it unless it is to be left alone, and end the command as the run ends."""
    from kfp_lifecycle.backends.submission import submit

    with plain_refusals(), tempfile.TemporaryDirectory(prefix="submission-") as folder:
        sent = submit(
            pipeline,
            target,
            project,
            Path(folder),
            overrides=overrides,
            parameters=parameters,
            use_cache=use_cache,
            say=say,
        )
    if detach:
        sys.stdout.write(json.dumps({"id": sent.run_id, "name": sent.name}) + "\n" if as_json else f"{sent.run_id}\n")
        raise typer.Exit
    say(f"watching {sent.run_id}; Ctrl-C leaves it running, and `lifecycle watch {sent.run_id}` comes back to it")
    with plain_refusals():
        watch_until_end(sent.backend, sent.run_id, as_json, project)
