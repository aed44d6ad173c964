"""OpenLineage: what a real run tells a real receiver, and that no receiver can do anything to a run."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from openlineage.client import event_v2

from kfp_lifecycle.backends.backend import Backend, RunArtifact, RunStatus, RunSummary
from kfp_lifecycle.cli.lineage_sent import send_lineage
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.local import lineage_events
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.local.lineage_events import LineageEvents
from kfp_lifecycle.runtime.states import RunState, State

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Receiver(http.server.ThreadingHTTPServer):
    """What OpenLineage's client posts to."""

    # A handler that holds its answer back ends with the process.
    daemon_threads = True

    def __init__(self, status: int, held: threading.Event | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.held = status, held
        self.events: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.held is not None:
            self.server.held.wait(60)
        self.server.events.append({"path": self.path, **json.loads(content)})
        self.server.keys.add(self.headers.get("Authorization", ""))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiver(status: int = 201, held: threading.Event | None = None) -> Iterator[Receiver]:
    server = Receiver(status, held)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server
    finally:
        if held is not None:
            held.set()
        server.shutdown()
        serving.join()
        server.server_close()


def as_the_standard_has_it(told: dict[str, Any]) -> event_v2.RunEvent:
    """The event by the client's own types, which refuse what is none."""
    return event_v2.RunEvent(
        eventTime=told["eventTime"],
        producer=told["producer"],
        eventType=event_v2.RunState[told["eventType"]],
        run=event_v2.Run(told["run"]["runId"], told["run"]["facets"]),
        job=event_v2.Job(told["job"]["namespace"], told["job"]["name"], told["job"]["facets"]),
        inputs=[event_v2.InputDataset(item["namespace"], item["name"], item["facets"]) for item in told["inputs"]],
        outputs=[event_v2.OutputDataset(item["namespace"], item["name"], item["facets"]) for item in told["outputs"]],
    )


def run_greeting(folder: Path, url: str, greeting: dict[str, Any]) -> int:
    """`lifecycle run` of the pipeline of greetings."""
    state = folder / ".lifecycle"
    state.mkdir()
    (state / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(HERE)]),
        "LIFECYCLE_STATE": str(state),
        "GREETING": json.dumps(greeting),
        "OPENLINEAGE_API_KEY": "a key",
    }
    command = [sys.executable, str(HERE / "greeting_run.py"), "run", "monitoring", "--project", str(ROOT)]
    return subprocess.run([*command, "--set", f"lineage.url={url}"], cwd=folder, env=variables, check=False).returncode


@pytest.mark.slow
def test_a_run_tells_what_its_steps_read_and_write(tmp_path: Path) -> None:
    with receiver() as server:
        assert run_greeting(tmp_path, server.url, {"name": "Ada", "crash_after": True}) == 1
    assert {told["path"] for told in server.events} == {"/api/v1/lineage"}
    assert server.keys == {"Bearer a key"}
    events = [as_the_standard_has_it(told) for told in server.events]
    jobs = [(event.job.name, event.eventType.value) for event in events]
    assert jobs[0] == ("monitoring", "START")
    assert jobs[-1] == ("monitoring", "FAIL")
    for step, end in (("greet", "COMPLETE"), ("crash", "FAIL"), ("outcome", "COMPLETE")):
        assert jobs.index((f"monitoring.{step}", "START")) < jobs.index((f"monitoring.{step}", end))
    told = {(name, state): event for (name, state), event in zip(jobs, events, strict=True)}
    (written,) = [item.name for item in told["monitoring.greet", "COMPLETE"].outputs if item.name.endswith("greeting")]
    assert [item.name for item in told["monitoring.crash", "START"].inputs] == [written]
    parent = told["monitoring.greet", "START"].run.facets["parent"]
    assert (parent["run"]["runId"], parent["job"]["name"]) == (events[0].run.runId, "monitoring")
    assert "exit code 7" in told["monitoring.crash", "FAIL"].run.facets["errorMessage"]["message"]
    (log,) = tmp_path.glob(".lifecycle/runs/*/logs/lineage.log")
    assert log.read_text() == f"{len(events)} events were sent to {server.url}, 0 were not\n"


STEPS = ("first", "second", "third")


