"""Backfill: a pipeline is run for each moment of a window, the oldest first, as its schedule would have run it then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from kfp_lifecycle.backends.backend import Backend, RunStatus, RunSummary
from kfp_lifecycle.compilation.parameters import Parameter
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.runtime.states import RunState

# The parameter of a pipeline that says as of when it looks.
MOMENT = "as_of"
# What the names of its runs have between pipeline and moment.
AT = "-at-"
GOOD = (RunState.done, RunState.rejected)


@dataclass(frozen=True)
class Occurrence:
    """A moment of the window."""

    moment: datetime
    name: str
    """What the next run of it is called."""
    earlier: RunSummary | None
    """Its newest run, if there is one."""

    @property
    def is_done(self) -> bool:
        """Whether it has run to a good end."""
        return self.earlier is not None and self.earlier.state in GOOD

    @property
    def is_running(self) -> bool:
        """Whether a run of it is at work."""
        return self.earlier is not None and self.earlier.state is RunState.running

    @property
    def parameters(self) -> dict[str, str]:
        """What its run is given."""
        return {MOMENT: self.moment.isoformat()}


class Result(StrEnum):
    """What became of an occurrence."""

    left = "left"
    """It had run before."""
    done = "done"
    failed = "failed"
    stopped = "stopped"


ENDED = {RunState.done: Result.done, RunState.rejected: Result.done, RunState.interrupted: Result.stopped}


@dataclass(frozen=True)
class Backfilled:
    """An occurrence that was looked after."""

    moment: datetime
    result: Result
    run: str
    reason: str = ""


def refuse_timeless(pipeline: str, declared: Mapping[str, Parameter]) -> None:
    """See that a pipeline can be told as of when it looks.

    Raises:
        ConfigurationError: it cannot: each of its runs would do the same.
    """
    if MOMENT not in declared:
        raise ConfigurationError(
            f"the pipeline {pipeline} has no parameter {MOMENT}: each of its runs looks at what is there now, and a "
            f"window of them would do the same again and again. Run it once: `lifecycle run {pipeline}`"
        )


def moments_of(every: timedelta, first: datetime, last: datetime) -> list[datetime]:
    """Moments of a window at a fixed distance, both ends included."""
    return [first.astimezone(UTC) + every * number for number in range((last - first) // every + 1)]


def occurrences(backend: Backend, project: str, pipeline: str, moments: Iterable[datetime]) -> list[Occurrence]:
    """The moments of a window, each with what has run of it. Runs are found by their names."""
    beginning = f"{pipeline}{AT}"
    named = re.compile(rf"(?P<occurrence>{beginning}\d{{8}}-\d{{6}})(-(?P<attempt>\d+))?")
    attempts: dict[str, list[tuple[int, RunSummary]]] = {}
    for run in backend.runs_named(beginning):
        found = named.fullmatch(run.name)
        if found and run.project == project:
            attempts.setdefault(found["occurrence"], []).append((int(found["attempt"] or 1), run))
    result = []
    for moment in sorted(moments):
        name = f"{beginning}{moment.astimezone(UTC):%Y%m%d-%H%M%S}"
        number, newest = max(attempts.get(name, [(0, None)]), key=lambda attempt: attempt[0])
        result.append(Occurrence(moment, f"{name}-{number + 1}" if number else name, newest))
    return result


def backfill(
    planned: Iterable[Occurrence],
    start: Callable[[Occurrence], RunStatus],
    follow: Callable[[RunSummary], RunStatus],
    *,
    again: bool = False,
    keep_going: bool = False,
) -> Iterator[Backfilled]:
    """Run the occurrences of a window, one at a time, and tell of each as it ends.

    Args:
        planned: The occurrences, the oldest first.
        start: Runs one to its end.
        follow: Waits for the end of a run that is at work already, as of a backfill that was interrupted.
        again: Run what has run to a good end, too.
        keep_going: Go on after one that failed; one that was stopped ends it in any case.
    """
    for occurrence in planned:
        earlier = occurrence.earlier
        if earlier is not None and occurrence.is_done and not again:
            yield Backfilled(occurrence.moment, Result.left, earlier.id)
            continue
        status = follow(earlier) if earlier is not None and occurrence.is_running else start(occurrence)
        state = status.summary.state
        result = ENDED.get(state, Result.failed)
        yield Backfilled(occurrence.moment, result, status.summary.id, status.reason)
        if result is Result.stopped or (result is Result.failed and not keep_going):
            return
