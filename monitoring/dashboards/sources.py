"""Where the lines of a panel come from: Prometheus where one runs, else what was read from servers and fronts here."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Panel, Shown
from kfp_lifecycle.monitoring.dashboards.queries import WINDOW_SECONDS, Labels, Read, Values, metric_of
from kfp_lifecycle.monitoring.scrape_targets import OWN, SERVERS, Target
from kfp_lifecycle.serving.ports import LOOPBACK

KEPT_SECONDS = 3600
# How many points a line has over that time.
POINTS = 180
TIMEOUT_SECONDS = 5.0


class SourceError(Exception):
    """What was asked does not answer; the message says what, and what to do."""


@dataclass(frozen=True)
class Line:
    """One line of a panel: its name and its points, oldest first."""

    legend: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Alert:
    """An alert that waits to be told, or was."""

    name: str
    severity: str
    state: str
    """`pending` or `firing`."""
    summary: str
    since: str
    runbook: str


class Source(Protocol):
    """Who answers queries."""

    @property
    def name(self) -> str:
        """For the page."""

    def lines(self, panel: Panel) -> list[Line]:
        """The lines of a panel over the last hour.

        Raises:
            SourceError: there is no answer.
        """

    def alerts(self) -> list[Alert] | None:
        """Alerts that are pending or firing; None where nobody judges them.

        Raises:
            SourceError: there is no answer.
        """


class Prometheus:
    """A Prometheus that reads what `lifecycle alerts --for prometheus-server` says."""

    def __init__(self, url: str) -> None:
        """Name it."""
        self.url = url.rstrip("/")

    @property
    def name(self) -> str:
        """As the protocol says."""
        return f"Prometheus at {self.url}"

    def watches(self) -> bool:
        """Whether it answers, and reads this library's metrics."""
        try:
            return bool(self.instant(f'up{{job=~"{OWN}|{SERVERS}"}} or prediction_score_expected'))
        except SourceError:
            return False

    def instant(self, promql: str, at: float | None = None) -> list[dict[str, Any]]:
        """The answer to a query as of a moment, or now.

        Raises:
            SourceError: there is none.
        """
        moment = {} if at is None else {"time": at}
        found: list[dict[str, Any]] = self._asked("query", {"query": promql, **moment})["result"]
        return found

    def lines(self, panel: Panel) -> list[Line]:
        """As the protocol says."""
        end = time.time()
        step = KEPT_SECONDS // POINTS
        found = []
        for shown in panel.shown:
            asked = {"query": shown.query.promql(), "start": end - KEPT_SECONDS, "end": end, "step": step}
            for series in self._asked("query_range", asked)["result"]:
                points = [(at, float(value)) for at, value in series["values"]]
                labels = tuple(sorted(series["metric"].items()))
                found.append(_line(shown, labels, points))
        return [line for line in found if line.points]

    def alerts(self) -> list[Alert] | None:
        """As the protocol says."""
        return [
            Alert(
                name=alert["labels"]["alertname"],
                severity=alert["labels"].get("severity", ""),
                state=alert["state"],
                summary=alert["annotations"].get("summary", ""),
                since=alert["activeAt"],
                runbook=alert["annotations"].get("runbook_url", ""),
            )
            for alert in self._asked("alerts", {})["alerts"]
        ]

    def _asked(self, what: str, parameters: Mapping[str, Any]) -> Any:
        try:
            answer = httpx.get(f"{self.url}/api/v1/{what}", params=dict(parameters), timeout=TIMEOUT_SECONDS)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise SourceError(
                f"Prometheus at {self.url} does not answer ({type(error).__name__}): start it, or name another with "
                "--prometheus"
            ) from error
        if content["status"] != "success":
            raise SourceError(f"Prometheus at {self.url} refuses the question: {content['error']}")
        return content["data"]


class OwnMemory:
    """The last hour of what servers and fronts say, read every few seconds and gone with this process."""

    name = "this page's own memory, of the last hour at most, since no Prometheus was found"

    def __init__(self, targets: Callable[[], Sequence[Target]], own: Callable[[], Collector], every: float) -> None:
        """Begin with nothing.

        Args:
            targets: What there is to read now.
            own: The metrics of runs and releases as they are now.
            every: Seconds between two looks.
        """
        self._targets, self._own, self._every = targets, own, every
        self._read: deque[Read] = deque()
        self._known: dict[Shown, deque[tuple[float, Values]]] = {
            shown: deque(maxlen=max(2, round(KEPT_SECONDS / every))) for shown in _all_shown()
        }
        self._lock = threading.Lock()

    def look(self) -> None:
        """Read everything once, and answer every query as of now."""
        at = time.time()
        series: dict[str, dict[Labels, float]] = {}
        _add(series, generate_latest(_AsRegistry(self._own())).decode(), {"job": OWN})
        for target in self._targets():
            try:
                answer = httpx.get(f"http://{LOOPBACK}:{target.port}{target.path}", timeout=TIMEOUT_SECONDS)
            except httpx.HTTPError:
                # That it is gone shows: its lines end.
                continue
            if answer.status_code == httpx.codes.OK:
                _add(series, answer.text, {**dict(target.labels), "job": target.kind, "instance": str(target.port)})
        self._read.append(Read(at, series))
        while self._read[0].at < at - WINDOW_SECONDS:
            self._read.popleft()
        read = list(self._read)
        with self._lock:
            for shown, known in self._known.items():
                known.append((at, shown.query.answer(read)))

    def watch(self, stopped: threading.Event) -> None:
        """Look again and again, until the end."""
        while not stopped.wait(self._every):
            self.look()

    def lines(self, panel: Panel) -> list[Line]:
        """As the protocol says."""
        with self._lock:
            known = {shown: list(self._known[shown]) for shown in panel.shown}
        return [
            _line(shown, labels, [(at, values[labels]) for at, values in moments if labels in values])
            for shown, moments in known.items()
            for labels in sorted({labels for _, values in moments for labels in values})
        ]

    def alerts(self) -> list[Alert] | None:
        """As the protocol says: rules are Prometheus's to judge."""
        return None


@dataclass(frozen=True)
class _AsRegistry:
    """A collector as what `generate_latest` takes."""

    collector: Collector

    def collect(self) -> Iterable[Any]:
        return self.collector.collect()


def _all_shown() -> list[Shown]:
    return [shown for dashboard in DASHBOARDS for panel in dashboard.panels for shown in panel.shown]


WANTED = frozenset(metric_of(selector) for shown in _all_shown() for selector in shown.query.selectors)


def _add(series: dict[str, dict[Labels, float]], text: str, of_target: Mapping[str, str]) -> None:
    """Take in what a target says, with the target's labels where it has none of its own."""
    lines = [line for line in text.splitlines() if re.split(r"[{ ]", line, maxsplit=1)[0] in WANTED]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            labels = tuple(sorted({**of_target, **sample.labels}.items()))
            series.setdefault(sample.name, {})[labels] = float(sample.value)


def _line(shown: Shown, labels: Labels, points: Sequence[tuple[float, float]]) -> Line:
    known = dict(labels)
    legend = re.sub(r"\{\{(\w+)\}\}", lambda label: known.get(label[1], ""), shown.legend).strip()
    return Line(legend, [(at, value) for at, value in points if math.isfinite(value)])
