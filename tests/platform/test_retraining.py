"""Monitoring starts the training pipeline by the target's own client, once for each window and reason."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler
from small_pipeline import asking, ended, retrained
from test_processes_and_state import living, wait_for
from test_retraining_policy import remedy

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.remedy import RemedyName
from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
from kfp_lifecycle.audit.author import author
from kfp_lifecycle.audit.record import entries_of, file_of, open_record
from kfp_lifecycle.backends.backend import ClusterBackend, NotThere, Submission
from kfp_lifecycle.backends.retraining import Asking, ask, newest_look, obstacle_to, request_of, submit
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.cli.retraining import record_approval
from kfp_lifecycle.compilation.parameters import read_parameters
from kfp_lifecycle.compilation.pipeline import cluster_target, compile_pipeline
from kfp_lifecycle.compilation.training_pipeline import COMPILED, NAME, read_target, training_files
from kfp_lifecycle.components.monitoring.trigger_retraining.request import ask_for_retraining
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.retraining import Retraining
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState
from tests.control_planes.kubeflow import Fault, KubeflowStandIn
from tests.control_planes.object_store import object_store
from tests.control_planes.stand_in import StandIn
from tests.control_planes.vertex import VertexStandIn

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

NOW = datetime.now(UTC).replace(microsecond=0)


def asked(**changes: Any) -> RetrainingRequest:
    """A request that waits for a person."""
    plain = RetrainingRequest(
        project="shop",
        model="shop",
        version="3",
        verdict="world moved",
        reason="logins has drifted.",
        since=None,
        start=NOW - timedelta(days=7),
        end=NOW,
        action="ask",
        decision="It waits.",
        requested_at=NOW,
        asked_by="monitoring-1",
        run="retraining-20261101-060500-0a1b2c3d",
        run_id="",
    )
    return plain.model_copy(update=changes)


@dataclass(frozen=True)
class Step:
    """The step that asks, as it stands in a pod: a folder, what it was given, and the cluster around it."""

    folder: Path
    target: TargetName
    server: StandIn
    backend: ClusterBackend

    def given(self, end: datetime = NOW, **policy: Any) -> Asking:
        """What it is given for a window that ended then."""
        remedy(end).write(self.folder / "remedy.json")
        return Asking(
            policy=Retraining(**policy),
            remedy=self.folder / "remedy.json",
            training_pipeline=self.folder / NAME,
            request=self.folder / "request.json",
            asked_by={"kubeflow": "monitoring-id", "vertex": "monitoring-name"},
        )

    def asks(self) -> RetrainingRequest:
        """Ask as the component does, in a process of its own."""
        given = self.given()
        return ask_for_retraining(given.model_dump_json(), given.remedy, given.request)


@pytest.fixture(params=["kubeflow", "vertex"])
def step(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Step]:
    target: TargetName = request.param
    kind: type[StandIn] = {"kubeflow": KubeflowStandIn, "vertex": VertexStandIn}[target]
    compiler.Compiler().compile(retrained, str(tmp_path / "training.yaml"))
    with kind(tmp_path / target) as server:
        project = load_configuration(ROOT, ["name=shop", f"targets.{target}.endpoint={server.url}"])
        files = training_files("shop", target, cluster_target(project, target), tmp_path / "training.yaml")
        (tmp_path / NAME).mkdir()
        for name, content in files.items():
            (tmp_path / NAME / name).write_bytes(content)
        yield Step(tmp_path, target, server, backend_of(project, target))


@pytest.mark.slow
def test_a_step_starts_the_training_once_and_the_run_knows_who_asked(step: Step) -> None:
    request = step.asks()
    assert (request.action, request.asked_by) == (
        "start",
        f"monitoring-{'id' if step.target == 'kubeflow' else 'name'}",
    )
    run = ended(step.backend, request.run_id)
    assert (run.summary.name, run.summary.pipeline, run.summary.project) == (request.run, "training", "shop")
    # What a candidate's rejection is told by.
    assert run.summary.state is RunState.rejected

    again = ask(step.given(), NOW)
    assert (again.action, again.run, again.run_id) == ("hold", request.run, "")
    assert f"{request.run} already, which is rejected" in again.decision
    # The next day's window finds the same: it did not help, and nothing new is known.
    later = ask(step.given(NOW + timedelta(days=1), cool_down_days=0), NOW)
    assert later.action == "hold"
    assert "rejected for the same reason" in later.decision
    assert [each.name for each in step.backend.runs(10)] == [request.run]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["kubeflow"], indirect=True)
def test_a_target_that_refuses_fails_the_step_in_plain_words(step: Step) -> None:
    step.server.order(Fault(method="POST", path="/runs$", status=403))
    with pytest.raises(ContractViolation, match=r"is due could not be started: this account may not start the run"):
        step.asks()
    assert not (step.folder / "request.json").exists()


# As `lifecycle run monitoring` does when its run has ended.
STARTS = """
import os, signal
from kfp_lifecycle.cli.console import CommandConsole
from kfp_lifecycle.cli.outcome import describe_outcome
from kfp_lifecycle.cli.retraining import start_what_was_asked_for
from kfp_lifecycle.local.run_records import all_runs

