"""Inference protocols v1 and v2: the same rows over each, and requests that none of them may accept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client, scores_in, v2_request
from kfp_lifecycle.serving.server import inference_pb2 as messages

GRPC_SECONDS = 30.0
MALFORMED = (
    "no JSON",
    "no inputs",
    "an input of another name",
    "an input of another datatype",
    "fewer values than the shape says",
    "an infinite value",
    "no rows",
    "v1 without instances",
    "another model",
)


def v2_scores(client: Client, model: str, inputs: Sequence[Feature], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Scores of all rows in one v2 request over REST."""
    return scores_in(client.post(f"/v2/models/{model}/infer", v2_request(inputs, rows)))


def v1_scores(client: Client, model: str, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Scores of all rows in one v1 request.

    Raises:
        ContractViolation: the request was refused.
    """
    answer = client.post(f"/v1/models/{model}:predict", {"instances": list(rows)})
    if answer.status != 200:
        raise ContractViolation(
            f"the server refused its model's own baseline over v1 with {answer.status}: {answer.body[:300]}. "
            "Mend serving/ and register the model again."
        )
    return [float(prediction["score"]) for prediction in answer.json()["predictions"]]


def grpc_scores(port: int, model: str, inputs: Sequence[Feature], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Scores of all rows in one v2 request over gRPC.

    Raises:
        ContractViolation: the request failed.
    """
    request = messages.ModelInferRequest(model_name=model, inputs=[tensor(item, rows) for item in inputs])
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            answer = infer(request, timeout=GRPC_SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        raise ContractViolation(
            f"the server refused its model's own baseline over gRPC: {error}. "
            "Mend serving/ and register the model again."
        ) from error
    contents = {output.name: output.contents for output in answer.outputs}
    return list(contents["score"].fp64_contents)


def tensor(item: Feature, rows: Sequence[Mapping[str, Any]]) -> messages.ModelInferRequest.InferInputTensor:
    """One feature of all rows; over gRPC a missing number is NaN and a missing text empty."""
    values = [row[item.name] for row in rows]
    if item.type == "numeric":
        contents: dict[str, Any] = {"fp64_contents": [math.nan if value is None else float(value) for value in values]}
        datatype = "FP64"
    else:
        contents = {"bytes_contents": [b"" if value is None else str(value).encode() for value in values]}
        datatype = "BYTES"
    return messages.ModelInferRequest.InferInputTensor(
        name=item.name, datatype=datatype, shape=[len(rows)], contents=contents
    )


def malformed_requests(
    model: str, entity_key: str, inputs: Sequence[Feature], row: Mapping[str, Any]
) -> dict[str, tuple[str, object]]:
    """For each of MALFORMED the path and body of such a request."""
    infer = f"/v2/models/{model}/infer"
    tensors = v2_request(inputs, [row])["inputs"]
    first, others = tensors[0], tensors[1:]
    wrong = "BYTES" if first["datatype"] != "BYTES" else "FP64"
    infinite = {"name": first["name"], "shape": [1], "datatype": "FP64", "data": [math.inf]}
    cases: tuple[tuple[str, object], ...] = (
        (infer, b'{"inputs": ['),
        (infer, {"inputs": []}),
        (infer, {"inputs": [{**first, "name": f"{first['name']}_"}, *others]}),
        (infer, {"inputs": [{**first, "datatype": wrong, "data": ["x" if wrong == "BYTES" else 1.0]}, *others]}),
        (infer, {"inputs": [{**first, "shape": [2]}, *others]}),
        (infer, {"inputs": [infinite, *others]}),
        (infer, {"inputs": [{"name": entity_key, "shape": [0], "datatype": "BYTES", "data": []}]}),
        (f"/v1/models/{model}:predict", {"rows": [dict(row)]}),
        (f"/v2/models/{model}-of-nobody/infer", {"inputs": tensors}),
    )
    return dict(zip(MALFORMED, cases, strict=True))
