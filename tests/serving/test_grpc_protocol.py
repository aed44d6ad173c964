"""The Open Inference Protocol over gRPC, with typed and with raw contents; a wrong request is never INTERNAL."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.serving.client import Client, scores_in
from kfp_lifecycle.serving.server import inference_pb2 as messages
from tests.devices import INFER, PREDICT, formula, site, temperature


@pytest.fixture
def channel(server: TrialServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as opened:
        yield opened


def call(channel: grpc.Channel, method: str, request: Any, answer: Any) -> Any:
    send = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return send.with_call(request, timeout=20, wait_for_ready=True)


def ask(channel: grpc.Channel, request: messages.ModelInferRequest) -> messages.ModelInferResponse:
    answer, _ = call(channel, "ModelInfer", request, messages.ModelInferResponse)
    return answer


def wire(name: str, datatype: str, shape: list[int] | None = None, **contents: Any) -> Any:
    held = {"contents": contents} if contents else {}
    return messages.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape or [1], **held)


def asked(*inputs: Any, raw: list[bytes] | None = None, **more: Any) -> messages.ModelInferRequest:
    return messages.ModelInferRequest(**{"model_name": "devices", **more}, inputs=inputs, raw_input_contents=raw or [])


NORTH = wire("site", "BYTES", bytes_contents=[b"north"])
NUMBERS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


@pytest.mark.parametrize(("datatype", "field"), NUMBERS.items())
def test_grpc_takes_every_datatype_in_its_field(channel: grpc.Channel, datatype: str, field: str) -> None:
    answer = ask(channel, asked(wire("temperature", datatype, **{field: [1]}), NORTH))
    assert list(answer.outputs[0].contents.fp64_contents) == pytest.approx([formula(1)], abs=1e-6)
    assert not answer.raw_output_contents


def test_grpc_takes_raw_contents_of_many_rows_and_answers_alike(channel: grpc.Channel) -> None:
    raw = [np.array([30, 20, 10], "<f4").tobytes(), (struct.pack("<I", 5) + b"south") * 3]
    answer = ask(channel, asked(wire("temperature", "FP32", [3]), wire("site", "BYTES", [3, 1]), raw=raw, id="mine"))
    scores = list(memoryview(answer.raw_output_contents[0]).cast("d"))
    assert scores == pytest.approx([formula(value, "south") for value in (30, 20, 10)], abs=1e-6)
    assert len(answer.raw_output_contents[1]) == 3
    assert (answer.id, answer.model_version) == ("mine", "1")


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (asked(wire("temperature", "FP32"), NORTH, raw=[]), "INVALID_ARGUMENT", "but 0 values"),
        (asked(wire("temperature", "FP32"), wire("site", "BYTES"), raw=[b"\0", b""]), "INVALID_ARGUMENT", "raw bytes"),
        (asked(wire("temperature", "FP32"), wire("site", "BYTES"), raw=[b"\0\0\0\0"]), "INVALID_ARGUMENT", "1 entries"),
        (asked(wire("temperature", "FP32", [2]), wire("site", "BYTES", [2]), raw=[b"\0" * 4, b""]), "INVALID_ARGUMENT",
         "4 raw bytes; 2 values of FP32 take 8"),
        (asked(wire("temperature", "FP64", fp32_contents=[1]), NORTH), "INVALID_ARGUMENT", "belong in fp64_contents"),
        (asked(wire("temperature", "FP16", fp32_contents=[1]), NORTH), "INVALID_ARGUMENT", "raw_input_contents alone"),
        (asked(wire("temperature", "UINT8", uint_contents=[300]), NORTH), "INVALID_ARGUMENT", "no UINT8"),
        (asked(wire("temperature", "INT8", int_contents=[-129]), NORTH), "INVALID_ARGUMENT", "no INT8"),
        (asked(wire("temperature", "FP64", fp64_contents=[math.inf]), NORTH), "INVALID_ARGUMENT", "must be finite"),
        (asked(wire("temperature", "FP64", [-1], fp64_contents=[1]), NORTH), "INVALID_ARGUMENT", "no rows"),
        (asked(wire("temperature", "FP64", [2**62], fp64_contents=[1]), NORTH), "INVALID_ARGUMENT", "may hold 10,000"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), wire("site", "BYTES", bytes_contents=[b"\xff"])),
         "INVALID_ARGUMENT", "not UTF-8"),
        (asked(), "INVALID_ARGUMENT", "`inputs` is empty"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, id="two\nlines"), "INVALID_ARGUMENT", "control"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, outputs=[{"name": "mood"}]), "INVALID_ARGUMENT",
         "no output"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, model_name="nobody"), "NOT_FOUND", "no such"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, model_version="99"), "NOT_FOUND", "no other"),
        (asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH,
               parameters={"request_time": {"string_param": "0001-01-01T00:00:00+23:00"}}), "INVALID_ARGUMENT", "ISO"),
    ],
)  # fmt: skip
def test_a_wrong_grpc_request_is_the_sender_s_error(
    channel: grpc.Channel, request_: messages.ModelInferRequest, code: str, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ask(channel, request_)
    assert refused.value.code().name == code, refused.value.details()
    assert words in refused.value.details()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady"])
@pytest.mark.parametrize("content", [b"\xff" * 4, asked(wire("site", "BYTES")).SerializeToString()[:-1]])
def test_what_is_no_message_is_the_sender_s_error_too(
    channel: grpc.Channel, client: Client, method: str, content: bytes
) -> None:
    refused_before = refused_over_grpc(client)
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(content, timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"these bytes are no inference.{method}Request"
    assert {name for name, _ in refused.value.trailing_metadata()} >= {"x-request-id", "x-model-version"}
    assert refused_over_grpc(client) - refused_before == (method == "ModelInfer")


def refused_over_grpc(client: Client) -> float:
    """Requests for predictions that were said to be the sender's error, so far."""
    counted = 'protocol="grpc",code="INVALID_ARGUMENT",shadow="false"'
    return sum(float(line.split()[-1]) for line in client.get("/metrics").body.splitlines() if counted in line)


