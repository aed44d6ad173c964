"""`lifecycle schedule`: recurring runs, as `pipeline.yaml` declares them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from kfp_lifecycle.cli.backfill import backfill
from kfp_lifecycle.cli.console import AsJson, Project, Settings, out, project_folder, refuse, say, write_json
from kfp_lifecycle.cli.targets import OnTarget, TargetOption, cluster_backend_for, plain_refusals, target_of

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import ExistingSchedule, ScheduleKeeper
    from kfp_lifecycle.backends.here.schedules import SchedulesHere

T = TypeVar("T")

schedule = typer.Typer(
    no_args_is_help=True,
    help="Let pipelines recur, as `pipeline.yaml` says: on a cluster, or here by the system's own timers.",
)

schedule.command("backfill")(backfill)

NameArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline whose schedule is meant.")]


@schedule.command("apply")
def apply_schedules(
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Bring the target's schedules to what `pipeline.yaml` says. Nothing that runs is stopped; again, it does nothing.

    On a cluster a schedule whose pipeline, settings or times differ is replaced: the new one is made, the old one
    paused, and removed when nothing of it runs any more. On this machine each is a timer of systemd's for the user, or,
    where that does not run, a line in the crontab; what was missed while the machine was off is made up for once.

    Example: `lifecycle schedule apply`

    Example: `lifecycle schedule apply --target kubeflow`

    Exit codes: 0 as declared, 1 the target refused something, 2 the command or the project is wrong.
    """
    from kfp_lifecycle.backends.schedules import Change, apply, plan

    chosen, folder = target_of(target, project), project_folder(project)
    remark = ""
    with plain_refusals(), tempfile.TemporaryDirectory(prefix="schedules-") as made:
        if chosen == "local":
            from kfp_lifecycle.backends.here.schedules import plan_here
            from kfp_lifecycle.local.state import STATE

            here = schedules_here()
            done = apply(here, plan_here(folder.resolve(), STATE, Path(made), settings or []))
            remark = here.timers.remark() if done else ""
        else:
            backend, planned = plan(folder, chosen, Path(made), settings or [], say)
            done = apply(backend, planned)
    if remark:
        say(remark)
    if as_json:
        write_json([asdict(item) for item in done])
        return
    for item in done:
        note = {Change.retired: ", a run of it is still at it: apply again to remove it"}.get(item.change, "")
        paused = " (paused)" if item.paused else ""
        out.print(f"{item.name}  {item.cron}  {item.change}{paused}{note}", soft_wrap=True)
    if not done:
        out.print("no pipeline has a schedule in pipeline.yaml, and the target has none of this project")


@schedule.command("list")
def list_schedules(target: OnTarget = None, project: Project = None, as_json: AsJson = False) -> None:
    """List the schedules that the target has: the project's on a cluster, those of this state folder here.

    Example: `lifecycle schedule list --target kubeflow`
    """
    with plain_refusals():
        found = keeper_for(target, project).schedules()
    if as_json:
        write_json([asdict(item) for item in found])
        return
    for item in found:
        out.print(f"{item.name}  {item.cron}  {'enabled' if item.enabled else 'paused'}  {item.id}", soft_wrap=True)
    if not found:
        out.print("no schedules: `lifecycle schedule apply` makes those of pipeline.yaml")


@schedule.command("pause")
def pause(pipeline: NameArgument, target: OnTarget = None, project: Project = None) -> None:
    """Start no more occurrences of a pipeline; one that runs goes on. `apply` leaves it paused.

    Example: `lifecycle schedule pause training --target kubeflow`
    """
    _each(pipeline, target, project, lambda backend, schedule: backend.pause_schedule(schedule.id))
    out.print(f"{pipeline} is paused")


@schedule.command("resume")
def resume(pipeline: NameArgument, target: OnTarget = None, project: Project = None) -> None:
    """Start occurrences of a pipeline again. On a cluster what was missed is not made up for.

    Example: `lifecycle schedule resume training --target kubeflow`
    """
    _each(pipeline, target, project, lambda backend, schedule: backend.resume_schedule(schedule.id))
    out.print(f"{pipeline} recurs again")


@schedule.command("delete")
def delete(pipeline: NameArgument, target: OnTarget = None, project: Project = None) -> None:
    """Remove a pipeline's schedule. On a cluster one that has a run at it is paused instead, and the run goes on.

    Example: `lifecycle schedule delete training --target kubeflow`
    """
    from kfp_lifecycle.backends.schedules import retire

    gone = all(_each(pipeline, target, project, retire))
    out.print(f"{pipeline}: removed" if gone else f"{pipeline}: paused, since a run of it is at it; delete again later")


def schedules_here() -> SchedulesHere:
    """The schedules of this state folder."""
    from kfp_lifecycle.backends.here.schedules import SchedulesHere, timers_here
    from kfp_lifecycle.local.state import STATE

    return SchedulesHere(STATE, timers_here(STATE))


def keeper_for(target: TargetOption | None, project: Path | None) -> ScheduleKeeper:
    """What keeps the schedules of the target that is meant."""
    return schedules_here() if target_of(target, project) == "local" else cluster_backend_for(target, project)


def _each(
    pipeline: str,
    target: TargetOption | None,
    project: Path | None,
    change: Callable[[ScheduleKeeper, ExistingSchedule], T],
) -> list[T]:
    """Change what the target has of a pipeline's schedule: while one is replaced there are two."""
    with plain_refusals():
        backend = keeper_for(target, project)
        name = pipeline.replace("-", "_")
        existing = backend.schedules()
        found = [item for item in existing if item.name.endswith(f"-{name}")]
        if not found:
            there = ", ".join(sorted({item.name.rpartition("-")[2] for item in existing})) or "none"
            refuse(f"the pipeline {pipeline} has no schedule; those that have one: {there}")
        return [change(backend, item) for item in found]
