"""What the dashboard knows beside metrics: runs and what monitoring found in them, releases, what is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.step_record import StepRecord
from kfp_lifecycle.backends.backend import Backend, RunArtifact, RunSummary
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.monitoring.dashboards.lifecycle_metrics import LifecycleMetrics, PipelineRun, Project
from kfp_lifecycle.monitoring.dashboards.page import MonitoringVerdict, ReleaseMark, Standing
from kfp_lifecycle.monitoring.scrape_targets import Target, targets
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.release.local.history import Event, read_history
from kfp_lifecycle.serving.release.local.operations import endpoints
from kfp_lifecycle.serving.release.local.state import read_releases

MONITORING, TRAINING = "monitoring", "training"
# What of the newest runs is looked at.
RUNS = 200
VERDICTS = 8
# Step and artifact that are the page of a monitoring run.
PAGE = ("decide-remedy", "report")
NO_PAGE = "<title>Monitoring</title><p>No page of a monitoring run lies on this machine."


class Known:
    """What is known of one project at its target."""

    def __init__(self, configuration: Configuration, backend: Backend, serving: Path | None) -> None:
        """Name the places.

        Args:
            configuration: The project.
            backend: Where its pipelines run.
            serving: The serving folder of this machine; None where models are served elsewhere.
        """
        self._configuration, self._backend, self._serving = configuration, backend, serving
        # A run that ended stays as it is.
        self._known: dict[str, MonitoringVerdict | None] = {}

    def standing(self) -> Standing:
        """For the page."""
        served = endpoints(self._serving) if self._serving else []
        return Standing(
            project=self._configuration.name,
            served=[_served(each.model, each.version, each.url, each.healthy) for each in served],
            verdicts=self._verdicts(),
            releases=[ReleaseMark(datetime.fromisoformat(event.at), _told(event)) for event in self._events()[::-1]],
        )

    def metrics(self) -> LifecycleMetrics:
        """For Prometheus."""
        runs = self._runs()
        return LifecycleMetrics([self._project(runs)], self._events(), datetime.now(UTC))

    def monitoring_page(self) -> str:
        """The page of the newest monitoring run."""
        newest = next(iter(self._verdicts()), None)
        if newest is None or newest.page is None:
            return NO_PAGE
        return newest.page.read_text("utf-8")

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

    def _verdicts(self) -> list[MonitoringVerdict]:
        """Of the newest monitoring runs that came to one."""
        done = [run for run in self._runs() if run.pipeline == MONITORING and run.state is RunState.done]
        found = [self._verdict_of(run) for run in done[:VERDICTS]]
        return [verdict for verdict in found if verdict is not None]

    def _verdict_of(self, run: RunSummary) -> MonitoringVerdict | None:
        if run.id not in self._known:
            left = self._backend.artifacts(run.id)
            said = next((item.metadata for item in left if item.name == "remedy"), None)
            pages = [Path(item.uri) for item in left if (item.step, item.name) == PAGE]
            ended = run.finished_at
            self._known[run.id] = (
                None
                if said is None or ended is None
                else MonitoringVerdict(
                    str(said["verdict"]),
                    str(said["sentence"]),
                    ended,
                    run.name,
                    next((page for page in pages if page.is_file()), None),
                )
            )
        return self._known[run.id]


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
