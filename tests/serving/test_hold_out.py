"""A share of entities is held out: told in each answer, the same by each protocol, version and server, and logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.model_server import ModelServer
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.server import inference_pb2 as messages
from kfp_lifecycle.serving.server.hold_out import HoldOut
from tests.devices import INFER, MODEL, PREDICT, site, temperature, tensor
from tests.prediction_logs import read_log

DEVICES = [str(number) for number in range(1, 41)]


def test_a_share_is_held_out_by_chance_and_always_the_same() -> None:
    keys = [str(number) for number in range(20_000)]
    churn, loans = HoldOut(0.05, "churn"), HoldOut(0.05, "loans")
    held = churn.of(keys, len(keys))
    assert held.mean() == pytest.approx(0.05, abs=0.005)
    assert (HoldOut(0.05, "churn").of([int(key) for key in keys], len(keys)) == held).all()
    # A larger share keeps whom a smaller one held out; another model holds others out.
    assert HoldOut(0.1, "churn").of(keys, len(keys))[held].all()
    assert (loans.of(keys, len(keys)) & held).mean() == pytest.approx(0.05**2, abs=0.002)
    assert not HoldOut(0.5, "churn").of([None, None], 2).any()
    assert not HoldOut(0.5, "churn").of(None, 3).any()


def test_each_server_is_told_of_it_where_somebody_is_held_out() -> None:
    assert "hold_out" not in Deployment(model="churn").server_arguments()
    server = ModelServer(hold_out=0.05)
    assert Deployment(model="churn", server=server).server_arguments()["hold_out"] == "0.05"


def test_answers_say_who_is_held_out_by_every_protocol_and_so_does_the_log(model: Path, tmp_path: Path) -> None:
    held = HoldOut(0.3, "devices").of(DEVICES, len(DEVICES)).tolist()
    assert 5 < sum(held) < 20
    count = len(DEVICES)
    inputs = [tensor("device_id", "BYTES", DEVICES), temperature([30.0] * count), site(*["north"] * count)]
    with TrialServer(model, "devices", "1", tmp_path, hold_out=0.3) as server, server.client() as client:
        assert {"name": "hold_out", "datatype": "BOOL", "shape": [-1]} in answered(client, MODEL)["outputs"]
        outputs = {item["name"]: item for item in answered(client, INFER, {"inputs": inputs})["outputs"]}
        assert list(outputs) == ["score", "decision", "hold_out"]
        assert (outputs["hold_out"]["datatype"], outputs["hold_out"]["data"]) == ("BOOL", held)
        rows = [{"device_id": key, "temperature": 30.0, "site": "north"} for key in DEVICES]
        predictions = answered(client, PREDICT, {"instances": rows})["predictions"]
        assert [row["hold_out"] for row in predictions] == held
        # The model's decision is its own: what is done about it is the team's.
        assert len({row["decision"] for row in predictions}) == 1
        anonymous = answered(client, INFER, {"inputs": inputs[1:]})["outputs"][2]
        assert not any(anonymous["data"])
        for raw in (False, True):
            assert over_grpc(server.grpc_port, raw) == held
    logged = read_log(tmp_path / "devices")
    assert len(logged) == 5 * count
    assert {row["entity"]: row["hold_out"] for row in logged if row["entity"]} == dict(zip(DEVICES, held, strict=True))
    assert all(row["hold_out"] is False for row in logged if not row["entity"])


def test_a_server_that_holds_nobody_out_says_nothing_of_it(client: Client, server: TrialServer) -> None:
    asked = {"inputs": [temperature([30.0]), site("north")]}
    assert [item["name"] for item in answered(client, INFER, asked)["outputs"]] == ["score", "decision"]
    refused = client.post(INFER, {**asked, "outputs": [{"name": "hold_out"}]})
    assert refused.status == 400
    assert "is no output of this model; there are score, decision" in refused.json()["error"]


def answered(client: Client, path: str, body: Any = None) -> Any:
    answer = client.get(path) if body is None else client.post(path, body)
    assert answer.status == 200, answer.body
    return answer.json()


def over_grpc(port: int, raw: bool) -> list[bool]:
    """The same question over gRPC, with typed or raw contents."""
    count = len(DEVICES)
    tensors = messages.ModelInferRequest.InferInputTensor
    if raw:
        texts = [b"".join(len(text).to_bytes(4, "little") + text for text in column) for column in
                 ([key.encode() for key in DEVICES], [b"north"] * count)]  # fmt: skip
        contents = [texts[0], np.full(count, 30.0, "<f8").tobytes(), texts[1]]
        inputs = [
            tensors(name=name, datatype=kind, shape=[count])
            for name, kind in (("device_id", "BYTES"), ("temperature", "FP64"), ("site", "BYTES"))
        ]
    else:
        contents = []
        inputs = [
            tensors(name="device_id", datatype="BYTES", shape=[count],
                    contents={"bytes_contents": [key.encode() for key in DEVICES]}),
            tensors(name="temperature", datatype="FP64", shape=[count], contents={"fp64_contents": [30.0] * count}),
            tensors(name="site", datatype="BYTES", shape=[count], contents={"bytes_contents": [b"north"] * count}),
        ]  # fmt: skip
    request = messages.ModelInferRequest(model_name="devices", inputs=inputs, raw_input_contents=contents)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )(request, timeout=60, wait_for_ready=True)
    assert answer.outputs[2].name == "hold_out"
    if raw:
        return [bool(value) for value in answer.raw_output_contents[2]]
    return list(answer.outputs[2].contents.bool_contents)
