"""What the dashboard knows beside metrics: runs and what monitoring found in them, releases, what is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.step_record import StepRecord
from kfp_lifecycle.backends.backend import Backend, RunArtifact, RunSummary
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.environments.locks import EnvironmentMissing
from kfp_lifecycle.local.environment_module import ModuleFailed, run_module
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.monitoring.dashboards.lifecycle_metrics import LifecycleMetrics, PipelineRun, Project
from kfp_lifecycle.monitoring.dashboards.page import MonitoringVerdict, ReleaseMark, Standing
from kfp_lifecycle.monitoring.scrape_targets import Target, targets
from kfp_lifecycle.monitoring.told_windows import ToldWindow, read_told
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.release.local.history import Event, read_history
from kfp_lifecycle.serving.release.local.operations import endpoints
from kfp_lifecycle.serving.release.local.state import read_releases

MONITORING, TRAINING = "monitoring", "training"
# What of the newest runs is looked at, and how many windows are told.
RUNS = 200
VERDICTS = 8
# When it is tried again to read what could not be read.
AGAIN_SECONDS = 60.0
# Step and artifact that are the page of a monitoring run.
PAGE = ("decide-remedy", "report")
NO_PAGE = "<title>Monitoring</title><p>No page of the newest window lies on this machine."


@dataclass(frozen=True)
class Windows:
    """What was read of the history."""

    after: frozenset[str] | None
    """Runs of monitoring that had ended by then; None before it was read."""
    told: Sequence[ToldWindow]
    at: float
    """By the monotonic clock."""
    unread: str = ""
    """Why no more could be read; empty where it could."""


History = Callable[[], Sequence[ToldWindow]]


def window_history(configuration: Configuration, target: str) -> History:
    """What reads the history of windows that a target's runs write, in the environment that has MLflow."""
    if target == "local":
        places: Locations = local_locations(STATE, configuration.name)
    else:
        places = getattr(configuration.targets, target)

    def read() -> list[ToldWindow]:
        if target == "local" and not (STATE / "mlflow.db").is_file():
            return []
        model, project = configuration.deployment.model, configuration.name
        arguments = (places.tracking_uri, project, model, places.audit_record, str(VERDICTS))
        return read_told(run_module("modelling", "kfp_lifecycle.monitoring.told_windows", *arguments))

    return read


class Known:
    """What is known of one project at its target."""

    def __init__(self, configuration: Configuration, backend: Backend, serving: Path | None, history: History) -> None:
        """Name the places.

        Args:
            configuration: The project.
            backend: Where its pipelines run.
            serving: The serving folder of this machine; None where models are served elsewhere.
            history: Reads the newest windows that monitoring looked at, newest first.
        """
        self._configuration, self._backend, self._serving = configuration, backend, serving
        self._history, self._lock = history, threading.Lock()
        self._read = Windows(None, [], time.monotonic())

    def standing(self) -> Standing:
        """For the page."""
        served = endpoints(self._serving) if self._serving else []
        windows = self._windows()
        return Standing(
            project=self._configuration.name,
            served=[_served(each.model, each.version, each.url, each.healthy) for each in served],
            verdicts=[_verdict_of(window) for window in windows.told],
            page=self._page(windows),
            unread=windows.unread,
            titles=self._configuration.features.titles,
            releases=[ReleaseMark(datetime.fromisoformat(event.at), _told(event)) for event in self._events()[::-1]],
        )

    def metrics(self) -> LifecycleMetrics:
        """For Prometheus."""
        runs = self._runs()
        return LifecycleMetrics([self._project(runs)], self._events(), datetime.now(UTC))

    def monitoring_page(self) -> str:
        """The page of the newest window."""
        page = self._page(self._windows())
        return NO_PAGE if page is None else page.read_text("utf-8")

    def targets(self) -> list[Target]:
        """What there is to read on this machine."""
        return targets(read_releases(self._serving)) if self._serving else []

    def _project(self, runs: Sequence[RunSummary]) -> Project:
        ended = [
            PipelineRun(run.pipeline, run.state, run.started_at, run.finished_at)
            for run in runs
            if run.started_at is not None and run.finished_at is not None
        ]
        newest = next((run for run in runs if run.pipeline == MONITORING and run.state is RunState.done), None)
        return Project(
            name=self._configuration.name,
            runs=ended,
            schedules=_schedules(self._configuration),
            serving_since=self._serving_since(ended),
            figures={} if newest is None else _figures(self._backend.artifacts(newest.id)),
        )

    def _runs(self) -> list[RunSummary]:
        return [run for run in self._backend.runs(RUNS) if run.project == self._configuration.name]

    def _events(self) -> list[Event]:
        return read_history(self._serving, self._configuration.deployment.model) if self._serving else []

    def _serving_since(self, ended: Sequence[PipelineRun]) -> datetime | None:
        """Of the first release; elsewhere of the oldest training that came to a good end."""
        released = [datetime.fromisoformat(event.at) for event in self._events() if event.outcome == "promoted"]
        trained = [run.finished_at for run in ended if run.pipeline == TRAINING and run.state is RunState.done]
        return min(released if self._serving else trained, default=None)

    def _windows(self) -> Windows:
        """The history, read anew once another run of monitoring has ended."""
        ended = frozenset(run.id for run in self._runs() if run.pipeline == MONITORING and run.state is RunState.done)
        with self._lock:
            again = self._read.unread and time.monotonic() > self._read.at + AGAIN_SECONDS
            if ended != self._read.after or again:
                try:
                    self._read = Windows(ended, self._history(), time.monotonic())
                except (ModuleFailed, EnvironmentMissing) as error:
                    self._read = Windows(ended, self._read.told, time.monotonic(), str(error))
            return self._read

    def _page(self, windows: Windows) -> Path | None:
        """Of the newest window, where a run of it left one on this machine."""
        if not windows.told:
            return None
        known = {run.id for run in self._runs()}
        for run in known.intersection(windows.told[0].record.runs):
            for item in self._backend.artifacts(run):
                if (item.step, item.name) == PAGE and Path(item.uri).is_file():
                    return Path(item.uri)
        return None


def _verdict_of(window: ToldWindow) -> MonitoringVerdict:
    record, done = window.record, window.done
    what = "" if done.state == "nothing to do" else f"{done.state}, {done.sentence}"
    return MonitoringVerdict(record.verdict, record.sentence, record.end, record.version, what)


def _schedules(configuration: Configuration) -> Mapping[str, Schedule]:
    schedules = configuration.schedules
    found = {name: getattr(schedules, name) for name in type(schedules).model_fields}
    return {name: schedule for name, schedule in found.items() if schedule is not None}


def _figures(artifacts: Sequence[RunArtifact]) -> dict[str, float]:
    """The numbers of a run's Metrics artifacts, as the steps call them."""
    return {
        name: float(value)
        for artifact in artifacts
        if artifact.name == "metrics"
        for name, value in artifact.metadata.items()
        if _is_number(value) and name not in StepRecord.model_fields
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _served(model: str, version: str, url: str, healthy: bool) -> str:
    return (
        f"{model} version {version} answers at {url}"
        if healthy
        else (f"{model} version {version} does not answer at {url}: `lifecycle serve` starts it")
    )


def _told(event: Event) -> str:
    over = f" over {event.champion}" if event.champion else ""
    why = f": {event.why}" if event.why else ""
    return f"{event.model} version {event.version}{over} {event.outcome}{why}"
