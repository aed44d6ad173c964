"""Schedules of this machine: kept by its own timers, never by a loop that ends with a terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kfp_lifecycle.backends.backend import BackendError, ExistingSchedule, PlannedSchedule
from kfp_lifecycle.backends.here.crontab import Crontab
from kfp_lifecycle.backends.here.occurrence import scheduled_in, script_of
from kfp_lifecycle.backends.here.systemd import SystemdTimers
from kfp_lifecycle.compilation.parameters import check_parameters
from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.outputs import write_whole


class Timers(Protocol):
    """What starts a script again and again."""

    word: str

    def install(self, name: str, script: Path, schedule: Schedule) -> None: ...
    def remove(self, name: str) -> None: ...
    def pause(self, name: str) -> None: ...
    def resume(self, name: str) -> None: ...
    def has(self, name: str) -> bool: ...
    def enabled(self, name: str) -> bool: ...
    def remark(self) -> str: ...


def timers_here(state: Path) -> Timers:
    """The timers of this machine: systemd's where it runs for the user, else cron's.

    Raises:
        BackendError: it has neither.
    """
    place = hashlib.sha256(str(state).encode()).hexdigest()[:8]
    if SystemdTimers.runs():
        return SystemdTimers(place)
    if Crontab.runs():
        return Crontab(place)
    raise BackendError(
        "nothing on this machine starts a schedule: systemd does not run for this user, and there is no crontab. "
        "Install cron, or name a cluster: --target kubeflow or --target vertex"
    )


class SchedulesHere:
    """The schedules of a state folder: each is a script there, and a timer that runs it.

    Args:
        state: The state folder.
        timers: What keeps them.
    """

    def __init__(self, state: Path, timers: Timers) -> None:
        self._folder = state / "schedules"
        self.timers = timers

    def schedules(self) -> list[ExistingSchedule]:
        """As the protocol says. One whose timer somebody removed has no digest, so that `apply` makes it anew."""
        return [
            ExistingSchedule(
                each.name,
                each.name,
                f"{each.cron} {each.zone}",
                each.digest if self.timers.has(each.name) else "",
                self.timers.has(each.name) and self.timers.enabled(each.name),
            )
            for each in scheduled_in(self._folder)
        ]

    def create_schedule(self, planned: PlannedSchedule) -> str:
        """As the protocol says."""
        self._folder.mkdir(parents=True, exist_ok=True)
        script = self._folder / f"{planned.name}.sh"
        # Whole: an occurrence may be reading it.
        write_whole(script, planned.file.read_text("utf-8"))
        self.timers.install(planned.name, script, planned.schedule)
        return planned.name

    def update_schedule(self, schedule_id: str, planned: PlannedSchedule) -> bool:
        """As the protocol says."""
        paused = self.timers.has(schedule_id) and not self.timers.enabled(schedule_id)
        self.create_schedule(planned)
        if paused:
            self.timers.pause(schedule_id)
        return True

    def pause_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self._known(schedule_id)
        self.timers.pause(schedule_id)

    def resume_schedule(self, schedule_id: str) -> None:
        """As the protocol says."""
        self._known(schedule_id)
        self.timers.resume(schedule_id)

    def delete_schedule(self, schedule_id: str) -> None:
        """As the protocol says. What it started is a process of its own."""
        self.timers.remove(schedule_id)
        for ending in ("sh", "ran"):
            (self._folder / f"{schedule_id}.{ending}").unlink(missing_ok=True)

    def is_busy(self, schedule_id: str) -> bool:
        """As the protocol says: removing a timer stops nothing here."""
        return False

    def _known(self, schedule_id: str) -> None:
        if not self.timers.has(schedule_id):
            raise BackendError(
                f"{self.timers.word} does not have {schedule_id} any more: `lifecycle schedule apply` makes it anew"
            )


def plan_here(project: Path, state: Path, folder: Path, overrides: Sequence[str]) -> list[PlannedSchedule]:
    """The script of every pipeline that has a schedule.

    Args:
        project: The project's folder.
        state: The state folder.
        folder: Where the scripts are written.
        overrides: `KEY=VALUE` pairs for the configuration.

    Raises:
        ConfigurationError: the project is wrong, or a pipeline cannot be given the parameters of its schedule.
        BackendError: a path cannot be given to a timer.
    """
    configuration = load_configuration(project, overrides)
    planned = []
    for pipeline in PIPELINES:
        schedule: Schedule | None = getattr(configuration.schedules, pipeline)
        if schedule is None:
            continue
        name = f"{configuration.name}-{pipeline}"
        if schedule.parameters:
            compiled = compile_pipeline(pipeline, "local", project, folder / f"{name}.yaml", overrides=overrides)
            check_parameters(pipeline, compiled.parameters, schedule.parameters, configuration)
        text, digest = script_of(name, pipeline, schedule, project, state, overrides)
        file = folder / f"{name}.sh"
        file.write_text(text, "utf-8")
        planned.append(PlannedSchedule(name, pipeline, schedule, file, digest))
    return planned
