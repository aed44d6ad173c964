"""The alerts of a real server, by a real Prometheus and Alertmanager, up to the webhook that a team listens at.

Times are a sixtieth of what `lifecycle alerts` writes, so that a minute passes in a second; all else is as written.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.alert_rules import alert_rules, inhibitions
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.ports import free_ports
from tests.served import served

PROGRAMS = ("prometheus", "prometheus-alertmanager")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in PROGRAMS),
        reason=f"needs {' and '.join(PROGRAMS)}, Debian's packages",
    ),
]

# What any request is slower than, and a mean score that no request here comes near.
THRESHOLDS = Alerts(
    max_latency_p95_ms=0.001,
    max_score_change=0.5,
    min_predictions_per_second=5,
    min_window=20,
    max_model_age_days=0,
)
EXPECTED_SCORE = 0.9
ROW = {"inputs": [{"name": "temperature", "datatype": "FP64", "shape": [1], "data": [1.0]},
                  {"name": "site", "datatype": "BYTES", "shape": [1], "data": ["north"]}]}  # fmt: skip


def a_minute_in_a_second(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with each of their times divided by 60."""
    text = re.sub(r"\[(\d+)m\]", r"[\1s]", yaml.safe_dump(rules, width=1000)).replace("[1h]", "[1m]")
    found: dict[str, Any] = yaml.safe_load(re.sub(r"for: (\d+)m", r"for: \1s", text))
    return found


class Team:
    """Who is told: a webhook, and what came there of each alert."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        """Names of alerts with `firing` or `resolved`, in the order in which they came."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[str]:
        """Listen; gives the address."""
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.extend((alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with served(Handler) as url:
            yield url

    def hears(self, alert: str, status: str) -> bool:
        """Whether the last that came of an alert is this."""
        return next((came for name, came in reversed(self.told) if name == alert), None) == status


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait for something; fails when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@contextlib.contextmanager
def program(command: list[object], port: int, folder: Path) -> Iterator[None]:
    """Run a server until it is ready, and end it."""
    log = folder / f"{port}.log"
    with log.open("w") as written:
        running = subprocess.Popen([str(part) for part in command], cwd=folder, stdout=written, stderr=written)
    try:

        def ready() -> bool:
            assert running.poll() is None, log.read_text()
            with contextlib.suppress(OSError), Client(port) as client:
                return client.get("/-/ready").status == 200
            return False

        until(ready, log.name)
        yield
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def alerting(folder: Path, metrics_port: int, team: str) -> Iterator[None]:
    """Prometheus with this library's rules, and Alertmanager that tells the team."""
    prometheus, alertmanager = free_ports(2)
    files = {
        "rules.yaml": a_minute_in_a_second(alert_rules(THRESHOLDS)),
        "prometheus.yaml": {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
            "rule_files": ["rules.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
            "scrape_configs": [
                {"job_name": "models", "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}]}
            ],
        },
        "alertmanager.yaml": {
            "route": {"receiver": "team", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
            "receivers": [{"name": "team", "webhook_configs": [{"url": team, "send_resolved": True}]}],
            "inhibit_rules": inhibitions(),
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, width=1000))
    told = [
        "prometheus-alertmanager",
        "--config.file=alertmanager.yaml",
        f"--web.listen-address=127.0.0.1:{alertmanager}",
    ]
    told += ["--storage.path=told", "--cluster.listen-address="]
    looking = ["prometheus", "--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{prometheus}"]
    looking += ["--storage.tsdb.path=series", "--rules.alert.resend-delay=1s"]
    with program(list(told), alertmanager, folder), program(list(looking), prometheus, folder):
        yield


@contextlib.contextmanager
def asking(port: int) -> Iterator[None]:
    """Somebody who asks ten times a second and more."""
    stopped = threading.Event()

    def ask() -> None:
        with Client(port) as client:
            while not stopped.wait(0.05):
                assert client.post("/v2/models/devices/infer", ROW).status == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_alerts_fire_and_resolve_and_a_server_that_is_gone_is_told_alone(model: Path, tmp_path: Path) -> None:
    known = shutil.copytree(model, tmp_path / "devices")
    described = json.loads((known / "model.json").read_text())
    (known / "model.json").write_text(json.dumps(described | {"expected_score": EXPECTED_SCORE}))
    first, second = (TrialServer(known, "devices", "1", tmp_path / "log") for _ in range(2))
    second.http_port = first.http_port
    team = Team()
    with team.listening() as address, alerting(tmp_path, first.http_port, address):
        with first:
            with asking(first.http_port):
                until(lambda: team.hears("PredictionsSlow", "firing"), "told of slow answers")
                until(lambda: team.hears("ScoresMoved", "firing"), "told of scores that moved")
                assert not team.hears("PredictionsFew", "firing")
            until(lambda: team.hears("PredictionsSlow", "resolved"), "told that nothing is slow any more")
            until(lambda: team.hears("PredictionsFew", "firing"), "told of few predictions")
            with asking(first.http_port):
                until(lambda: team.hears("PredictionsFew", "resolved"), "told that enough is asked")
        until(lambda: team.hears("ModelServerDown", "firing"), "told that the server is gone")
        with second:
            until(lambda: team.hears("ModelServerDown", "resolved"), "told that it is back")
    assert {name for name, _ in team.told} == {"PredictionsSlow", "ScoresMoved", "PredictionsFew", "ModelServerDown"}