def events_of(url: str, log: Path) -> LineageEvents:
    """A run of three steps, the first of which wrote a version of the data that the second reads."""
    lineage = LineageEvents(url, "churn", "training", "training-1", {"second": ["dataset"]}, log)
    dataset = {"dataset": ("/runs/dataset", {"version": "a7e77a59", "rows": {"customers": 2000.0, "payments": 11.0}})}
    progress = RunProgress({name: StepRecord(name) for name in STEPS})
    for name, step in progress.steps.items():
        step.state = State.running
        lineage.look(progress)
        step.state, step.artifacts = State.done, dict(dataset) if name == "first" else {}
        lineage.look(progress)
    return lineage


def test_versions_and_rows_of_data_are_told(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events_of(file.as_uri(), tmp_path / "log").end(RunState.done, None)
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(event["job"]["name"], event["eventType"]) for event in told] == [
        ("training", "START"),
        *((f"training.{name}", state) for name in STEPS for state in ("START", "COMPLETE")),
        ("training", "COMPLETE"),
    ]
    (output,), (read,) = told[2]["outputs"], told[3]["inputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2011
    assert output["facets"]["version"]["datasetVersion"] == read["facets"]["version"]["datasetVersion"] == "a7e77a59"
    assert told[1]["run"]["runId"] == told[2]["run"]["runId"] != told[3]["run"]["runId"]


class OnCluster:
    """A run that a cluster has ended, as a backend tells it."""

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        metadata = {"rows": {"customers": 3.0}}
        return [RunArtifact("ingest-data", "tables", "Dataset", f"s3://churn/root/{run_id}/tables", metadata)]


def test_a_run_of_a_cluster_is_told_when_it_is_over_with_its_own_times(tmp_path: Path) -> None:
    began = datetime(2026, 11, 1, 6, tzinfo=UTC)
    steps = {
        "ingest-data": StepRecord("ingest-data", State.done, began + timedelta(minutes=1), 60.0),
        "version-dataset": StepRecord(
            "version-dataset", State.failed, began + timedelta(minutes=2), 5.0, reason="full"
        ),
        "validate-data": StepRecord("validate-data"),
    }
    run = RunSummary("run-1", "training-1", "training", "churn", RunState.failed, began, began + timedelta(minutes=3))
    file = tmp_path / "events.jsonl"
    settings = load_configuration(ROOT, [f"lineage.url={file.as_uri()}"])
    for _ in range(2):
        status = RunStatus(run, RunProgress(dict(steps)), "full", "version-dataset")
        send_lineage(cast("Backend", OnCluster()), status, settings, tmp_path / "state" / "lineage.log")
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(event["job"]["name"], event["eventType"], event["eventTime"][11:19]) for event in told[:6]] == [
        ("training", "START", "06:00:00"),
        ("training.ingest-data", "START", "06:01:00"),
        ("training.ingest-data", "COMPLETE", "06:02:00"),
        ("training.version-dataset", "START", "06:02:00"),
        ("training.version-dataset", "FAIL", "06:02:05"),
        ("training", "FAIL", "06:03:00"),
    ]
    # Watched again, it is told in the same words.
    assert told[6:] == told[:6]
    assert told[2]["outputs"][0]["name"] == told[3]["inputs"][0]["name"] == "s3://churn/root/run-1/tables"
    assert told[2]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert told[5]["run"]["facets"]["errorMessage"]["message"] == "full"


def test_a_receiver_that_is_down_is_asked_three_times_and_noted(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound, so that nobody else gets the port, and not listening.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        events_of(f"http://127.0.0.1:{port}", tmp_path / "log").end(RunState.done, None)
    notes = (tmp_path / "log").read_text().splitlines()
    assert [note.partition(" was not taken: ")[0] for note in notes[:3]] == [
        "START of the run",
        "START of first",
        "COMPLETE of first",
    ]
    assert notes[3:] == [f"0 events were sent to http://127.0.0.1:{port}, 8 were not"]


def test_a_receiver_that_refuses_is_noted(tmp_path: Path) -> None:
    with receiver(status=500) as server:
        events_of(server.url, tmp_path / "log").end(RunState.done, None)
    assert len(server.events) == 3
    assert "500" in (tmp_path / "log").read_text()


def test_a_run_does_not_wait_for_a_receiver_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage_events, "LAST_SECONDS", 0.2)
    with receiver(held=threading.Event()) as server:
        events_of(server.url, tmp_path / "log").end(RunState.done, None)
        assert server.events == [], "the run is over, and the receiver has not answered its first event"
        assert "had not taken all events" in (tmp_path / "log").read_text()


def test_without_a_receiver_nothing_is_written(tmp_path: Path) -> None:
    events_of("", tmp_path / "log").end(RunState.done, None)
    assert list(tmp_path.iterdir()) == []
