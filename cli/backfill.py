"""`lifecycle schedule backfill`: the runs that a schedule would have started in a window that is past."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
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
from kfp_lifecycle.cli.named_runs import starter_for
from kfp_lifecycle.cli.targets import OnTarget, plain_refusals, target_of

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import RunStatus, RunSummary
    from kfp_lifecycle.backends.backfill import Backfilled, Occurrence
    from kfp_lifecycle.config.schedules import Schedule


def backfill(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline: one that looks as of a moment.")],
    first: Annotated[
        str, typer.Option("--from", metavar="TIME", help="The window's begin: 2026-11-01, or with a time of day.")
    ],
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Its end, included: of a date all day. By default now."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="INTERVAL", help="30m, 6h or 1d; by default as its schedule says."),
    ] = None,
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
    again: Annotated[bool, typer.Option("--again", help="Run what has run to a good end, too.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on after a run that failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would run, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline for each moment of a window at which its schedule was due: the oldest first, one at a time.

    What has run to a good end is left, and a run that is at work is waited for: after an interruption the same command
    goes on. Times without a zone are read in the schedule's.

    Example: `lifecycle schedule backfill monitoring --from 2026-11-01 --to 2026-11-07`

    Exit codes: 0 all have run, 1 one failed, 2 the command or the project is wrong, 130 one was stopped.
    """
    from kfp_lifecycle.backends.backfill import Result, occurrences, refuse_timeless
    from kfp_lifecycle.backends.backfill import backfill as run_window
    from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline

    if pipeline not in PIPELINES:
        refuse(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")
    chosen, folder = target_of(target, project), project_folder(project)
    with plain_refusals(), tempfile.TemporaryDirectory(prefix="backfill-") as place:
        file = Path(place) / f"{pipeline}.yaml"
        compiled = compile_pipeline(pipeline, chosen, folder, file, overrides=settings or [])
        refuse_timeless(pipeline, compiled.parameters)
        schedule: Schedule | None = getattr(compiled.configuration.schedules, pipeline)
        moments = _moments(pipeline, schedule, first, last, every)
        starter = starter_for(chosen, pipeline, folder, settings or [], compiled, file)
        planned = occurrences(starter.backend, compiled.configuration.name, pipeline, moments)
        if dry_run:
            _list(planned, again, as_json)
            return

        def start(occurrence: Occurrence) -> RunStatus:
            return starter.end_of(starter.start(occurrence.name, occurrence.parameters))

        def follow(run: RunSummary) -> RunStatus:
            say(f"{run.name} is at work already, as {run.id}: waiting for its end")
            return starter.end_of(run.id)

        done = []
        for item in run_window(planned, start, follow, again=again, keep_going=keep_going):
            done.append(item)
            if not as_json:
                out.say(_line(item))
    if as_json:
        write_json([asdict(item) for item in done])
    results = {item.result for item in done}
    if Result.stopped in results:
        raise typer.Exit(EXIT_INTERRUPTED)
    if Result.failed in results:
        raise typer.Exit(EXIT_FAILED)


def _moments(
    pipeline: str, schedule: Schedule | None, first: str, last: str | None, every: str | None
) -> list[datetime]:
    """The moments of the window that are past."""
    from kfp_lifecycle.backends.backfill import moments_of

    zone, now = ZoneInfo(schedule.zone if schedule else "UTC"), datetime.now(UTC)
    begin = _moment("--from", first, zone, time.min)
    end = _moment("--to", last, zone, time.max) if last is not None else now
    if end < begin:
        refuse(f"--to {last or 'now'} is before --from {first}")
    end = min(end, now)
    if every is not None:
        moments = moments_of(interval("--every", every, "mhd"), begin, end)
    elif schedule is not None:
        moments = schedule.between(begin, end)
    else:
        refuse(f"{pipeline} has no schedule in pipeline.yaml: say how often it runs, such as --every 1d")
    if not moments:
        refuse(f"{pipeline} was not due between {begin:%Y-%m-%d %H:%M %Z} and {end:%Y-%m-%d %H:%M %Z}")
    return moments


def _list(planned: list[Occurrence], again: bool, as_json: bool) -> None:
    if as_json:
        write_json([{**asdict(item), "runs": again or not item.is_done} for item in planned])
        return
    for item in planned:
        before = f"{item.earlier.state} before, as {item.earlier.id}" if item.earlier else ""
        will = "left" if item.is_done and not again else f"runs as {item.name}"
        out.print("  ".join(filter(None, (f"{item.moment:%Y-%m-%d %H:%M %Z}", will, before))), soft_wrap=True)


def _line(item: Backfilled) -> str:
    reason = f": {item.reason}" if item.reason else ""
    return f"{item.moment:%Y-%m-%d %H:%M %Z}  {item.result}  {item.run}{reason}"


def _moment(option: str, text: str, zone: ZoneInfo, of_day: time) -> datetime:
    """A moment as it is typed; a date alone is its begin or its end."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return datetime.combine(day, of_day, zone)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"{option} {text!r} is no time: write it as 2026-11-01, 2026-11-01T06:00 or 2026-11-01T06:00+01:00")
    return found if found.tzinfo else found.replace(tzinfo=zone)
