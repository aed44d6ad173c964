"""Prometheus metrics of what no server knows: when pipelines ran and were due, what monitoring measured, releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.states import RUN_FINISHED, RunState
from kfp_lifecycle.serving.release.local.history import Event

# A run that was due longer ago is overdue since then, however long nobody has looked.
LOOKED_BACK = timedelta(days=31)


@dataclass(frozen=True)
class PipelineRun:
    """A run that ended."""

    pipeline: str
    state: RunState
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class Project:
    """What is known of a project at a moment."""

    name: str
    runs: Sequence[PipelineRun] = ()
    """Newest first."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """Of those pipelines that have one."""
    serving_since: datetime | None = None
    """When its first model was released; nothing is due before."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the newest monitoring run measured."""


def overdue_since(schedule: Schedule, runs: Iterable[PipelineRun], since: datetime, now: datetime) -> datetime | None:
    """The first moment at which a pipeline was due, and after which none of its runs came to a good end."""
    good = [run.started_at for run in runs if run.state is RunState.done]
    # A schedule starts some seconds late; a person may have started it a little earlier.
    begin = max([since, *good])
    due = schedule.between(max(begin, now - LOOKED_BACK), now)
    return next((moment for moment in due if moment > begin), None)


class LifecycleMetrics(Collector):
    """The metrics of a moment."""

    def __init__(self, projects: Sequence[Project], events: Sequence[Event], now: datetime) -> None:
        """Note what is known.

        Args:
            projects: Projects with their runs.
            events: The release history, oldest first.
            now: The moment.
        """
        self._projects, self._events, self._now = projects, events, now

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """As Prometheus reads them."""
        finished = GaugeMetricFamily(
            RUN_FINISHED,
            "Time (Unix) at which the newest run of a pipeline that ended so ended",
            labels=["project", "pipeline", "state"],
        )
        overdue = GaugeMetricFamily(
            "lifecycle_run_overdue_since_seconds",
            "Time (Unix) at which a pipeline was due by its schedule, and has not run to a good end since",
            labels=["project", "pipeline"],
        )
        figures = GaugeMetricFamily(
            "lifecycle_monitoring", "Key figures of the newest monitoring run", labels=["project", "figure"]
        )
        for project in self._projects:
            newest: dict[tuple[str, str], datetime] = {}
            for run in project.runs:
                newest.setdefault((run.pipeline, run.state.value), run.finished_at)
            for (pipeline, state), at in newest.items():
                finished.add_metric([project.name, pipeline, state], at.timestamp())
            for pipeline, schedule in project.schedules.items():
                if project.serving_since is not None:
                    runs = [run for run in project.runs if run.pipeline == pipeline]
                    since = overdue_since(schedule, runs, project.serving_since, self._now)
                    if since is not None:
                        overdue.add_metric([project.name, pipeline], since.timestamp())
            for figure, value in project.figures.items():
                figures.add_metric([project.name, figure], value)
        return [finished, overdue, figures, self._releases()]

    def _releases(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "lifecycle_release_seconds",
            "Time (Unix) of the newest event of each kind in a model's release history",
            labels=["model_name", "outcome"],
        )
        newest = {(event.model, event.outcome): event.at for event in self._events}
        for (model, outcome), at in newest.items():
            family.add_metric([model, outcome], datetime.fromisoformat(at).timestamp())
        return family
