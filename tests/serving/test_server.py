"""The real server: three kinds of request, both protocols, and plain words for what cannot be answered."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.deployment.validate_serving.protocols import grpc_scores
from kfp_lifecycle.components.deployment.validate_serving.trial import try_serving
from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.modelling.scoring import ModelFolder
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Answer, Client, scores_in, v2_request
from kfp_lifecycle.serving.server.prediction_log import Prediction, PredictionLog

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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not interpreter("modelling").exists():
        pytest.skip("the environment modelling, which writes the model, is not built")
    folder = tmp_path_factory.mktemp("model") / "devices"
    subprocess.run(
        [str(interpreter("modelling")), str(ROOT / "tests" / "tiny_model.py"), str(folder)],
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialServer]:
    with TrialServer(model, "devices", "1", tmp_path_factory.mktemp("log")) as running:
        yield running


@pytest.fixture
def client(server: TrialServer) -> Iterator[Client]:
    with server.client() as connection:
        yield connection


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def refusal(answer: Answer) -> str:
    assert answer.status == 400, answer
    error: str = answer.json()["error"]
    return error


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


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([tensor("temprature", "FP32", [1.0])], "did you mean `temperature`"),
        ([tensor("temperature", "BYTES", ["x"])], "datatype BYTES"),
        ([tensor("temperature", "FP32", ["warm"]), tensor("site", "BYTES", ["north"])], "must be a number or null"),
        ([tensor("temperature", "FP32", [1.0], [2])], "shape \\[2\\] but 1 values"),
        ([tensor("temperature", "FP32", [1.0, 2.0], [1, 2])], "\\[N\\] or \\[N, 1\\]"),
        ([tensor("temperature", "FP32", [1.0]), tensor("site", "BYTES", ["north", "south"])], "same number of rows"),
        ([tensor("temperature", "FP32", [1.0])] * 2, "twice"),
        ([tensor("temperature", "FP32", [1e300]), tensor("site", "BYTES", ["north"])], "fit 32 bits"),
        ([tensor("temperature", "FP32", [1.0])], "lacks `site`.*`device_id`"),
        ([tensor("device_id", "BYTES", ["d1"])], "no online store"),
        ([tensor("device_id", "FP32", [1.0])], "datatype FP32"),
        ([tensor("device_id", "BYTES", [""])], "must name an entity"),
        ([tensor("temperature", "FP32", [])], "no rows"),
        ([tensor("temperature", "FP32", [1.0] * 10_001)], "10,001 rows; one request may hold 10,000"),
        ([], "`inputs` is empty"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_in_words(
    client: Client, inputs: list[dict[str, Any]], words: str
) -> None:
    assert re.search(words, refusal(client.post(INFER, {"inputs": inputs})))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (INFER, b'{"inputs": [', "no JSON"),
        (INFER, {"inputs": 3}, "inputs"),
        (INFER, {}, "inputs"),
        (PREDICT, b"[1", "Unrecognized request format"),
        (PREDICT, [], '"instances"'),
        (PREDICT, {"instances": [3]}, "instance 0 must be an object"),
        (PREDICT, {"instances": []}, "no rows"),
        (PREDICT, {"instances": [{"temperature": True, "site": 3}]}, "must be text or null"),
        (PREDICT, {"instances": [{"temperature": 1, "site": "north"}], "parameters": 3}, "`parameters`"),
        (
            PREDICT,
            {"instances": [{"temperature": 1, "site": "north"}], "parameters": {"request_time": "soon"}},
            "ISO 8601",
        ),
    ],
)
def test_a_body_that_is_no_request_is_the_sender_s_error(client: Client, path: str, body: object, words: str) -> None:
    assert words in refusal(client.post(path, body))


def test_an_unknown_model_is_not_found(client: Client) -> None:
    assert (
        client.post("/v2/models/nobody/infer", v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}])).status
        == 404
    )


def test_the_metrics_show_scores_and_the_state_of_the_log(client: Client) -> None:
    client.post(INFER, v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}]))
    metrics = client.get("/metrics").body
    assert 'prediction_score_bucket{le="0.5",model_name="devices",model_version="1",shadow="false"}' in metrics
    assert 'prediction_log_dropped_total{model_name="devices",model_version="1"} 0.0' in metrics


def test_every_prediction_is_logged_when_the_server_ends_and_shadows_are_marked(model: Path, tmp_path: Path) -> None:
    with TrialServer(model, "devices", "1", tmp_path) as running, running.client() as connection:
        body = v2_request(INPUTS, [{"temperature": 1.0, "site": "north"}, {"temperature": None, "site": "south"}])
        for number in range(50):
            connection.post(INFER, {**body, "id": str(number)}, {"content-type": "application/json"})
        connection.post(INFER, body, {"content-type": "application/json", "x-shadow": "true"})
    (file,) = tmp_path.rglob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 102
    assert file.parent.parent.name == "devices"
    assert lines[1]["features"] == {"temperature": None, "site": "south"}
    assert {line["request_id"] for line in lines[:100]} == {str(number) for number in range(50)}
    assert [line["shadow"] for line in lines] == [False] * 100 + [True] * 2


def test_a_log_that_cannot_keep_up_counts_what_it_drops_and_never_blocks(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "devices", "full", capacity=5)
    one = Prediction(datetime.now(UTC), "r", "devices", "full", None, {}, 0.5, True, 1.0, False)
    log.write([one] * 50_000)
    log.close()
    written = sum(len(file.read_text().splitlines()) for file in tmp_path.rglob("*.jsonl"))
    assert written == log.written._value.get()
    assert written + log.dropped._value.get() == 50_000


def test_predictions_go_to_the_file_of_their_day(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "devices", "days")
    for day in (1, 2):
        at = datetime(2026, 3, day, 23, 59, tzinfo=UTC)
        log.write([Prediction(at, "r", "devices", "days", "d1", {}, 0.5, True, 1.0, False)])
    log.close()
    assert sorted(file.parent.name for file in tmp_path.rglob("*.jsonl")) == ["2026-03-01", "2026-03-02"]


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


def test_a_model_without_a_threshold_is_refused_by_the_name_of_the_field(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    description = json.loads((broken / "model.json").read_text())
    del description["threshold"]
    (broken / "model.json").write_text(json.dumps(description))
    with pytest.raises(ContractViolation, match=r"model\.json: threshold: Field required"):
        try_serving(ASKED, broken, tmp_path / "out")
    with pytest.raises(ContractViolation, match=r"model\.json: threshold: Field required"):
        ModelFolder(broken)
