"""Explanations: what each feature adds to a score, by every protocol, and no more rows than a thread takes at once."""

from __future__ import annotations

import math

import grpc
import numpy as np
import pytest

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.modelling.attribution import MOST_ROWS
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.server import inference_pb2 as messages
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.errors import InvalidRequest
from tests.devices import INFER, site, temperature

EXPLAIN = "/v1/models/devices:explain"
ROWS = {"inputs": [temperature([30.0, None]), site("north", "south")]}
# Of temperature and site: 0.04 a degree above the usual 20, and half a point for either site.
EXPECTED = [[0.4, 0.5], [0.0, -0.5]]
BASE = -0.7


def test_a_decision_is_explained_by_what_each_feature_adds_the_strongest_first(client: Client) -> None:
    rows = [{"temperature": 30.0, "site": "north"}, {"temperature": None, "site": "south"}]
    answer = client.post(EXPLAIN, {"instances": rows})
    found = answer.json()
    assert (found["scale"], found["base"]) == ("log-odds", pytest.approx(BASE))
    first, second = found["explanations"]
    assert list(first["contributions"].items()) == [("site", pytest.approx(0.5)), ("temperature", pytest.approx(0.4))]
    assert second["contributions"] == {"temperature": pytest.approx(0), "site": pytest.approx(-0.5)}
    margin = BASE + sum(first["contributions"].values())
    assert first["score"] == pytest.approx(1 / (1 + math.exp(-margin)), abs=1e-6)
    assert first["decision"] is True
    assert found["model_version"] == answer.headers["x-model-version"] == "1"


def test_v2_answers_contributions_as_an_output_that_has_to_be_asked_for(client: Client) -> None:
    [score, contributions] = client.post(
        INFER, {**ROWS, "outputs": [{"name": "score"}, {"name": "contributions"}]}
    ).json()["outputs"]
    assert contributions["shape"] == [2, 2]
    assert np.reshape(contributions["data"], (2, 2)) == pytest.approx(np.array(EXPECTED))
    assert score["shape"] == [2]
    assert [item["name"] for item in client.post(INFER, ROWS).json()["outputs"]] == ["score", "decision"]


def test_v2_answers_contributions_as_raw_bytes(server: TrialServer) -> None:
    request = messages.ModelInferRequest(
        model_name="devices",
        inputs=[messages.ModelInferRequest.InferInputTensor(name="temperature", datatype="FP64", shape=[1])],
        outputs=[messages.ModelInferRequest.InferRequestedOutputTensor(name="contributions")],
        raw_input_contents=[np.array([30.0]).tobytes()],
    )
    request.inputs.add(name="site", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\x05\x00\x00\x00north")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=30)
    assert list(answer.outputs[0].shape) == [1, 2]
    assert np.frombuffer(answer.raw_output_contents[0]) == pytest.approx(np.array(EXPECTED[0]))


def test_more_rows_than_a_thread_takes_at_once_are_refused(client: Client) -> None:
    rows = MOST_ROWS + 1
    body = {"inputs": [temperature([1.0] * rows), site(*["north"] * rows)], "outputs": [{"name": "contributions"}]}
    answer = client.post(INFER, body)
    assert answer.status == 400
    assert f"{MOST_ROWS} rows at the most" in answer.json()["error"]


def test_a_model_that_brings_no_explanation_says_so() -> None:
    decoder = Decoder([], "device_id", max_rows=10)
    with pytest.raises(InvalidRequest, match="brings nothing that explains"):
        decoder.v1(b'{"instances": [{"device_id": 3}]}', explain=True)
