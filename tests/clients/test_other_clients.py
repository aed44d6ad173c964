"""Clients of the inference protocol that others wrote: Triton's, KServe's and MLServer's, curl, gRPC's reflection,
schemathesis."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import schemathesis
import tritonclient.grpc
import tritonclient.http
from conftest import Served
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from kfp_lifecycle.environments.locks import interpreter

TEMPERATURES, SITES = np.array([30.0, 20.0, math.nan], np.float32), np.array(["north", "south", "north"], object)


def formula(temperature: float, site: str) -> float:
    """The tiny model, written down again."""
    heat = 0.04 * (20 if math.isnan(temperature) else temperature)
    return 1 / (1 + math.exp(-(heat + {"north": -1.0, "south": -2.0}[site])))


EXPECTED = pytest.approx([formula(float(t), s) for t, s in zip(TEMPERATURES, SITES, strict=True)], abs=1e-6)


# Triton's clients.


@pytest.fixture
def triton(server: Served) -> Iterator[Any]:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    yield client
    client.close()


@pytest.fixture
def triton_grpc(server: Served) -> Iterator[Any]:
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    yield client
    client.close()


def triton_inputs(library: Any, **how: Any) -> list[Any]:
    inputs = [library.InferInput("temperature", [3], "FP32"), library.InferInput("site", [3], "BYTES")]
    for item, values in zip(inputs, (TEMPERATURES, SITES), strict=True):
        item.set_data_from_numpy(values, **how)
    return inputs


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False])
def test_triton_sends_and_gets_binary_data(triton: Any, packed: str | None, binary_out: bool) -> None:
    outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=binary_out) for name in ("score", "decision")]
    found = triton.infer(
        "devices", triton_inputs(tritonclient.http), "1", outputs, "mine", request_compression_algorithm=packed
    )
    assert found.as_numpy("score").tolist() == EXPECTED
    assert found.as_numpy("decision").dtype == np.bool_
    assert found.get_response()["id"] == "mine"


def test_triton_sends_json_without_a_content_type(triton: Any) -> None:
    known = [
        tritonclient.http.InferInput("temperature", [2], "FP32"),
        tritonclient.http.InferInput("site", [2], "BYTES"),
    ]
    known[0].set_data_from_numpy(TEMPERATURES[:2], binary_data=False)
    known[1].set_data_from_numpy(SITES[:2], binary_data=False)
    assert triton.infer("devices", known).as_numpy("score").tolist() == pytest.approx(
        [formula(30, "north"), formula(20, "south")], abs=1e-6
    )


@pytest.mark.parametrize("kind", ["triton", "triton_grpc"])
def test_triton_asks_how_and_what_the_server_is(kind: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(kind)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("devices")
    assert client.is_model_ready("devices", "1")
    assert not client.is_model_ready("nobody") if kind == "triton" else True
    metadata = client.get_model_metadata("devices")
    names = metadata["inputs"] if kind == "triton" else metadata.inputs
    assert len(names) == 3


def test_triton_sends_a_batch_over_grpc(triton_grpc: Any) -> None:
    found = triton_grpc.infer("devices", triton_inputs(tritonclient.grpc), "1", request_id="mine")
    assert found.as_numpy("score").tolist() == EXPECTED
    assert found.get_response().id == "mine"


@pytest.mark.parametrize("kind", ["triton", "triton_grpc"])
def test_triton_is_told_of_its_mistakes(kind: str, request: pytest.FixtureRequest) -> None:
    library = tritonclient.http if kind == "triton" else tritonclient.grpc
    client = request.getfixturevalue(kind)
    for arguments, words in (
        (("devices", triton_inputs(library)[:1]), "lacks `site`"),
        (("devices", triton_inputs(library), "99"), "version 1, no other"),
        (("nobody", triton_inputs(library)), "no such model"),
        (("devices", triton_inputs(library), "1", [library.InferRequestedOutput("mood")]), "no output"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(*arguments)


# KServe's clients, in a process of their own: their messages have the names of Triton's.


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_kserve_s_clients_send_batches(server: Served, protocol: str) -> None:
    port = server.http_port if protocol == "rest" else server.grpc_port
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kserve_clients.py"), protocol, str(port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED


# MLServer's types, in an environment of their own.


def test_mlserver_s_types_describe_what_is_asked_and_answered(server: Served) -> None:
    client = Path(__file__).with_name("mlserver_client.py")
    command = [interpreter("mlserver"), client, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(EXPECTED, abs=1e-6)


# curl, and what finds out by itself what there is.


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("options", ["", "-H content-type:application/json", "--http1.0", "-H expect:100-continue"])
def test_curl(server: Served, options: str) -> None:
    body = {"instances": [{"temperature": 30, "site": "north"}]}
    command = ["curl", "-sS", "--fail-with-body", *options.split(), "-d", json.dumps(body)]
    done = subprocess.run(
        [*command, f"{server.url}/v1/models/devices:predict"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["predictions"][0]["score"] == pytest.approx(formula(30, "north"), abs=1e-6)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_sends_a_packed_body(server: Served, tmp_path: Any) -> None:
    packed = tmp_path / "body.gz"
    packed.write_bytes(gzip.compress(json.dumps({"instances": [{"temperature": 30, "site": "north"}]}).encode()))
    command = ["curl", "-sS", "--fail-with-body", "-H", "content-encoding: gzip", "--data-binary", f"@{packed}"]
    subprocess.run([*command, f"{server.url}/v1/models/devices:predict"], check=True)


def test_reflection_tells_a_client_all_that_it_needs_to_ask(server: Served) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
        methods = {method.name: method for method in service.methods}
    for method in methods.values():
        for message in (method.input_type, method.output_type):
            theirs = getattr(service_pb2, message.name).DESCRIPTOR
            assert fields(message).items() <= fields(theirs).items() or message.name.startswith("Repository")


def fields(message: Any) -> dict[str, tuple[int, int]]:
    """A message as it goes over the wire; of a message within it `name.field`."""
    found = {}
    for field in message.fields:
        found[field.name] = field.number, field.type
        if field.message_type:
            found |= {f"{field.name}.{name}": item for name, item in fields(field.message_type).items()}
    return found


@pytest.mark.slow
def test_nothing_that_schemathesis_makes_of_the_openapi_document_is_a_server_s_error(server: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = 0

    for result in schema.get_all_operations():
        strategy = result.ok().as_strategy()

        @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(base_url=server.url, checks=[not_a_server_error])

        ask()
    assert asked > 50
