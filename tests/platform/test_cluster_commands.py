"""`lifecycle … --target kubeflow` as a person types it: from a project's folder to runs that a Kubeflow executes.

The Kubeflow is a stand-in that runs what it is given; beside it stands the object store that code is uploaded to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from test_recurring_runs import FILES, PIPELINE

from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.state_folder import state_folder
from tests.control_planes.kubeflow import KubeflowStandIn
from tests.control_planes.object_store import object_store

pytestmark = pytest.mark.slow

TARGET = """
targets:
  default: kubeflow
  kubeflow:
    endpoint: {url}
    tracking_uri: http://127.0.0.1:9
    dataset_remote: {folder}/datasets
    online_store: {folder}/online.db
    prediction_log: {folder}/predictions
    serving: kserve:library
schedules: {{monitoring: null}}
"""


@dataclass
class Library:
    """A project on a Kubeflow."""

    folder: Path
    server: KubeflowStandIn
    variables: dict[str, str]

    def type(self, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Type a command in the project's folder."""
        command = [sys.executable, "-m", "kfp_lifecycle.cli", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def runs(self) -> set[str]:
        """The ids of the runs there are."""
        return {run["id"] for run in json.loads(self.type("runs", "--json").stdout)}

    def lend(self, loans: int) -> None:
        """Let the source have so many loans. It is replaced at once: a run of before may be reading it."""
        source = self.folder.parent / "library.duckdb"
        with duckdb.connect(str(source)) as connection:
            connection.execute(
                "CREATE TABLE loans AS SELECT i AS loan_id, i % 7 AS reader_id, "
                f"TIMESTAMP '2026-01-01' + INTERVAL 1 HOUR * i AS lent_at FROM range({loans}) AS t(i)"
            )
        source.replace(self.folder / source.name)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("a library")
    kubeflow = folder / "kubeflow"
    with KubeflowStandIn(kubeflow) as server, object_store(server.objects) as store:
        project = folder / "project"
        for name, content in FILES.items():
            file = project / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        text = PIPELINE.replace("SOURCE", str(project / "library.duckdb"))
        (project / "pipeline.yaml").write_text(text + TARGET.format(url=server.url, folder=folder))
        variables = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "LIFECYCLE_STATE": str(state_folder()),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": store,
            "no_proxy": "*",
            "COLUMNS": "200",
        }
        found = Library(project, server, variables)
        found.lend(500)
        yield found


@pytest.fixture(scope="module")
def first(library: Library) -> str:
    """The id of a run of materialization."""
    said = library.type("run", "materialization", "--json")
    run = json.loads(said.stdout)
    assert run["state"] == "done", said.stdout
    return str(run["id"])


def test_one_command_uploads_submits_and_shows_a_run_to_its_end(library: Library, first: str) -> None:
    run = json.loads(library.type("watch", first, "--json").stdout)
    summaries = {step["name"]: step["summary"] for step in run["steps"]}
    assert summaries["ingest-data"] == "500 rows in 1 tables"
    assert summaries["materialize-features"].startswith("7 entities")
    assert {step["state"] for step in run["steps"]} == {"done"}


def test_a_second_run_uploads_nothing_and_takes_over_what_did_not_change(library: Library, first: str) -> None:
    said = library.type("run", "materialization")
    assert "uploading" not in said.stderr
    assert "ingest-data cached" in said.stdout
    assert "fingerprint-source done" in said.stdout


def test_runs_logs_and_exit_codes(library: Library, first: str) -> None:
    assert first in library.type("runs").stdout
    assert "500 rows" in library.type("logs", first, "ingest-data").stdout
    assert "no step nothing; it has" in library.type("logs", first, "nothing", expect=2).stderr
    assert "does not have it" in library.type("watch", "nobody", expect=2).stderr
    wrote = library.type("artifacts", first).stdout
    assert f"ingest-data  tables  minio://mlpipeline/v2/artifacts/materialization/{first}/ingest-data/" in wrote
    assert "is done already" in library.type("cancel", first).stdout
    assert "nothing to resume" in library.type("resume", first, expect=1).stderr


def test_two_runs_are_compared_by_what_their_steps_found(library: Library, first: str) -> None:
    library.lend(600)
    try:
        second = json.loads(library.type("run", "materialization", "--json").stdout)["id"]
    finally:
        library.lend(500)
    told = library.type("compare", first, second).stdout
    assert "ingest-data: 500 rows in 1 tables → 600 rows in 1 tables" in told
    assert "do not differ" in library.type("compare", first, first).stdout
    assert "does not have it" in library.type("compare", first, "nobody", expect=2).stderr


