"""Lineage: from a prediction back to data, code and whoever released it, and from data on, out of real records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import nanoarrow
import pytest
from nanoarrow.ipc import StreamWriter

from kfp_lifecycle.audit.record import entries_of, open_record
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.governance.lineage import Known, Run, Version, lineage_of
from kfp_lifecycle.governance.served import Log
from kfp_lifecycle.local.events import append_event, event
from kfp_lifecycle.local.run_records import RunRecord
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState, State

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA = "a7e77a59c0ffee00a7e77a59c0ffee00.dir"
RUN = "training-20260301-101500-1"
REGISTER = """
import sys
from kfp_lifecycle.registry.tracking import connect
client = connect(sys.argv[1])
experiment = client.create_experiment("churn", artifact_location=sys.argv[2])
client.create_registered_model("churn")
for number, pipeline_run in enumerate((sys.argv[3], "a-run-of-a-cluster"), start=1):
    tags = {"data_version": sys.argv[4], "dataset_remote": "s3://churn/datasets", "pipeline_run": pipeline_run,
            "feature_version": "f00d", "mlflow.source.git.commit": "c0ffee", "code_digest": "d1ge57",
            "environment": "modelling-1234", "packages_digest": "abcd", "training_set": "7e57",
            **({"asked_by": "monitoring-1"} if number == 1 else {})}
    run = client.create_run(experiment, tags=tags).info.run_id
    client.create_model_version("churn", sys.argv[2], run, tags={"decision": "approved", "verdict": "It is better."})
client.set_registered_model_alias("churn", "champion", "1")
"""


def lifecycle(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kfp_lifecycle.cli", *arguments],
        env={**os.environ, "LIFECYCLE_STATE": str(state), "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def lineage(state: Path, reference: str) -> dict[str, Any]:
    done = lifecycle(state, "lineage", reference, "--json")
    assert done.returncode == 0, done.stderr
    (node,) = json.loads(done.stdout)
    found: dict[str, Any] = node
    return found


def children(node: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [child for child in node["children"] if child["kind"] == kind]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a run, two versions that MLflow knows, their releases, and predictions."""
    state = tmp_path_factory.mktemp("state") / ".lifecycle"
    state.mkdir()
    (state / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    run = state / "runs" / RUN
    run.mkdir(parents=True)
    record = RunRecord(RUN, "training", "churn", "/churn", [], RunState.done, started_at="2026-03-01T10:15:00+00:00")
    (run / "run.json").write_text(json.dumps(asdict(record), default=str))
    append_event(run / "events.jsonl", {"steps": ["version-dataset", "decide-promotion"]})
    dataset = {"version": DATA, "rows": {"customers": 2000.0, "payments": 11.0}, "remote": "s3://churn/datasets"}
    verdict = {"decision": "approved", "summary": "It is better."}
    for step, name, metadata in (("version-dataset", "dataset", dataset), ("decide-promotion", "verdict", verdict)):
        append_event(run / "events.jsonl", event(step, State.running, log="log"))
        done = event(step, State.done, artifacts={name: {"path": "/gone", "metadata": metadata}})
        append_event(run / "events.jsonl", done)
    database = f"sqlite:///{state / 'mlflow.db'}"
    subprocess.run(
        [str(interpreter("modelling")), "-c", REGISTER, database, (state / "mlflow").as_uri(), RUN, DATA],
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
    )
    audit = open_record(str(state / "serving" / "audit.jsonl"))
    # Of the version that was judged then: its successor is what came of it.
    audit.append("retraining approved", "churn", "0", "prices have risen", {"asked_by": "monitoring-1"})
    audit.append("approved", "churn", "1", "reviewed")
    audit.append("released", "churn", "1", "no stage showed it to be worse")
    day = state / "predictions" / "churn" / "2026-03-02"
    day.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'churn' AS model, '1' AS version, 'request-' || i AS request_id, "
            "TIMESTAMPTZ '2026-03-02 10:00:00+00' + INTERVAL (i) SECOND AS time, (i % 7)::VARCHAR AS entity, "
            f"0.25 AS score FROM range(100) AS t(i)) TO '{day / '10-1-host-1-77.parquet'}' (FORMAT parquet)"
        )
    (day / "09-1-host-1-77.parquet").write_bytes(b"half a file")
    with StreamWriter.from_path(str(day / "11-1-host-1-77.arrows")) as writer:
        at = int(datetime(2026, 3, 2, 11, tzinfo=UTC).timestamp()) * 1_000_000
        row = {"model": "churn", "version": "1", "request_id": "now", "time": at, "entity": "17", "score": 0.5}
        kinds = {name: nanoarrow.string() for name in row}
        kinds |= {"time": nanoarrow.timestamp("us", "UTC"), "score": nanoarrow.float64()}
        columns = [nanoarrow.c_array([value], kinds[name]) for name, value in row.items()]
        writer.write_array(nanoarrow.c_array_from_buffers(nanoarrow.struct(kinds), 1, [None], children=columns))
    return state


