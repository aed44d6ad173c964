"""Encoding of answers: v1 and v2 in JSON, v2 with binary data, v2 over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.serving.server.batch import CONTRIBUTIONS, HOLD_OUT, OUTPUTS
from kfp_lifecycle.serving.server.inference_pb2 import InferTensorContents, ModelInferResponse
from kfp_lifecycle.serving.server.predictor import Prediction

_DATATYPES = {**OUTPUTS, HOLD_OUT: "BOOL", CONTRIBUTIONS: "FP64"}
_RAW_KINDS = {"score": "<f8", "decision": "|u1", HOLD_OUT: "|u1", CONTRIBUTIONS: "<f8"}
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
            head = b'{"name":"%b","datatype":"%b","shape":%b,' % (
                name.encode(),
                _DATATYPES[name].encode(),
                _json(values.shape),
            )
            if name in request.binary:
                content = values.astype(_RAW_KINDS[name]).tobytes()
                raw.append(content)
                outputs.append(head + b'"parameters":{"binary_data_size":%d}}' % len(content))
            else:
                outputs.append(head + b'"data":' + _json(values.ravel().tolist()) + b"}")
        body = self._head + _json(request.id) + b',"outputs":[' + b",".join(outputs) + b"]}"
        return (body + b"".join(raw), len(body)) if raw else (body, None)

    def v1(self, prediction: Prediction) -> bytes:
        """A v1 answer."""
        return _json(
            {
                "id": prediction.request.id,
                "model_name": self._name,
                "model_version": self._version,
                "predictions": _rows(prediction),
            }
        )

    def explanations(self, prediction: Prediction, features: Sequence[str], explainer: Explainer) -> bytes:
        """A v1 answer with reasons: what each feature adds to the score, the strongest first.

        Args:
            prediction: What to answer.
            features: Names, in the order of the contributions.
            explainer: What explained it.
        """
        assert prediction.contributions is not None
        return _json(
            {
                "id": prediction.request.id,
                "model_name": self._name,
                "model_version": self._version,
                "scale": explainer.scale,
                "base": explainer.base,
                "explanations": [
                    {
                        **told,
                        "contributions": {
                            features[at]: float(row[at]) for at in np.argsort(-np.abs(row), kind="stable")
                        },
                    }
                    for told, row in zip(_rows(prediction), prediction.contributions, strict=True)
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
            output = answer.outputs.add(name=name, datatype=_DATATYPES[name], shape=values.shape)
            if raw:
                answer.raw_output_contents.append(values.astype(_RAW_KINDS[name]).tobytes())
            else:
                field = "bool_contents" if _DATATYPES[name] == "BOOL" else "fp64_contents"
                output.contents.CopyFrom(InferTensorContents(**{field: values.ravel().tolist()}))
        return answer


def _rows(prediction: Prediction) -> list[dict[str, Any]]:
    """What v1 says of each row."""
    columns = {"score": prediction.scores.tolist(), "decision": prediction.decisions.tolist()}
    if (held_out := prediction.request.batch.held_out) is not None:
        columns[HOLD_OUT] = held_out.tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def values_of(prediction: Prediction, output: str) -> NDArray[Any]:
    """The values of an output."""
    if output == CONTRIBUTIONS:
        return np.asarray(prediction.contributions)
    if output == HOLD_OUT:
        return np.asarray(prediction.request.batch.held_out)
    return np.asarray(prediction.scores if output == "score" else prediction.decisions)


def refusal(message: str) -> bytes:
    """The one shape of an error."""
    return _json({"error": message.encode("utf-8", "backslashreplace").decode()})
