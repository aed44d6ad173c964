"""What a release sends to KServe is what KServe's own definition of an InferenceService accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes import client as kubernetes

from components.contract import ContractViolation
from project.production import Deployment, Store, Strategy
from serving.inference_service import (
    IMAGE_VARIABLE,
    InferenceServiceTraffic,
    inference_service,
    serving_image,
    share_of,
    storage_uri,
)

DEFINITION = Path(__file__).resolve().parents[3] / "shared" / "crds" / "serving.kserve.io_inferenceservices.yaml"
STORES = Store(
    tracking_uri="http://mlflow",
    dataset_remote="s3://datasets",
    online_store="redis://redis:6379",
    prediction_log="/predictions",
    serving="kserve:models",
)


@pytest.fixture
def manifest() -> dict[str, Any]:
    service = inference_service(
        "models", Deployment(model="churn"), STORES, version="3", uri="minio://bucket/run/model", image="serving:1"
    )
    found: dict[str, Any] = kubernetes.ApiClient().sanitize_for_serialization(service)
    return found


@pytest.fixture(scope="module")
def definition() -> jsonschema.Draft202012Validator:
    """KServe's schema of a predictor; that of the whole service repeats a pod's schema a dozen times."""
    content = yaml.load(DEFINITION.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    versions = {item["name"]: item["schema"]["openAPIV3Schema"] for item in content["spec"]["versions"]}
    service = versions["v1beta1"]["properties"]
    return jsonschema.Draft202012Validator(closed(service["spec"]["properties"]["predictor"]))


@pytest.mark.skipif(not DEFINITION.exists(), reason="KServe's CustomResourceDefinition is not in ../shared/crds")
@pytest.mark.parametrize("canary", [None, 0, 25])
def test_the_manifest_meets_the_definition_of_an_inference_service(
    manifest: dict[str, Any], definition: jsonschema.Draft202012Validator, canary: int | None
) -> None:
    predictor = manifest["spec"]["predictor"]
    if canary is not None:
        predictor["canaryTrafficPercent"] = canary
    assert [error.message for error in definition.iter_errors(predictor)] == []
    predictor["containers"][0]["imagee"] = "a misspelt key"
    assert not definition.is_valid(predictor)


def closed(schema: Any) -> Any:
    """A structural schema that refuses unknown keys, as the API server drops them silently."""
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) if key != "properties" else value for key, value in schema.items()}
    if "properties" in schema:
        found["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        free = schema.get("x-kubernetes-preserve-unknown-fields") or set(schema["properties"]) <= {"name", "namespace"}
        if not free and "additionalProperties" not in schema:
            found["additionalProperties"] = False
    return found


def test_the_server_runs_the_code_that_came_with_the_model(manifest: dict[str, Any]) -> None:
    (container,) = manifest["spec"]["predictor"]["containers"]
    assert container["workingDir"] == "/mnt/models/code"
    assert container["env"] == [{"name": "STORAGE_URI", "value": "s3://bucket/run/model"}]
    assert "--version=3" in container["args"]
    assert container["securityContext"]["runAsNonRoot"] is True


def test_a_model_that_no_pod_can_read_is_refused() -> None:
    with pytest.raises(ContractViolation, match="object store"):
        storage_uri("/home/me/model")


def test_a_cluster_release_without_an_image_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    with pytest.raises(ContractViolation, match="--image-registry"):
        serving_image()


def test_a_shadow_release_is_refused_where_nothing_mirrors() -> None:
    with pytest.raises(ContractViolation, match="cannot mirror"):
        InferenceServiceTraffic("models", Deployment(model="churn", strategy=Strategy.shadow), STORES, "3", "gs://b/m")


def test_the_share_of_a_revision_is_what_its_status_says() -> None:
    status = {"traffic": [{"revisionName": "a", "percent": 90}, {"revisionName": "b", "percent": 10}]}
    assert (share_of(status, "a"), share_of(status, "b"), share_of(status, "c")) == (90, 10, 0)