(record,) = all_runs()
describe_outcome(CommandConsole(width=200), record, start_what_was_asked_for(record))
assert start_what_was_asked_for(record) is None, "a request starts one run"
# As a terminal that is closed.
os.killpg(0, signal.SIGHUP)
"""


def asks_here(state: Path, request: RetrainingRequest) -> None:
    """Write down a run of monitoring that asks for a training."""
    folder = state / "runs" / request.asked_by
    folder.mkdir(parents=True)
    request.write(folder / "request.json")
    run = {
        "id": request.asked_by,
        "pipeline": "monitoring",
        "project": "churn",
        "project_folder": str(ROOT),
        "overrides": ["source.url=duckdb:///nowhere.duckdb"],
        "state": "done",
        "number": 1,
        "started_at": NOW.isoformat(),
        "finished_at": NOW.isoformat(),
    }
    (folder / "run.json").write_text(json.dumps(run))
    metadata = {"request": {"path": str(folder / "request.json"), "metadata": request.metadata()}}
    done = {"step": "trigger-retraining", "state": "done", "time": NOW.isoformat(), "artifacts": metadata}
    (folder / "events.jsonl").write_text(f"{json.dumps({'steps': ['trigger-retraining']})}\n{json.dumps(done)}\n")


@pytest.mark.slow
def test_on_this_machine_the_run_is_one_of_its_own_that_outlives_who_started_it(tmp_path: Path) -> None:
    state = tmp_path / "a folder" / ".lifecycle"
    state.mkdir(parents=True)
    (state / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    decision = "The training pipeline is started."
    request = asked(since=date(2025, 11, 2), action="start", decision=decision, project="churn")
    asks_here(state, request)
    here: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "LIFECYCLE_STATE": str(state)}, "text": True}
    with exclusive_lock(state):
        # A run is at work: nothing waits for it but the new run.
        command = [sys.executable, "-c", STARTS]
        said = subprocess.run(command, capture_output=True, start_new_session=True, check=False, **here)
        assert (said.returncode, said.stderr) == (-signal.SIGHUP, "")
    assert decision in said.stdout.splitlines()
    assert f"Training:   lifecycle watch {request.run}" in said.stdout
    record = wait_for(lambda: next((run for run in records(state, request.run) if run["finished_at"]), None))
    assert record["parameters"] == ["asked_by=monitoring-1", "since=2025-11-02"]
    # There is nothing to learn from, as it was told.
    assert (record["pipeline"], record["state"], record["failed_step"]) == ("training", "failed", "ingest-data")
    wait_for(lambda: not living(record["process"]))

    words = ["trigger", "approve", "--target", "local", "--project", str(ROOT), "--json"]
    command = [sys.executable, "-m", "kfp_lifecycle.cli", *words]
    again = subprocess.run(command, capture_output=True, check=False, **here)
    told = {"run": record["id"], "state": "failed", "started": False, "reason": "logins has drifted."}
    assert json.loads(again.stdout) == told, again.stderr


MEASURED = Adjustment(
    remedy="recalibrate",
    version="3",
    hazard_ratio=1.8,
    threshold=0.1,
    since=datetime(2025, 11, 2, tzinfo=UTC),
    until=datetime(2025, 11, 16, tzinfo=UTC),
    observed=33,
    expected=18.0,
    entities=400,
    gain=Metric(900, 300, 1500, 400),
    currency="USD",
)


@pytest.mark.parametrize(
    ("remedy_asked", "measured", "given"),
    [
        ("retrain", False, {"since": "2025-11-02"}),
        ("recalibrate", False, {"since": "2025-11-02", "remedy": "recalibrate"}),
        ("set the threshold", False, {"since": "2025-11-02", "remedy": "set the threshold"}),
        # It finds in the history of windows what monitoring measured, and is fitted on no labelled row.
        ("recalibrate", True, {"remedy": "recalibrate"}),
    ],
)
def test_a_run_is_told_what_to_make_anew_by_whatever_way_it_starts(
    tmp_path: Path, remedy_asked: RemedyName, measured: bool, given: dict[str, str]
) -> None:
    """The parameters of a request are what the automatic start, a person's approval and a cluster's client give."""
    since = datetime(2025, 11, 2, tzinfo=UTC)
    adjustment = MEASURED if measured else None
    remedy(NOW, remedy=remedy_asked, since=since, adjustment=adjustment).write(tmp_path / "remedy.json")
    (tmp_path / NAME).mkdir()
    for name, content in training_files("shop", "local").items():
        (tmp_path / NAME / name).write_bytes(content)
    asking = Asking(
        policy=Retraining(),
        remedy=tmp_path / "remedy.json",
        training_pipeline=tmp_path / NAME,
        request=tmp_path / "request.json",
        asked_by={"local": "monitoring-1"},
    )
    request = ask(asking, NOW)
    assert (request.action, request.remedy) == ("start", remedy_asked)
    assert request.parameters == {"asked_by": "monitoring-1"} | given
    declared = compile_pipeline("training", "local", ROOT, tmp_path / "training.yaml")
    read = [f"{name}={value}" for name, value in request.parameters.items()]
    assert read_parameters("training", declared.parameters, read, load_configuration(ROOT)) == request.parameters


@contextmanager
def exclusive_lock(state: Path) -> Iterator[None]:
    """The lock of a state folder, as a run holds it."""
    with (state / "lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def records(state: Path, name: str) -> list[dict[str, Any]]:
    """The runs of a name."""
    found = [json.loads(file.read_text("utf-8")) for file in state.glob("runs/*/run.json")]
    return [run for run in found if run.get("name") == name]


@pytest.mark.slow
def test_a_person_approves_what_a_run_of_monitoring_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked()
    for pipeline in (asking, retrained):
        compiler.Compiler().compile(pipeline, str(tmp_path / f"{pipeline.name}.yaml"))
    with KubeflowStandIn(tmp_path / "kubeflow") as server, object_store(server.objects) as store:
        for name, value in {"ENDPOINT_URL": store, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        settings = load_configuration(ROOT, ["name=shop", f"targets.kubeflow.endpoint={server.url}"])
        backend = backend_of(settings, "kubeflow")
        assert newest_look(backend) is None

        def monitor(name: str, drifted: bool) -> str:
            parameters = {"text": request.model_dump_json(), "drifted": drifted}
            file = tmp_path / "monitoring.yaml"
            run = backend.submit(Submission(file, "monitoring", "shop", name, parameters=parameters))
            ended(backend, run)
            server.clock.advance(seconds=1)
            return run

        asks = monitor("monitoring-1", True)
        # What a backfill finds is past.
        monitor("monitoring-at-20260101-060000", False)
        newest = newest_look(backend)
        assert newest is not None
        assert newest.id == asks
        assert request_of(backend, asks) == request
        assert request_of(backend, monitor("monitoring-2", False)) is None
        with pytest.raises(NotThere):
            request_of(backend, "nowhere")

        assert obstacle_to(backend, request) == ""
        started = submit(backend, tmp_path / "training.yaml", request)
        assert submit(backend, tmp_path / "training.yaml", request) == started
        assert ended(backend, started).summary.name == request.run
        assert "already, which is rejected" in obstacle_to(backend, request)
        assert obstacle_to(backend, request.model_copy(update={"run": "retraining-20261108-060500-0a1b2c3d"})) == ""


def test_who_approved_a_retraining_and_why_is_in_the_record_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kfp_lifecycle.local.state.STATE", tmp_path / "state")
    on_cluster = [f"targets.kubeflow.audit_record={tmp_path / 'record'}"]
    for target, place in (("local", file_of(tmp_path / "state" / "serving")), ("kubeflow", tmp_path / "record")):
        record_approval(asked(), target, ROOT, on_cluster, "the new price list is in force")
        (entry,) = entries_of(open_record(str(place)))
        assert (entry.action, entry.model, entry.version) == ("retraining approved", "shop", "3")
        assert (entry.reason, entry.by) == ("the new price list is in force", author())
        assert entry.details["run"] == asked().run
        assert entry.details["for"] == "logins has drifted."
    # Where nobody keeps a record, nothing is kept.
    record_approval(asked(), "kubeflow", ROOT, [], "")


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_monitoring_is_compiled_with_the_training_that_it_starts(target: TargetName, tmp_path: Path) -> None:
    made = compile_pipeline("monitoring", target, ROOT, tmp_path / "monitoring.yaml")
    uploads = {item.name: item for item in made.uploads}
    folder = tmp_path / NAME
    uploads[NAME].write(tmp_path / "root", made.upload_root)
    (folder,) = (tmp_path / "root" / "definitions").glob(f"*/{NAME}")
    compile_pipeline("training", target, ROOT, tmp_path / "training.yaml")
    assert (folder / COMPILED).read_bytes() == (tmp_path / "training.yaml").read_bytes()
    told = read_target(folder)
    assert (told.project, told.target) == ("churn", target)
    assert getattr(told, target) == getattr(load_configuration(ROOT).targets, target)
    # Archives of environments that only training has.
    assert {"code-serving", "code-modelling"} <= set(uploads)
    assert uploads[NAME].uri in (tmp_path / "monitoring.yaml").read_text("utf-8")


def test_a_project_that_never_retrains_compiles_no_training(tmp_path: Path) -> None:
    made = compile_pipeline(
        "monitoring", "kubeflow", ROOT, tmp_path / "a.yaml", overrides=["monitoring.retraining.mode=off"]
    )
    uploads = {item.name: item for item in made.uploads}
    assert list(uploads[NAME].files) == ["target.json"]
    assert "code-serving" not in uploads
