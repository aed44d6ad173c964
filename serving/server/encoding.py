"""Encoding of answers: v1 and v2 in JSON, v2 with binary data, v2 over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.serving.server.batch import OUTPUTS
from kfp_lifecycle.serving.server.inference_pb2 import InferTensorContents, ModelInferResponse
from kfp_lifecycle.serving.server.predictor import Prediction

_RAW_KINDS = {"score": "<f8", "decision": "|u1"}
_json: Callable[[object], bytes] = msgspec.json.Encoder().encode


class Encoder:
    """Writes the answers of one version of a model."""

    def __init__(self, name: str, version: str) -> None:
        """Note what is in every answer."""
        self._name, self._version = name, version
        self._head = b'{"model_name":%b,"model_version":%b,"id":' % (_json(name), _json(version))

    def v2(self, prediction: Prediction) -> tuple[bytes, int | None]:
        """A v2 answer: the body, and where its JSON ends if raw bytes follow."""
        request = prediction.request
        outputs, raw = [], []
        for name in request.outputs:
            values = values_of(prediction, name)
            head = b'{"name":"%b","datatype":"%b","shape":[%d],' % (
                name.encode(),
                OUTPUTS[name].encode(),
                len(values),
            )
            if name in request.binary:
                content = values.astype(_RAW_KINDS[name]).tobytes()
                raw.append(content)
                outputs.append(head + b'"parameters":{"binary_data_size":%d}}' % len(content))
            else:
                outputs.append(head + b'"data":' + _json(values.tolist()) + b"}")
        body = self._head + _json(request.id) + b',"outputs":[' + b",".join(outputs) + b"]}"
        return (body + b"".join(raw), len(body)) if raw else (body, None)

    def v1(self, prediction: Prediction) -> bytes:
        """A v1 answer."""
        return _json(
            {
                "id": prediction.request.id,
                "model_name": self._name,
                "model_version": self._version,
                "predictions": [
                    {"score": score, "decision": decision}
                    for score, decision in zip(prediction.scores.tolist(), prediction.decisions.tolist(), strict=True)
                ],
            }
        )

    def grpc(self, prediction: Prediction, raw: bool) -> ModelInferResponse:
        """A v2 answer over gRPC.

        Args:
            prediction: What to answer.
            raw: Whether as raw bytes, as the request came.
        """
        answer = ModelInferResponse(model_name=self._name, model_version=self._version, id=prediction.request.id)
        for name in prediction.request.outputs:
            values = values_of(prediction, name)
            output = answer.outputs.add(name=name, datatype=OUTPUTS[name], shape=[len(values)])
            if raw:
                answer.raw_output_contents.append(values.astype(_RAW_KINDS[name]).tobytes())
            else:
                field = "fp64_contents" if name == "score" else "bool_contents"
                output.contents.CopyFrom(InferTensorContents(**{field: values.tolist()}))
        return answer


def values_of(prediction: Prediction, output: str) -> NDArray[Any]:
    """The values of an output."""
    return np.asarray(prediction.scores if output == "score" else prediction.decisions)


def refusal(message: str) -> bytes:
    """The one shape of an error."""
    return _json({"error": message.encode("utf-8", "backslashreplace").decode()})