def test_a_prediction_leads_back_to_data_code_environment_and_whoever_released_it(state: Path) -> None:
    request = lineage(state, "request-41")
    (prediction,) = children(request, "prediction")
    assert prediction["facts"]["entity"] == "6"
    (version,) = children(request, "version")
    assert version["name"] == "churn/1"
    assert version["facts"]["alias"] == "champion"
    told = {child["kind"]: child for child in version["children"]}
    assert (told["run"]["name"], told["run"]["facts"]["state"]) == (RUN, "done")
    assert told["data"]["name"] == DATA
    assert told["data"]["facts"] == {"kept in": "s3://churn/datasets", "rows": "2,011", "training set": "7e57"}
    assert told["features"]["name"] == "f00d"
    assert (told["code"]["name"], told["code"]["facts"]["commit"]) == ("d1ge57", "c0ffee")
    assert told["environment"]["name"] == "modelling-1234"
    assert told["verdict"]["facts"]["in words"] == "It is better."
    assert told["approved"]["facts"]["why"] == "reviewed"
    assert told["retraining approved"]["facts"]["why"] == "prices have risen"
    assert "@" in told["released"]["facts"]["by"]
    assert told["predictions"]["name"] == "101"


def known(state: Path) -> Known:
    """A run and two versions, the second trained on the same data elsewhere; released and served is what there is."""
    tags = {"data_version": DATA, "pipeline_run": RUN}
    versions = [
        Version("churn", "1", "f00d" * 8, "2026-03-01", ["champion"], {}, tags),
        Version("churn", "2", "beef" * 8, "2026-03-02", [], {}, {**tags, "pipeline_run": "a-run-of-a-cluster"}),
    ]
    audit = entries_of(open_record(str(state / "serving" / "audit.jsonl")))
    runs = [Run(RUN, "training", "done", "2026-03-01", dataset=DATA, rows=2011)]
    return Known(runs, versions, audit, Log(state / "predictions").served(), {}, ["1 run", "2 versions"])


def test_data_leads_on_to_runs_versions_releases_and_counts_of_predictions(state: Path) -> None:
    (node,) = lineage_of(known(state), DATA[:8], [])
    data = asdict(node)
    (run,) = children(data, "run")
    (version,) = children(run, "version")
    assert [child["kind"] for child in version["children"]] == ["released", "predictions"]
    assert [child["name"] for child in children(data, "version")] == ["churn/2"]


@pytest.mark.parametrize(
    ("reference", "kind", "name"),
    [("churn/2", "version", "churn/2"), ("beef" * 8, "version", "churn/2"), (RUN, "run", RUN), (DATA, "data", DATA)],
)
def test_each_kind_of_name_is_understood(state: Path, reference: str, kind: str, name: str) -> None:
    assert [(node.kind, node.name) for node in lineage_of(known(state), reference, [])] == [(kind, name)]


def test_what_is_unknown_is_told_with_where_it_was_looked_for(state: Path) -> None:
    with pytest.raises(ContractViolation, match="nothing is called 'nobody': looked for in 1 run; 2 versions"):
        lineage_of(known(state), "nobody", Log(state / "predictions").find("nobody"))


def test_a_run_leads_to_its_data_and_versions_in_a_tree_that_a_person_reads(state: Path) -> None:
    told = lifecycle(state, "lineage", RUN).stdout
    assert told.splitlines()[0].startswith(f"run {RUN}: pipeline training, state done")
    assert f"data {DATA}: rows 2,011" in told
    assert "version churn/1" in told
    assert "approved: by " in told
    # Long lines are wrapped, and nothing of them is cut off.
    assert "why reviewed, entry of the audit record 2" in " ".join(told.replace("│", " ").split())


def test_growing_files_of_the_log_are_read_too(state: Path) -> None:
    (found,) = Log(state / "predictions").find("now")
    assert (found.version, found.entity, found.score) == ("1", "17", 0.5)
