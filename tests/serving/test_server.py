"""The real server: three kinds of request, both protocols, and plain words for what cannot be answered."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.components.deployment.validate_serving.protocols import grpc_scores
from kfp_lifecycle.components.deployment.validate_serving.trial import try_serving
from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client, scores_in, v2_request
from kfp_lifecycle.serving.ports import free_ports
from kfp_lifecycle.serving.server import served_model
from kfp_lifecycle.serving.server.served_model import ServedModel
from tests.prediction_logs import read_log

ROOT = Path(__file__).resolve().parents[2]
INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]
ASKED = given_settings(
    {
        "deployment": {"model": "devices"},
        "entity": {"name": "device", "key": "device_id"},
        "evaluation": {"latency_requests": 40},
    },
    ("deployment.model", "entity", "evaluation.latency_requests"),
    "validate_serving",
)
INFER, PREDICT = "/v2/models/devices/infer", "/v1/models/devices:predict"


def formula(temperature: float | None, site: str) -> float:
    """The tiny model, written down again."""
    heat = 0.04 * (20 if temperature is None else temperature)
    return 1 / (1 + math.exp(-(heat + {"north": -1.0, "south": -2.0}[site])))


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def test_all_protocols_give_the_score_of_the_formula(server: TrialServer, client: Client) -> None:
    rows = [{"temperature": 30.0, "site": "north"}, {"temperature": None, "site": "south"}]
    expected = pytest.approx([formula(30.0, "north"), formula(None, "south")], abs=1e-6)
    answer = client.post(INFER, v2_request(INPUTS, rows))
    assert scores_in(answer) == expected
    assert answer.json()["id"]
    assert answer.json()["model_version"] == "1"
    assert answer.json()["outputs"][1]["data"] == [True, False]
    predictions = client.post(PREDICT, {"instances": rows}).json()["predictions"]
    assert [item["score"] for item in predictions] == expected
    assert grpc_scores(server.grpc_port, "devices", INPUTS, rows) == expected


def test_whole_numbers_and_columns_are_taken_as_they_are(client: Client) -> None:
    inputs = [
        tensor("temperature", "INT64", [[30], [20]], [2, 1]),
        tensor("site", "BYTES", [["north"], ["south"]], [2, 1]),
    ]
    assert scores_in(client.post(INFER, {"id": "mine", "inputs": inputs})) == pytest.approx(
        [formula(30, "north"), formula(20, "south")], abs=1e-6
    )


def test_the_metrics_show_requests_scores_and_the_state_of_the_log(client: Client) -> None:
    client.post(INFER, v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}]))
    client.post(INFER, {"inputs": []})
    metrics = client.get("/metrics").body
    of_model = 'model_name="devices",model_version="1"'
    for line in (
        f'inference_requests_total{{{of_model},protocol="v2",code="400",shadow="false"}}',
        f'inference_requests_total{{{of_model},protocol="v2",code="200",shadow="false"}}',
        f'inference_request_seconds_bucket{{{of_model},protocol="v2",shadow="false",le="+Inf"}}',
        f'prediction_score_bucket{{{of_model},shadow="false",le="0.5"}}',
        f"prediction_score_expected{{{of_model}}} NaN",
        # 2026-10-01
        f"model_learned_until_seconds{{{of_model}}} 1.7908128e+09",
        f"prediction_log_dropped_total{{{of_model}}} 0.0",
        f"prediction_log_thread_deaths_total{{{of_model}}} 0.0",
    ):
        assert line in metrics


def test_copies_at_their_port_and_who_says_the_token_as_a_parameter_are_logged_as_nobodys(
    model: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    token = tmp_path / "token"
    token.write_text("hush\n")
    row = {"temperature": 1.0, "site": "north"}
    said = {"asked": "of people", "copied": "of people", "by a release": "hush"}
    with TrialServer(model, "devices", "1", tmp_path / "log", shadow_port=port, shadow_token_file=token) as running:
        for name, parameter in said.items():
            with Client(port if name == "copied" else running.http_port) as connection:
                body = {"instances": [row], "parameters": {"shadow": parameter}}
                assert connection.post(PREDICT, body, {"x-request-id": name}).status == 200
    assert {row["request_id"]: row["shadow"] for row in read_log(tmp_path / "log")} == {
        "asked": False,
        "copied": True,
        # Where no header is handed on, as on Vertex AI.
        "by a release": True,
    }


def test_every_prediction_is_logged_when_the_server_ends_and_only_who_knows_the_token_marks_shadows(
    model: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("hush\n")
    with TrialServer(model, "devices", "1", tmp_path / "log", shadow_token_file=token) as running:
        body = v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}, {"temperature": None, "site": "south"}])
        with running.client() as connection:
            for number in range(50):
                assert connection.post(INFER, {**body, "id": str(number)}).status == 200
            for said in ("true", "hush"):
                connection.post(INFER, body, {"x-shadow": said, "x-request-id": said})
    rows = read_log(tmp_path / "log" / "devices")
    assert len(rows) == 104
    assert rows[1]["features"] == {"temperature": None, "site": "south"}
    assert {row["request_id"] for row in rows} == {*map(str, range(50)), "true", "hush"}
    assert {row["request_id"] for row in rows if row["shadow"]} == {"hush"}


def test_a_server_that_is_killed_loses_a_second_of_its_log_at_the_most(model: Path, tmp_path: Path) -> None:
    with TrialServer(model, "devices", "1", tmp_path) as running, running.client() as connection:
        for number in range(20):
            body = v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}])
            connection.post(INFER, {**body, "id": str(number)})
        deadline = time.monotonic() + 20
        while len(read_log(tmp_path)) < 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(running.pid, signal.SIGKILL)
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    assert {row["request_id"] for row in read_log(tmp_path)} == {str(number) for number in range(20)}


def started(model: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """A server that cannot start, and its last words."""
    told = {"model_dir": model, "model_name": "devices", "version": "1", "host": "127.0.0.1", **settings}
    command = [sys.executable, "-m", "kfp_lifecycle.serving.server.server"]
    return subprocess.run(
        [*command, *(f"--{name}={value}" for name, value in told.items())],
        cwd=model / "code",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("which", ["http_port", "grpc_port"])
def test_a_port_that_is_taken_is_said_in_a_line(model: Path, tmp_path: Path, server: TrialServer, which: str) -> None:
    free = free_ports(2)
    ports = {"http_port": free[0], "grpc_port": free[1], which: getattr(server, which)}
    done = started(model, prediction_log=tmp_path, **ports)
    assert done.returncode == 1
    assert "The server cannot start: the server cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_folder_that_cannot_be_made_is_said_in_a_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = started(model, prediction_log=tmp_path / "file" / "log")
    assert done.returncode == 1
    assert "The server cannot start: the prediction log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_servable_model_carries_its_latency_and_examples(model: Path, tmp_path: Path) -> None:
    metadata = try_serving(ASKED, model, tmp_path / "servable")
    report = json.loads((tmp_path / "servable" / "serving.json").read_text())
    assert metadata["requests"] == 40
    for latency, clients in ((report["latency"], 1), (report["concurrent_latency"], 8)):
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
        assert (latency["clients"], latency["requests"]) == (clients, 40)
    # A Python process with ONNX Runtime holds tens of megabytes; it takes a moment to start.
    assert report["server"]["ready_seconds"] > 0.1
    assert 30 < report["server"]["peak_memory_mb"] < 2000
    first = report["examples"][1]
    assert first["score"] == pytest.approx(formula(first["features"]["temperature"], first["features"]["site"]))


def test_a_model_that_scores_otherwise_than_when_it_was_trained_is_not_servable(model: Path, tmp_path: Path) -> None:
    wrong = shutil.copytree(model, tmp_path / "wrong")
    table = parquet.read_table(wrong / "baseline" / "reference.parquet").to_pandas()
    table.loc[3, "score"] += 0.01
    table.to_parquet(wrong / "baseline" / "reference.parquet")
    with pytest.raises(ContractViolation, match=r"row 3 .* more than 1e-05 apart"):
        try_serving(ASKED, wrong, tmp_path / "servable")
    assert not (tmp_path / "servable").exists()


def test_a_folder_that_is_no_model_ends_the_server_with_the_reason(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    # The trial itself reads the description alone.
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ContractViolation, match=r"(?s)exit code 1.*model\.onnx cannot be loaded"):
        try_serving(ASKED, broken, tmp_path / "out")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_model_that_was_cut_off_is_not_loaded(model: Path, share: float) -> None:
    whole = (model / "model.onnx").read_bytes()
    with pytest.raises(ContractViolation, match=r"model\.onnx (cannot be loaded|does not fit)"):
        Scorer(whole[: int(len(whole) * share)], INPUTS)


def test_a_model_that_asks_for_a_file_of_this_machine_is_not_loaded(model: Path, tmp_path: Path) -> None:
    script = (
        "import sys, onnx; model = onnx.load(sys.argv[1]); weight = model.graph.initializer[1]; "
        "weight.ClearField('float_data'); weight.data_location = onnx.TensorProto.EXTERNAL; "
        "weight.external_data.add(key='location', value=sys.argv[2]); open(sys.argv[3], 'wb').write("
        "model.SerializeToString())"
    )
    for number, place in enumerate(("/etc/passwd", "../../../../../etc/passwd")):
        hostile = tmp_path / f"{number}.onnx"
        subprocess.run([interpreter("modelling"), "-c", script, model / "model.onnx", place, hostile], check=True)
        with pytest.raises(ContractViolation, match=r"model\.onnx cannot be loaded"):
            Scorer(hostile.read_bytes(), INPUTS)


def test_a_model_without_a_threshold_is_refused_by_the_name_of_the_field(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    description = json.loads((broken / "model.json").read_text())
    del description["threshold"]
    (broken / "model.json").write_text(json.dumps(description))
    with pytest.raises(ContractViolation, match=r"model\.json: threshold: Field required"):
        try_serving(ASKED, broken, tmp_path / "out")
    with pytest.raises(ContractViolation, match=r"model\.json: .*missing required field `threshold`"):
        ServedModel(broken)


def test_a_server_reads_the_document_that_the_training_writes() -> None:
    assert (served_model.DESCRIPTION, served_model.FORMAT, served_model.WRITER) == (
        Model.FILE,
        Model.FORMAT,
        Model.WRITER,
    )
