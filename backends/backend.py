"""Backend protocol: submit, list, watch, log, cancel and resume runs of a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.states import RunState, State


class BackendError(Exception):
    """A backend does not do what was asked; the message names what was asked, the reason and the remedy."""


class NotThere(BackendError):
    """What was named is not on the target."""


class Unreachable(BackendError):
    """The target's API server does not answer, or not now: the same may work later."""


@dataclass(frozen=True)
class RunSummary:
    """A run as a list shows it."""

    id: str
    """What the target calls it: all verbs take it."""
    name: str
    """What a person calls it."""
    pipeline: str
    project: str
    state: RunState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    link: str = ""
    """Where the target's dashboard shows it; empty where there is none."""
    schedule: str = ""
    """The schedule that started it; empty where a person did."""


@dataclass(frozen=True)
class RunStatus:
    """A run with its steps, as they stand."""

    summary: RunSummary
    progress: RunProgress
    reason: str = ""
    """Why it did not come to its end, in plain words; empty where it did, or still may."""
    failed_step: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing of it will change by itself."""
        return self.summary.state is not RunState.running


@dataclass(frozen=True)
class RunArtifact:
    """An artifact of a run."""

    step: str
    name: str
    kind: str
    """Its KFP type: `Dataset`, `Model`, `HTML`."""
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """A compiled pipeline on its way to a target."""

    file: Path
    """The compiled YAML."""
    pipeline: str
    """`training`, say."""
    project: str
    name: str
    """The run's name; the same name is the same submission, however often it is sent."""
    use_cache: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    """Others may send the same one at the same moment, as triggers do: one run comes of it all the same."""


# The first step that a run comes to when its candidate was approved, and only then.
APPROVED_STEP = "register-model"


def outcome_of(state: RunState, progress: RunProgress) -> RunState:
    """How a run ended, by its steps: a backend calls a run succeeded when its exit task is (kubeflow/pipelines#10917).

    Args:
        state: What the backend says.
        progress: The run's steps.
    """
    if state is not RunState.done:
        return state
    if progress.failed() is not None:
        return RunState.failed
    approved = progress.steps.get(APPROVED_STEP)
    return RunState.rejected if approved is not None and approved.state is State.skipped else RunState.done


def status_of(summary: RunSummary, progress: RunProgress, said: str) -> RunStatus:
    """A run with its steps, and why it did not come to its end.

    Args:
        summary: The run.
        progress: Its steps.
        said: What the backend says of a run that failed though no step did.
    """
    failed = progress.failed()
    reason = failed.reason if failed else ""
    if not failed and summary.state is RunState.failed:
        reason = said
    if summary.state is RunState.interrupted:
        reason = "it was cancelled"
    return RunStatus(summary, progress, reason, failed.name if failed else "")


def step_with_log(run_id: str, progress: RunProgress, step: str) -> StepRecord:
    """A step of a run whose log can be asked for.

    Args:
        run_id: The run, for messages.
        progress: Its steps.
        step: The step's name, as people or components write it.

    Raises:
        NotThere: there is no such step, or it has no log.
    """
    name = step.replace("_", "-")
    found = progress.steps.get(name)
    if found is None:
        raise NotThere(f"the run {run_id} has no step {step}; it has {', '.join(progress.steps)}")
    if not found.log:
        raise NotThere(f"the step {name} of the run {run_id} has no log: it is {found.state}")
    return found


class Backend(Protocol):
    """The verbs of a target. Every one of them raises BackendError in plain words."""

    target: ClassVar[TargetName]

    def runs(self, limit: int) -> list[RunSummary]:
        """The newest runs of the project, newest first."""

    def runs_named(self, beginning: str) -> list[RunSummary]:
        """All runs of the project whose name begins so."""

    def status(self, run_id: str) -> RunStatus:
        """A run and its steps.

        Raises:
            NotThere: there is no such run.
        """

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """Lines of a step's log, as they come while it runs.

        Raises:
            NotThere: there is no such run or step, or its log is gone.
        """

    def cancel(self, run_id: str) -> None:
        """Stop a run; one that has ended is left as it is."""

    def resume(self, run_id: str) -> str:
        """Go on with a run that failed or was stopped, from the step that failed. Returns the id to watch."""

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        """What a run's steps have written so far."""

    def fetch(self, artifact: RunArtifact, file: str, folder: Path) -> Path:
        """Bring a file of an artifact, or the artifact where it is one file, to a folder here.

        Raises:
            NotThere: it has no such file.
        """


@dataclass(frozen=True)
class PlannedSchedule:
    """A schedule as the project wants it."""

    name: str
    """`churn-monitoring`: project and pipeline."""
    pipeline: str
    schedule: Schedule
    file: Path
    """The compiled pipeline; on this machine the script that runs it."""
    digest: str
    """Of all that an occurrence would do and when: what has the same digest there is left alone."""


@dataclass(frozen=True)
class ExistingSchedule:
    """A schedule as the target has it."""

    id: str
    name: str
    cron: str
    """As the target writes it."""
    digest: str
    """What it was made with; empty where something else made it."""
    enabled: bool


class ScheduleKeeper(Protocol):
    """The verbs of what starts runs by itself."""

    def schedules(self) -> list[ExistingSchedule]:
        """The schedules of the project that this library made."""

    def create_schedule(self, planned: PlannedSchedule) -> str:
        """Make a schedule: nothing is made up for, and one occurrence runs at a time. Returns its id."""

    def update_schedule(self, schedule_id: str, planned: PlannedSchedule) -> bool:
        """Make a schedule what is wanted, while what it started goes on. False where the target cannot."""

    def pause_schedule(self, schedule_id: str) -> None:
        """Start no more occurrences; one that runs goes on."""

    def resume_schedule(self, schedule_id: str) -> None:
        """Start occurrences again."""

    def delete_schedule(self, schedule_id: str) -> None:
        """Remove a schedule. A target may stop what it started: ask `is_busy` before."""

    def is_busy(self, schedule_id: str) -> bool:
        """Whether a run that the schedule started is still at it."""


class ClusterBackend(Backend, ScheduleKeeper, Protocol):
    """The verbs of a target that runs are sent to, and that starts runs by itself."""

    def submit(self, submission: Submission) -> str:
        """Start a run, once: a submission that was cut off is looked for before it is sent again. Returns its id."""