def test_a_bad_batch_ends_the_run_with_exit_code_1_and_its_reason(library: Library, first: str) -> None:
    library.lend(0)
    try:
        said = library.type("run", "materialization", expect=1)
    finally:
        library.lend(500)
    assert "ingest data failed." in said.stdout
    assert "loans" in said.stdout.partition("ingest data failed.")[2]


def test_a_detached_run_is_named_and_goes_on(library: Library, first: str) -> None:
    run = library.type("run", "materialization", "--detach").stdout.strip()
    assert "Done." in library.type("watch", run).stdout


def test_schedules_are_applied_twice_and_read_what_has_come(library: Library, first: str) -> None:
    assert "library-materialization  0 5 * * *  created" in library.type("schedule", "apply").stdout
    assert "library-materialization  0 5 * * *  left" in library.type("schedule", "apply").stdout
    library.lend(650)
    library.server.clock.advance(hours=24)
    newest = json.loads(library.type("runs", "--limit", "1", "--json").stdout)[0]
    assert newest["schedule"]
    run = json.loads(library.type("watch", newest["id"], "--json").stdout)
    assert next(step["summary"] for step in run["steps"] if step["name"] == "ingest-data") == "650 rows in 1 tables"
    assert "removed" in library.type("schedule", "delete", "materialization").stdout
    assert "no schedules" in library.type("schedule", "list").stdout


def test_new_data_is_submitted_once_for_each_version_through_a_restart(library: Library, first: str) -> None:
    def look(*words: str) -> dict[str, object]:
        told: dict[str, object] = json.loads(
            library.type("trigger", "new-data", "materialization", "--json", *words).stdout
        )
        return told

    library.lend(510)
    try:
        submitted = look()
        assert submitted["started"] is True
        library.server.restart()
        again = look()
        assert (again["started"], again["run"]) == (False, submitted["run"])
        library.lend(520)
        assert look()["started"] is True
        # An event of an object store tells the version.
        by_event = look("--version", "9a0364b9e99bb480dd25e1f0284c8555")
        assert (by_event["started"], look("--version", "9a0364b9e99bb480dd25e1f0284c8555")["started"]) == (True, False)
    finally:
        library.lend(500)
    assert library.type("watch", str(submitted["run"])).returncode == 0
    assert "no run of monitoring has come to its end" in library.type("trigger", "approve", expect=2).stderr


def test_a_trigger_may_stay_and_look_again(library: Library, first: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kfp_lifecycle.cli", "trigger", "new-data", "materialization", "--every", "1s"]
    library.lend(540)
    said = tmp_path / "said"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            command, cwd=library.folder, env=library.variables, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as looking,
    ):
        try:
            assert looking.stdout is not None
            before = looking.stdout.readline().strip()
            library.lend(550)
            assert looking.stdout.readline().strip() not in ("", before), said.read_text()
            looking.send_signal(signal.SIGINT)
            assert looking.wait(200) == 130, said.read_text()
        finally:
            looking.kill()
            library.lend(500)


def test_a_parameter_is_judged_before_anything_is_sent(library: Library) -> None:
    before = library.runs()
    refused = library.type("run", "monitoring", "--parameter", "as_off=2026-11-01", expect=2).stderr
    assert 'the pipeline monitoring has no parameter as_off; it has: as_of (text, by default "")' in refused
    assert library.runs() == before


def test_a_window_that_is_past_is_listed_with_what_would_run(library: Library) -> None:
    window = ["schedule", "backfill", "monitoring", "--from", "2026-05-01", "--to", "2026-05-01", "--every", "12h"]
    assert library.type(*window, "--dry-run").stdout.splitlines() == [
        "2026-05-01 00:00 UTC  runs as monitoring-at-20260501-000000",
        "2026-05-01 12:00 UTC  runs as monitoring-at-20260501-120000",
    ]


def test_the_doctor_finds_what_is_in_the_way(library: Library) -> None:
    variables = library.variables
    said = library.type("doctor").stdout
    assert "✓ the upload root is writable" in said
    assert "✓ Kubeflow Pipelines answers" in said
    assert not list(library.server.objects.rglob("doctor-*"))
    library.variables = {**variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    try:
        findings = json.loads(library.type("doctor", "--json", expect=1).stdout)
    finally:
        library.variables = variables
    (bad,) = [finding for finding in findings if finding["found"] == "bad"]
    assert bad["what"] == "the upload root is writable"
    assert "AWS_ENDPOINT_URL" in bad["remedy"]


def test_a_store_that_cannot_be_written_is_told_before_anything_is_submitted(library: Library, first: str) -> None:
    before = library.runs()
    variables = library.variables
    library.variables = {**variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    try:
        said = library.type("run", "materialization", expect=1).stderr
    finally:
        library.variables = variables
    assert "minio://mlpipeline/v2/artifacts cannot be written" in said
    assert library.runs() == before
