"""A real Prometheus and Alertmanager for tests, who is told by them, and a target whose runs are known."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_release import ROOT

from kfp_lifecycle.backends.backend import RunArtifact, RunSummary
from kfp_lifecycle.monitoring.alert_rules import inhibitions
from kfp_lifecycle.monitoring.history import WindowRecord
from kfp_lifecycle.monitoring.resolution import resolutions
from kfp_lifecycle.monitoring.told_windows import ToldWindow
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.client import Client
from tests.served import served

PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
needs_prometheus = pytest.mark.skipif(
    any(shutil.which(program) is None for program in (PROMETHEUS, ALERTMANAGER)),
    reason=f"needs {PROMETHEUS} and {ALERTMANAGER}: apt-get install {PROMETHEUS} {ALERTMANAGER}",
)

MOVED = "Outcomes are 1.7 times as many as foretold since 2026-10-05."


class Runs:
    """A target whose runs ended: a training, and a monitoring run that found something."""

    target = "local"

    def __init__(self, ended: datetime | None = None) -> None:
        self.ended = ended or datetime.now(UTC) - timedelta(hours=1)
        self.names: tuple[str, ...] = ("monitoring-2", "monitoring-1", "training-1")

    def runs(self, limit: int) -> list[RunSummary]:
        ended, begun = self.ended, self.ended - timedelta(minutes=2)
        return [RunSummary(name, name, name[:-2], "churn", RunState.done, begun, ended) for name in self.names]

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        measured = {"events_observed": 31.0, "events_expected": 18.2, "roc_auc": 0.78, "summary": "31 events"}
        return [RunArtifact("join-outcomes", "metrics", "system.Metrics", "", measured)]


class NoRuns(Runs):
    """A target where nothing ran."""

    def runs(self, limit: int) -> list[RunSummary]:
        return []


def windows() -> list[ToldWindow]:
    """What the history holds of the two monitoring runs, newest first."""
    record = WindowRecord(
        model="churn", version="1", start=datetime(2026, 10, 5, tzinfo=UTC), end=datetime(2026, 10, 12, tzinfo=UTC),
        predictions=900, compared=800, mean_score=0.07, verdict="keep", remedy="nothing",
        sentence="Nothing has happened.", runs=["monitoring-1"],
    )  # fmt: skip
    end = record.end + timedelta(days=7)
    changes = {"verdict": "world moved", "remedy": "retrain", "sentence": MOVED, "end": end, "runs": ["monitoring-2"]}
    moved = record.model_copy(update=changes)
    done = resolutions([record, moved], {}, [])
    return [ToldWindow(moved, done[1]), ToldWindow(record, done[0])]


@contextlib.contextmanager
def program(command: list[str], log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a program until its end is asked for; begins when it is ready."""
    with log.open("w") as written:
        running = subprocess.Popen(
            command, cwd=log.parent, stdout=written, stderr=written, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        )
    try:
        until(lambda: running.poll() is not None or is_ready(), log.name)
        assert running.poll() is None, log.read_text()
        yield
    finally:
        running.terminate()
        running.wait()


class Team:
    """Who is told: a webhook, and what came there."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        """Alerts as Alertmanager sends them, in the order in which they came."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[str]:
        """Listen; gives the address."""
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.extend(json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with served(Handler) as url:
            yield url

    def of(self, alert: str) -> list[dict[str, Any]]:
        """All that came of an alert."""
        return [came for came in self.told if came["labels"]["alertname"] == alert]

    def states(self, alert: str) -> list[str]:
        """What was told of an alert: `firing`, `resolved` and so on."""
        return [came["status"] for came in self.of(alert)]

    def waits_for(self, *alerts: str, status: str = "firing") -> None:
        """Wait until that is what was last told of alerts."""
        for alert in alerts:
            until(lambda name=alert: self.states(name)[-1:] == [status], f"{alert} {status}")  # type: ignore[misc]


@contextlib.contextmanager
def alertmanager(folder: Path, port: int, team: str) -> Iterator[None]:
    """An Alertmanager that tells a webhook, by this library's rules of inhibition."""
    configuration = {
        "route": {"receiver": "team", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "team", "webhook_configs": [{"url": team, "send_resolved": True}]}],
        "inhibit_rules": inhibitions(),
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    command = [ALERTMANAGER, "--config.file=alertmanager.yml", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--storage.path=told", "--cluster.listen-address="]
    with program(command, folder / "alertmanager.log", lambda: answers_ok(port, "/-/ready")):
        yield


def inhibited(port: int, alert: str) -> set[str]:
    """The alerts for whose sake an Alertmanager keeps an alert to itself."""
    with Client(port) as client:
        known = client.get("/api/v2/alerts").json()
    names = {each["fingerprint"]: each["labels"]["alertname"] for each in known}
    return {names[by] for each in known if each["labels"]["alertname"] == alert for by in each["status"]["inhibitedBy"]}


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def answers_ok(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), Client(port) as client:
        return client.get(path).status == 200
    return False
