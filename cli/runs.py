"""`lifecycle runs`, `watch`, `logs`, `cancel`, `resume`, `artifacts`, `compare`: the same verbs on every target."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    STYLES,
    AsJson,
    Project,
    err,
    out,
    project_folder,
    say,
    write_json,
)
from kfp_lifecycle.cli.targets import OnTarget, backend_for, plain_refusals
from kfp_lifecycle.runtime.states import RunState

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import Backend, RunStatus, RunSummary


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `lifecycle runs` lists it.")]


def runs(
    target: OnTarget = None,
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest runs.

    Example: `lifecycle runs --target kubeflow`
    """
    with plain_refusals():
        found = backend_for(target, project).runs(limit)
    if as_json:
        write_json([summary_as_json(run) for run in found])
        return
    if not found:
        out.print("no runs yet: start one with `lifecycle run training`")
        return
    widest = max(len(run.id) for run in found)
    for run in found:
        started = f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else ""
        state = f"[{STYLES[run.state]}]{run.state:11}[/]"
        by = "  by its schedule" if run.schedule else ""
        out.print(f"{run.id:{widest}}  {run.pipeline:15}  {state}  {started}{by}", soft_wrap=True)


def summary_as_json(run: RunSummary) -> dict[str, Any]:
    """A run as scripts see it."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(run).items()}


def watch(
    run: RunArgument,
    target: OnTarget = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show a run until it has ended: every step, its key figure, and the reason where it failed.

    Ctrl-C ends the watching and not the run.

    Example: `lifecycle watch 3f1c… --target kubeflow`

    Exit codes: 0 done or rejected, 1 it failed, 2 there is no such run, 130 it was cancelled.
    """
    with plain_refusals():
        watch_until_end(backend_for(target, project), run, as_json, project)


def watch_until_end(backend: Backend, run_id: str, as_json: bool, project: Path | None = None) -> NoReturn:
    """Show a run until it has ended, say how, and end the command with the exit code of that.

    Of a run on a cluster whoever `lineage.url` names is told then; a run here tells by itself.
    """
    from kfp_lifecycle.backends.watching import watch as watch_run
    from kfp_lifecycle.cli.live_view import RunView

    with RunView(err if as_json else out) as view:
        status = watch_run(
            backend,
            run_id,
            lambda now: view.update(now.summary, now.progress),
            say,
        )
    if as_json:
        write_json(status_as_json(status))
    else:
        describe_end(status)
    if backend.target != "local":
        from kfp_lifecycle.cli.lineage_sent import send_lineage
        from kfp_lifecycle.config.loading import load_configuration
        from kfp_lifecycle.local.state import STATE

        send_lineage(backend, status, load_configuration(project_folder(project)), STATE / "lineage.log")
    ended = {RunState.failed: EXIT_FAILED, RunState.interrupted: EXIT_INTERRUPTED}
    raise typer.Exit(ended.get(status.summary.state, 0))


def status_as_json(status: RunStatus) -> dict[str, Any]:
    """A run and its steps as scripts see them."""
    return {
        **summary_as_json(status.summary),
        "reason": status.reason or None,
        "failed_step": status.failed_step or None,
        "steps": [
            {"name": step.name, "state": step.state, "seconds": step.seconds, "summary": step.summary}
            for step in status.progress.steps.values()
        ],
    }


def describe_end(status: RunStatus) -> None:
    """The last lines on the screen."""
    state = status.summary.state
    decided = status.progress.steps.get("decide-promotion")
    if state is RunState.done and (decisions := status.progress.decisions()):
        out.say("\n".join(["", *decisions]))
    elif state is RunState.done:
        out.print("\n[green]Done.[/]")
    elif state is RunState.rejected:
        out.print("\n[yellow]The candidate was rejected.[/]")
    elif state is RunState.interrupted:
        out.print("\n[yellow]Stopped.[/]")
    else:
        out.print(f"\n[bold red]{status.failed_step.replace('-', ' ') or 'The run'} failed.[/]")
        out.say(status.reason)
    if decided and decided.summary:
        out.say(f"Verdict:    {decided.summary}")
    if status.summary.link:
        out.say(f"Shown at:   {status.summary.link}")


def logs(
    run: RunArgument,
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="One step; by default all.")] = None,
    target: OnTarget = None,
    project: Project = None,
) -> None:
    """Print the log of a run's steps; that of a running one as it grows.

    Example: `lifecycle logs 3f1c… train-model --target kubeflow`
    """
    with plain_refusals():
        backend = backend_for(target, project)
        names = [step] if step else [each.name for each in backend.status(run).progress.steps.values() if each.log]
        for name in names:
            if step is None:
                out.print(f"\n[bold]{name}[/]")
            for line in backend.log(run, name):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


def cancel(run: RunArgument, target: OnTarget = None, project: Project = None) -> None:
    """Stop a run. What its steps have finished is kept.

    Example: `lifecycle cancel 3f1c… --target kubeflow`
    """
    with plain_refusals():
        backend = backend_for(target, project)
        status = backend.status(run)
        if status.ended:
            out.print(f"the run is {status.summary.state} already")
            return
        backend.cancel(run)
    out.print(f"{run} is being stopped")


def resume(
    run: RunArgument,
    target: OnTarget = None,
    project: Project = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that failed or was stopped, from the step that failed.

    Example: `lifecycle resume 3f1c… --target kubeflow`

    Exit codes: as those of `lifecycle run`.
    """
    with plain_refusals():
        backend = backend_for(target, project)
        resumed = backend.resume(run)
        if detach:
            sys.stdout.write(f"{resumed}\n")
            return
        watch_until_end(backend, resumed, as_json, project)


def artifacts(run: RunArgument, target: OnTarget = None, project: Project = None, as_json: AsJson = False) -> None:
    """List what a run's steps have written, and where.

    Example: `lifecycle artifacts 3f1c… --target kubeflow`
    """
    with plain_refusals():
        found = backend_for(target, project).artifacts(run)
    if as_json:
        write_json([asdict(item) for item in found])
        return
    for item in found:
        out.say(f"{item.step}  {item.name}  {item.uri}")


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared with.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared.")],
    target: OnTarget = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs: key figures of their steps, parameters, metrics, verdict.

    Example: `lifecycle compare training-20261128-180711-16568 training-20261128-181522-17011`

    Exit codes: 0 compared, whether or not they differ, 1 the target does not answer, 2 a run is not there.
    """
    from kfp_lifecycle.backends.comparison import compare as compare_runs

    with plain_refusals():
        found = compare_runs(backend_for(target, project), first, second)
    if as_json:
        told = [{**asdict(item), "change": item.change} for item in found]
        write_json(told)
        return
    section = ""
    for item in found:
        if item.section != section:
            section = item.section
            out.print(f"\n[bold]{section}[/]")
        change = f"  ({item.change:+.4g})" if item.change is not None else ""
        out.say(f"{item.name}: {_shown(item.first)} → {_shown(item.second)}{change}")
    if not found:
        out.print("the runs do not differ in key figures, parameters, metrics or verdict")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "—" if value is None else str(value)
