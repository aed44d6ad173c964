"""The promise of `make run`: one command, and a model answers; what follows on it, and what happens when something is
wrong. All that takes a whole run stands here, so that there is one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import LENIENT, SMALL, Checkout

from kfp_lifecycle.serving.ports import port_pair

pytestmark = pytest.mark.slow


def test_one_command_ends_with_a_model_that_answers(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    assert run["state"] == "done"
    status = checkout.status()
    assert status["endpoint"]["model"] == "churn"
    assert status["endpoint"]["version"] == run["endpoint"]["version"]
    assert status["runs"][0] | {"state": "done", "failed_step": None} == status["runs"][0]
    answer = httpx.post(
        f"{status['endpoint']['url']}/v2/models/churn/infer",
        json={"inputs": [{"name": "customer_id", "datatype": "INT64", "shape": [1, 1], "data": [1]}]},
    )
    assert answer.status_code == 200, answer.text
    score = next(output["data"][0] for output in answer.json()["outputs"] if output["name"] == "score")
    assert 0 <= score <= 1


def test_predict_answers_for_an_entity_and_for_a_request_file(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, _ = whole_run
    by_entity = json.loads(checkout.lifecycle("predict", "--entity", "1").stdout)
    request = checkout.folder / "request.json"
    request.write_text(
        json.dumps({"inputs": [{"name": "customer_id", "datatype": "INT64", "shape": [1, 1], "data": [1]}]})
    )
    by_file = json.loads(checkout.lifecycle("predict", "--json", str(request)).stdout)
    assert by_entity["model_version"] == by_file["model_version"]
    assert [output["name"] for output in by_entity["outputs"]] == [output["name"] for output in by_file["outputs"]]


def test_a_report_stands_alone(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    _, run = whole_run
    page = Path(run["report"]).read_text("utf-8")
    assert "<script" not in page
    assert 'src="http' not in page
    assert "train" in page


def test_a_second_run_takes_over_what_did_not_change(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    again = checkout.lifecycle("run", "training", *run["settings"])
    for step in ("ingest-data", "validate-data", "train-model", "evaluate-model"):
        assert f"{step} cached" in again.stdout
    assert "curl -s" in again.stdout


def test_a_changed_setting_runs_the_model_again_and_a_miss_is_no_error(
    whole_run: tuple[Checkout, dict[str, Any]],
) -> None:
    checkout, run = whole_run
    before = checkout.status()["endpoint"]
    strict = [*run["settings"], "--set", "gate.rules=[{metric: performance.roc_auc, min: 0.999}]"]
    rejected = checkout.lifecycle("run", "training", *strict)
    assert "The candidate was rejected. The champion goes on serving." in rejected.stdout
    assert "at least 0.999 is required" in rejected.stdout
    status = checkout.status()
    assert status["runs"][0]["state"] == "rejected"
    assert status["endpoint"] == before


@pytest.mark.parametrize(
    ("injection", "table"),
    [("refund_bug", "purchases"), ("columns_swapped", ""), ("column_renamed", ""), ("outage", "")],
)
def test_a_bad_batch_stops_the_run_and_says_why(
    whole_run: tuple[Checkout, dict[str, Any]], injection: str, table: str
) -> None:
    checkout, run = whole_run
    data = checkout.folder / f"{injection}.duckdb"
    checkout.lifecycle("simulate", "--output", str(data), "--customers", "1000", "--days", "500", "--inject", injection)
    stopped = checkout.lifecycle("run", "training", *run["settings"], "--set", f"source.url=duckdb:///{data}", expect=1)
    status = checkout.status()["runs"][0]
    assert status["state"] == "failed"
    assert status["failed_step"] in ("validate-data", "ingest-data")
    assert table in status["reason"]
    assert "Resume:" in stopped.stdout
    assert Path(status["report"]).exists()


def test_monitoring_works_after_requests(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    url = checkout.status()["endpoint"]["url"]
    with httpx.Client() as client:
        for entity in range(1, 301):
            client.post(
                f"{url}/v2/models/churn/infer",
                json={"inputs": [{"name": "customer_id", "datatype": "INT64", "shape": [1, 1], "data": [entity]}]},
            )
    monitoring = json.loads(checkout.lifecycle("run", "monitoring", "--json", *run["settings"]).stdout)
    assert monitoring["state"] == "done"
    assert Path(monitoring["report"]).exists()


def test_a_window_of_the_past_is_listed_run_once_and_left_afterwards(
    whole_run: tuple[Checkout, dict[str, Any]],
) -> None:
    checkout, run = whole_run
    # The schedule of monitoring is 6 o'clock UTC by default.
    window = ["monitoring", "--from", "2026-05-01", "--to", "2026-05-02", *run["settings"]]
    listed = checkout.lifecycle("schedule", "backfill", *window, "--dry-run").stdout.splitlines()
    assert listed == [
        "2026-05-01 06:00 UTC  runs as monitoring-at-20260501-060000",
        "2026-05-02 06:00 UTC  runs as monitoring-at-20260502-060000",
    ]
    before = json.loads(checkout.lifecycle("runs", "--json", "--limit", "100").stdout)

    filled = json.loads(checkout.lifecycle("schedule", "backfill", *window, "--json").stdout)
    assert [(item["moment"], item["result"]) for item in filled] == [
        ("2026-05-01 06:00:00+00:00", "done"),
        ("2026-05-02 06:00:00+00:00", "done"),
    ]
    artifacts = json.loads(checkout.lifecycle("artifacts", filled[0]["run"], "--json").stdout)
    predictions = next(item for item in artifacts if item["name"] == "predictions")
    assert predictions["metadata"]["end"].startswith("2026-05-01T06:00:00")

    again = checkout.lifecycle("schedule", "backfill", *window).stdout.splitlines()
    assert [line.split("  ")[:3] for line in again] == [
        ["2026-05-01 06:00 UTC", "left", filled[0]["run"]],
        ["2026-05-02 06:00 UTC", "left", filled[1]["run"]],
    ]
    after = json.loads(checkout.lifecycle("runs", "--json", "--limit", "100").stdout)
    assert len(after) == len(before) + 2


def test_a_recalibration_keeps_the_trees_of_what_serves_and_searches_nothing(
    whole_run: tuple[Checkout, dict[str, Any]],
) -> None:
    checkout, run = whole_run

    def artifacts(run_id: str) -> dict[str, Any]:
        listed = json.loads(checkout.lifecycle("artifacts", run_id, "--json").stdout)
        return {item["name"]: item for item in listed}

    served = checkout.status()["endpoint"]
    since = artifacts(run["id"])["training_set"]["metadata"]["snapshots"]["validation"][0]
    changed = ["--parameter", "remedy=recalibrate", "--parameter", f"since={since}"]
    again = json.loads(checkout.lifecycle("run", "training", "--json", *run["settings"], *changed).stdout)
    # Of the rows that the model was calibrated on before it becomes the same model, which is worth no more.
    assert again["state"] == "rejected"
    assert checkout.status()["endpoint"] == served
    made = artifacts(again["id"])
    version = served["version"]
    assert made["parameters"]["metadata"]["summary"] == f"those of version {version}, without a search"
    assert made["model"]["metadata"]["summary"].startswith(f"version {version} recalibrated, validation AUC")
    assert f"The scores of version {version} were recalibrated on" in Path(again["report"]).read_text("utf-8")


def test_batch_scoring_and_materialization_run(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    for pipeline in ("batch_scoring", "materialization"):
        assert json.loads(checkout.lifecycle("run", pipeline, "--json", *run["settings"]).stdout)["state"] == "done"


def test_a_released_version_is_trained_again_to_the_same_bytes(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    version = run["endpoint"]["version"]
    found = json.loads(checkout.lifecycle("reproduce", f"churn/{version}", "--json").stdout)
    assert found["identical"]
    assert found["differences"] == []


def test_another_seed_or_setting_is_named_with_what_it_changes(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    settings = ["--set", "training.seed=7", "--set", "training.half_life_days=60"]
    told = checkout.lifecycle("reproduce", run["id"], *settings, expect=1).stdout
    assert "Different." in told
    assert "seed: 42 → 7" in told
    assert "leaves of the trees: " in told
    assert "data version" not in told


def test_down_leaves_no_process_and_serve_brings_the_model_back(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    before = checkout.status()["endpoint"]
    checkout.lifecycle("down")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if str(checkout.folder) in line] == []
    assert checkout.status()["endpoint"]["healthy"] is False
    told = checkout.lifecycle("run", "training", *run["settings"]).stdout
    assert "The champion stays; its servers are stopped." in told
    assert "is stopped, start it with `lifecycle serve`" in told
    assert "curl" not in told
    checkout.lifecycle("serve")
    assert checkout.status()["endpoint"] == before


def test_a_run_that_is_interrupted_leaves_nothing_and_is_resumed(checkout: Checkout) -> None:
    data = checkout.state / "data" / "churn.duckdb"
    checkout.lifecycle("simulate", "--output", str(data), "--customers", "1000", "--days", "400")
    run = subprocess.Popen(
        checkout.command("run", "training", *SMALL, *LENIENT),
        cwd=checkout.folder,
        env=checkout.variables(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    for line in run.stdout:
        if "validate-data running" in line:
            break
    run.send_signal(signal.SIGINT)
    rest = run.stdout.read()
    assert run.wait(200) == 130
    assert "lifecycle run training --resume" in rest
    assert checkout.status()["runs"][0]["state"] == "interrupted"
    time.sleep(0.5)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if str(checkout.folder) in line] == []
    port = ["--set", f"deployment.http_port={port_pair()}"]
    resumed = checkout.lifecycle("run", "--resume", *port)
    assert "Endpoint:" in resumed.stdout


def test_a_second_run_waits_for_the_first_and_says_so(checkout: Checkout) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            checkout.command("run", "training", "--set", "source.url=duckdb:///missing.duckdb"),
            cwd=checkout.folder,
            env=checkout.variables(),
            stdout=subprocess.PIPE,
            text=True,
        )

    with start() as first:
        assert first.stdout is not None
        first.stdout.readline()
        # However quick it is, it is still there when the second comes.
        first.send_signal(signal.SIGSTOP)
        try:
            with start() as second:
                assert second.stdout is not None
                assert "waiting for run training-" in second.stdout.readline()
                first.send_signal(signal.SIGCONT)
                first.stdout.read()
                second.stdout.read()
        finally:
            first.send_signal(signal.SIGCONT)
    assert (first.returncode, second.returncode) == (1, 1)


def test_an_address_that_is_taken_is_told_before_anything_is_run(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, _ = whole_run
    before = len(checkout.status()["runs"])
    with socket.create_server(("127.0.0.1", port_pair())) as other:
        port = other.getsockname()[1]
        refused = checkout.lifecycle("run", "training", "--set", f"deployment.http_port={port}", expect=2)
    assert f"error: port {port}, which model churn is to answer HTTP on, is taken by another program" in refused.stderr
    assert f"--set deployment.http_port={port + 10}" in refused.stderr
    assert len(checkout.status()["runs"]) == before


def test_cdnow_runs_to_an_endpoint_without_a_line_of_code(checkout: Checkout) -> None:
    port = ["--set", f"deployment.http_port={port_pair()}"]
    run = checkout.lifecycle(
        "run", "training", "--project", "examples/cdnow", "--json", "--set", "tuning.trials=3", *port
    )
    outcome = json.loads(run.stdout)
    assert outcome["state"] == "done"
    assert outcome["endpoint"]["model"] == "cdnow"
    assert list((checkout.folder / "examples" / "cdnow").rglob("component.py")) == []
    answer = json.loads(checkout.lifecycle("predict", "--entity", "7").stdout)
    assert answer["model_name"] == "cdnow"
