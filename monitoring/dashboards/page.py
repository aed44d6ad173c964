"""The dashboard's page: verdict, alerts, and every panel as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from kfp_lifecycle.artifacts.titles import Titles, title_of
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.dashboards.drawing import Plot, plot
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Dashboard
from kfp_lifecycle.monitoring.dashboards.sources import Alert, Source, SourceError
from kfp_lifecycle.reports.templates import templates

TEMPLATE = "dashboard.html.j2"
PARTS = "dashboard_parts.html.j2"
# Tones of the verdict's box, by the words of `decide_remedy`.
TONES = {"keep": "done", "undecided": "warning", "world moved": "warning", "broken data": "failed"}


@dataclass(frozen=True)
class MonitoringVerdict:
    """What monitoring found in a window."""

    verdict: str
    sentence: str
    end: datetime
    """Of the window."""
    version: str
    """That it is judged by."""
    done: str = ""
    """What was done about it; empty where nothing is to do."""

    @property
    def tone(self) -> str:
        """How it is coloured."""
        return TONES.get(self.verdict, "failed")


@dataclass(frozen=True)
class ReleaseMark:
    """A release as it is marked on the plots."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Standing:
    """What is shown beside the plots."""

    project: str
    served: Sequence[str]
    """Each model with its version and address."""
    verdicts: Sequence[MonitoringVerdict]
    """Of the newest windows, newest first."""
    releases: Sequence[ReleaseMark]
    """Newest first."""
    page: Path | None = None
    """That of the newest window, where it lies on this machine."""
    unread: str = ""
    """Why the history of windows cannot be read; empty where it can."""
    titles: Titles = field(default_factory=dict)
    """What people call features whose name is another one."""


def page(standing: Standing, source: Source, alerts: Alerts, seconds: int) -> str:
    """The whole page, which asks for its parts again every so many seconds."""
    return (
        templates(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(_shown(standing, source, alerts), seconds=seconds)
    )


def parts(standing: Standing, source: Source, alerts: Alerts) -> str:
    """What changes on it."""
    return templates(Path(__file__).parent).get_template(PARTS).render(_shown(standing, source, alerts))


def _shown(standing: Standing, source: Source, alerts: Alerts) -> dict[str, object]:
    marks = [(release.at.timestamp(), release.text) for release in standing.releases]
    trouble, told, shown = "", None, []
    try:
        told = source.alerts()
        shown = [(dashboard, _plots(dashboard, source, alerts, marks, standing.titles)) for dashboard in DASHBOARDS]
    except SourceError as error:
        trouble = str(error)
    firing: list[Alert] = sorted(told or [], key=lambda alert: (alert.state != "firing", alert.name))
    return {
        "standing": standing,
        "source": source.name,
        "trouble": trouble,
        "judged": told is not None,
        "alerts": firing,
        "dashboards": shown,
    }


def _plots(
    dashboard: Dashboard, source: Source, alerts: Alerts, releases: Sequence[tuple[float, str]], titles: Titles
) -> list[Plot]:
    return [
        plot(
            panel,
            [replace(line, legend=title_of(line.legend, titles)) for line in source.lines(panel)],
            float(getattr(alerts, panel.limit)) if panel.limit else None,
            releases,
        )
        for panel in dashboard.panels
    ]