def test_grpc_answers_only_what_is_asked_for(channel: grpc.Channel) -> None:
    one = asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, outputs=[{"name": "decision"}])
    assert [output.name for output in ask(channel, one).outputs] == ["decision"]


def test_grpc_takes_eight_megabytes(channel: grpc.Channel) -> None:
    name = b"x" * 700
    texts = (struct.pack("<I", len(name)) + name) * 10_000
    raw = [np.zeros(10_000, "<f4").tobytes(), texts]
    answer = ask(channel, asked(wire("temperature", "FP32", [10_000]), wire("site", "BYTES", [10_000]), raw=raw))
    assert len(answer.raw_output_contents[0]) == 80_000


def test_grpc_says_what_it_is_and_how_it_is(channel: grpc.Channel) -> None:
    metadata, _ = call(
        channel, "ModelMetadata", messages.ModelMetadataRequest(name="devices"), messages.ModelMetadataResponse
    )
    assert [item.name for item in metadata.inputs] == ["device_id", "temperature", "site"]
    ready, _ = call(channel, "ModelReady", messages.ModelReadyRequest(name="devices"), messages.ModelReadyResponse)
    assert ready.ready
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "inference.GRPCInferenceService", "devices"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
    with pytest.raises(grpc.RpcError) as refused:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_every_grpc_answer_names_the_request_and_the_version(channel: grpc.Channel) -> None:
    good = asked(wire("temperature", "FP64", fp64_contents=[1]), NORTH, id="mine")
    _, done = call(channel, "ModelInfer", good, messages.ModelInferResponse)
    assert {("x-model-version", "1"), ("x-request-id", "mine")} <= set(done.trailing_metadata())
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, "ModelInfer", asked(NORTH, id="mine, too"), messages.ModelInferResponse)
    assert {("x-model-version", "1"), ("x-request-id", "mine%2C%20too")} <= set(refused.value.trailing_metadata())


@pytest.mark.parametrize("method", ["RepositoryModelUnload", "RepositoryModelLoad"])
def test_nobody_unloads_the_model_over_grpc(channel: grpc.Channel, method: str) -> None:
    request = getattr(messages, f"{method}Request")(model_name="devices")
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, method, request, getattr(messages, f"{method}Response"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_is_missing_is_null_or_not_a_number_in_every_way_to_ask(client: Client, channel: grpc.Channel) -> None:
    expected = pytest.approx([formula(math.nan, "")], abs=1e-6)
    assert scores_in(client.post(INFER, {"inputs": [temperature([None]), site(None)]})) == expected
    raw = messages.ModelInferRequest(
        model_name="devices",
        inputs=[wire("temperature", "FP32"), wire("site", "BYTES")],
        raw_input_contents=[struct.pack("<f", math.nan), struct.pack("<I", 0)],
    )
    assert list(memoryview(ask(channel, raw).raw_output_contents[0]).cast("d")) == expected
    answer = client.post(PREDICT, {"instances": [{"temperature": None, "site": None}]})
    assert [item["score"] for item in answer.json()["predictions"]] == expected
