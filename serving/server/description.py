"""What a served model takes and gives: metadata, and the OpenAPI document of the REST interface."""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.serving.server.batch import CONTRIBUTIONS, HOLD_OUT, OUTPUTS
from kfp_lifecycle.serving.server.predictor import Predictor
from kfp_lifecycle.serving.server.tensors import DATATYPES

SERVER = "kfp-lifecycle"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ["binary_tensor_data", "model_repository"]


def inputs_of(predictor: Predictor) -> list[dict[str, Any]]:
    """The inputs: the entity key, which may come alone, and the features."""
    decoder = predictor.decoder
    kinds = dict.fromkeys(decoder.numeric, "FP32") | dict.fromkeys(decoder.categorical, "BYTES")
    features = [feature.name for feature in predictor.model.features]
    return [
        {"name": name, "datatype": datatype, "shape": [-1]}
        for name, datatype in [(decoder.entity_key, "BYTES"), *((name, kinds[name]) for name in features)]
    ]


def outputs(predictor: Predictor) -> list[dict[str, Any]]:
    """The outputs; contributions are answered only where they are asked for."""
    found = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()]
    if HOLD_OUT in predictor.decoder.outputs:
        found.append({"name": HOLD_OUT, "datatype": "BOOL", "shape": [-1]})
    if predictor.explainer is not None:
        found.append({"name": CONTRIBUTIONS, "datatype": "FP64", "shape": [-1, len(predictor.model.features)]})
    return found


def parameters_of(predictor: Predictor) -> dict[str, Any]:
    """What a client may want to know beside the tensors: how an entity is named, and how contributions are read."""
    explainer = predictor.explainer
    return {
        "entity_key": predictor.decoder.entity_key,
        "features": [feature.name for feature in predictor.model.features],
        "threshold": predictor.threshold,
        **({} if explainer is None else {"contributions": {"scale": explainer.scale, "base": explainer.base}}),
    }


def openapi(predictor: Predictor) -> dict[str, Any]:
    """The OpenAPI document."""
    names = [item["name"] for item in inputs_of(predictor)]
    model, version = predictor.name, predictor.version
    infer = _operation("Predict (v2)", _reference("InferRequest"), _reference("InferResponse"))
    predict = _operation("Predict (v1)", _reference("PredictRequest"), _reference("PredictResponse"))
    explain = _operation("Predict and explain (v1)", _reference("PredictRequest"), _reference("ExplainResponse"))
    state = {"get": _operation("Whether it may be asked", None, {"type": "object"}, unavailable=True)}
    plain = {"get": _operation("Description", None, {"type": "object"})}
    return {
        "openapi": "3.1.0",
        "info": {"title": model, "version": version},
        "paths": {
            "/v2": plain,
            "/v2/health/live": state,
            "/v2/health/ready": state,
            f"/v2/models/{model}": plain,
            f"/v2/models/{model}/ready": state,
            f"/v2/models/{model}/infer": {"post": infer},
            f"/v2/models/{model}/versions/{version}": plain,
            f"/v2/models/{model}/versions/{version}/ready": state,
            f"/v2/models/{model}/versions/{version}/infer": {"post": infer},
            f"/v1/models/{model}": plain,
            f"/v1/models/{model}:predict": {"post": predict},
            **({} if predictor.explainer is None else {f"/v1/models/{model}:explain": {"post": explain}}),
        },
        "components": {"schemas": _schemas(names, list(predictor.decoder.outputs), predictor.decoder.max_rows)},
    }


def _schemas(names: list[str], wanted: list[str], max_rows: int) -> dict[str, Any]:
    value = {"type": ["number", "boolean", "string", "null"]}
    parameters = {"type": ["object", "null"]}
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"enum": names},
            "datatype": {"enum": list(DATATYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": max_rows}, "minItems": 1},
            "data": {"type": "array"},
            "parameters": parameters,
        },
    }
    requested = {"type": "object", "required": ["name"], "properties": {"name": {"enum": wanted}}}
    request = {
        "id": {"type": ["string", "null"], "maxLength": 256},
        "parameters": parameters,
        "inputs": {"type": "array", "minItems": 1, "items": tensor},
        "outputs": {"type": ["array", "null"], "items": requested},
    }
    instances = {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": value}}
    answered = {"model_name": {"type": "string"}, "model_version": {"type": "string"}, "id": {"type": "string"}}
    return {
        "InferRequest": {"type": "object", "required": ["inputs"], "properties": request},
        "InferResponse": {
            "type": "object",
            "required": [*answered, "outputs"],
            "properties": {**answered, "outputs": {"type": "array", "items": {"type": "object"}}},
        },
        "PredictRequest": {
            "type": "object",
            "required": ["instances"],
            "properties": {"instances": instances, "parameters": parameters},
        },
        "PredictResponse": {
            "type": "object",
            "required": [*answered, "predictions"],
            "properties": {**answered, "predictions": {"type": "array", "items": {"type": "object"}}},
        },
        "ExplainResponse": {
            "type": "object",
            "required": [*answered, "scale", "base", "explanations"],
            "properties": {
                **answered,
                "scale": {"enum": ["log-odds", "probability"]},
                "base": {"type": "number"},
                "explanations": {"type": "array", "items": {"type": "object"}},
            },
        },
        "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    }


def _operation(
    summary: str, body: dict[str, Any] | None, answer: dict[str, Any], unavailable: bool = False
) -> dict[str, Any]:
    error = {"description": "Why not", "content": {"application/json": {"schema": _reference("Error")}}}
    responses: dict[str, Any] = {
        "200": {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    }
    if body is not None:
        responses |= dict.fromkeys(("400", "401", "408", "413", "415", "429", "431", "503"), error)
    if unavailable:
        responses["503"] = {"description": "Not now", "content": {"application/json": {"schema": answer}}}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
