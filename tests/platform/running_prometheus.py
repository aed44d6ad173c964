"""A real Prometheus for tests, and a target whose runs are known."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from local_release import ROOT

from kfp_lifecycle.backends.backend import RunArtifact, RunSummary
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.client import Client

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)

MOVED = "Outcomes are 1.7 times as many as foretold since 2026-10-05."


class Runs:
    """A target whose runs ended: a training, and a monitoring run that found something."""

    target = "local"

    def runs(self, limit: int) -> list[RunSummary]:
        ended = datetime.now(UTC) - timedelta(hours=1)
        begun = ended - timedelta(minutes=2)
        return [
            RunSummary(name, name, name[:-2], "churn", RunState.done, begun, ended)
            for name in ("monitoring-2", "monitoring-1", "training-1")
        ]

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        measured = {"events_observed": 31.0, "events_expected": 18.2, "roc_auc": 0.78, "summary": "31 events"}
        said = {"verdict": "keep", "sentence": "Nothing has happened."}
        if run_id == "monitoring-2":
            said = {"verdict": "world moved", "sentence": MOVED}
        return [
            RunArtifact("join-outcomes", "metrics", "system.Metrics", "", measured),
            RunArtifact("decide-remedy", "remedy", "system.Artifact", "", said),
        ]


class NoRuns(Runs):
    """A target where nothing ran."""

    def runs(self, limit: int) -> list[RunSummary]:
        return []


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


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def answers_ok(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), Client(port) as client:
        return client.get(path).status == 200
    return False
