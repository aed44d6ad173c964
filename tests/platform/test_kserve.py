"""What a release sends to KServe is what KServe's own definition of an InferenceService accepts."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes import client as kubernetes
from pydantic import ValidationError

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.kserve_servers import KServeServers
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import digest
from kfp_lifecycle.serving.container import (
    IMAGE_VARIABLE,
    KSERVE_VARIABLE,
    SECRETS_VARIABLE,
    VOLUMES_VARIABLE,
    Container,
    serving_container,
)
from kfp_lifecycle.serving.payload_logger import ANNOTATION, LoggedModel
from kfp_lifecycle.serving.release.kserve.inference_service import inference_service
from kfp_lifecycle.serving.release.kserve.live_service import VERSION, VERSION_BEFORE
from kfp_lifecycle.serving.release.kserve.predictor import predictor, storage_uri
from kfp_lifecycle.serving.release.kserve.standard import ANNOTATIONS

DEFINITION = Path(__file__).resolve().parents[3] / "shared" / "crds" / "serving.kserve.io_inferenceservices.yaml"
LOCATIONS = Locations(
    tracking_uri="http://mlflow",
    dataset_remote="s3://datasets",
    online_store="redis://:${REDIS_PASSWORD}@redis:6379",
    prediction_log="/predictions",
    serving="kserve:models",
)
MODEL = LoggedModel(
    features=(Feature("age", "numeric"), Feature("site", "categorical")), entity_key="customer_id", threshold=0.4
)
SECRETS = {"redis": {"password": "REDIS_PASSWORD"}, "mlflow": {"password": "MLFLOW_TRACKING_PASSWORD"}}


def manifest(container: Container, deployment: Deployment | None = None, **volumes: str) -> dict[str, Any]:
    service = inference_service(
        "models",
        deployment or Deployment(model="churn"),
        LOCATIONS,
        version="3",
        before="2",
        uri="minio://bucket/run/model",
        logged=MODEL,
        container=replace(container, volumes=volumes, secrets=SECRETS),
        shadow_token="token",
    )
    found: dict[str, Any] = kubernetes.ApiClient().sanitize_for_serialization(service)
    return found


BUILT = Container("registry/serving:1", kserve=KServeServers(service_account="models"))
STOCK = Container("python:3.11-slim")
COLLECTED = replace(BUILT, kserve=KServeServers(log_collector="http://prediction-log:8080"))


@pytest.fixture(scope="module")
def definition() -> jsonschema.Draft202012Validator:
    """KServe's schema of a predictor; that of the whole service repeats a pod's schema a dozen times."""
    content = yaml.load(DEFINITION.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    versions = {item["name"]: item["schema"]["openAPIV3Schema"] for item in content["spec"]["versions"]}
    service = versions["v1beta1"]["properties"]
    return jsonschema.Draft202012Validator(closed(service["spec"]["properties"]["predictor"]))


@pytest.mark.skipif(not DEFINITION.exists(), reason="KServe's CustomResourceDefinition is not in ../shared/crds")
@pytest.mark.parametrize(("container", "canary"), [(BUILT, None), (BUILT, 0), (STOCK, 25), (COLLECTED, 10)])
def test_the_manifest_meets_the_definition_of_an_inference_service(
    definition: jsonschema.Draft202012Validator, container: Container, canary: int | None
) -> None:
    predictor = manifest(container, data="/data")["spec"]["predictor"]
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


def test_the_server_runs_the_code_that_came_with_the_model() -> None:
    service = manifest(BUILT)
    (container,) = service["spec"]["predictor"]["containers"]
    assert [item for item in container["env"] if "value" in item] == [
        {"name": "STORAGE_URI", "value": "s3://bucket/run/model"},
        {"name": "MODEL_FOLDER", "value": "/mnt/models"},
        {"name": "LIFECYCLE_SHADOW_TOKEN", "value": "token"},
    ]
    assert "--version=3" in container["args"]
    assert "runAsUser" not in container["securityContext"]
    annotations = service["metadata"]["annotations"]
    assert (annotations[VERSION], annotations[VERSION_BEFORE]) == ("3", "2")
    # Where KServe's default mode is another, the canary's share would be passed over.
    assert annotations["serving.kserve.io/deploymentMode"] == "Serverless"


@pytest.mark.parametrize("container", [BUILT, STOCK])
def test_a_server_asks_for_no_more_than_the_restricted_standard_allows(container: Container) -> None:
    predictor = manifest(container)["spec"]["predictor"]
    # Knative takes no security context of a pod, unless it is told to.
    assert "securityContext" not in predictor
    (server,) = predictor["containers"]
    assert (
        server["securityContext"].items()
        >= {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }.items()
    )


def test_a_servers_pods_work_as_the_account_that_is_named_and_else_as_the_namespaces_own() -> None:
    assert manifest(BUILT)["spec"]["predictor"]["serviceAccountName"] == "models"
    assert "serviceAccountName" not in manifest(STOCK)["spec"]["predictor"]


def test_on_a_stock_image_the_container_runs_as_a_user_that_is_not_root_and_has_a_home() -> None:
    (container,) = manifest(STOCK)["spec"]["predictor"]["containers"]
    variables = {item["name"]: item.get("value") for item in container["env"]}
    assert variables["HOME"] == "/tmp"
    assert container["securityContext"]["runAsUser"] == 1000


def test_a_server_gets_the_password_of_the_online_store_and_no_other_secret() -> None:
    [server] = manifest(BUILT)["spec"]["predictor"]["containers"]
    assert "--online_store=redis://:${REDIS_PASSWORD}@redis:6379" in server["args"]
    taken = [variable for variable in server["env"] if "valueFrom" in variable]
    secret = {"secretKeyRef": {"name": "redis", "key": "password"}}
    assert taken == [{"name": "REDIS_PASSWORD", "valueFrom": secret}]


def test_the_prediction_log_is_kept_where_a_claim_is_mounted_and_can_be_written_without() -> None:
    scratch = {"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}
    kept = manifest(BUILT, predictions="/predictions")["spec"]["predictor"]
    claim = {"name": "predictions", "persistentVolumeClaim": {"claimName": "predictions"}}
    assert kept["volumes"] == [claim, scratch]
    assert kept["containers"][0]["volumeMounts"] == [
        {"name": "predictions", "mountPath": "/predictions"},
        {"name": "scratch", "mountPath": "/tmp"},
    ]
    lost = manifest(BUILT)["spec"]["predictor"]
    assert lost["volumes"] == [scratch, {"name": "prediction-log", "emptyDir": {"sizeLimit": "2Gi"}}]
    assert {"name": "prediction-log", "mountPath": "/predictions"} in lost["containers"][0]["volumeMounts"]


def test_a_log_in_an_object_store_takes_no_volume_but_the_stores_keys() -> None:
    deployment = Deployment.model_validate({"model": "churn", "prediction_log": {"key": "hashed"}})
    secrets = {"store": {"key": "AWS_SECRET_ACCESS_KEY", "other": "OTHER"}, "log": {"secret": "LIFECYCLE_LOG_SECRET"}}
    pods = predictor(
        deployment,
        LOCATIONS.model_copy(update={"prediction_log": "s3://logs/predictions"}),
        version="3",
        uri="s3://bucket/run/model",
        logged=MODEL,
        container=replace(BUILT, secrets=secrets),
        shadow_token="token",
    )
    (server,) = pods.containers
    assert [volume.name for volume in pods.volumes] == ["scratch"]
    given = {variable.name for variable in server.env if variable.value_from is not None}
    assert given == {"AWS_SECRET_ACCESS_KEY", "LIFECYCLE_LOG_SECRET"}
    assert {"--prediction_log=s3://logs/predictions", "--log_key=hashed"} <= set(server.args)


def test_with_a_collector_the_payload_logger_tells_it_everything_and_servers_write_no_log() -> None:
    deployment = Deployment.model_validate(
        {
            "model": "churn",
            "prediction_log": {"retention_days": 7},
            "server": {"hold_out": 0.1, "trusted_proxies": 2},
        }
    )
    pods = manifest(COLLECTED, deployment, predictions="/predictions", other="/other")["spec"]["predictor"]
    assert pods["logger"] == {
        "mode": "all",
        "url": "http://prediction-log:8080",
        # As Go writes headers, since the logger compares them letter by letter.
        "metadataHeaders": ["Content-Encoding", "Inference-Header-Content-Length", "X-Forwarded-For", "X-Shadow"],
        "metadataAnnotations": [ANNOTATION],
    }
    annotation = pods["annotations"][ANNOTATION]
    assert not set(annotation) & set(",\"' "), "the logger would take it apart"
    told = LoggedModel.read(annotation)
    expected = {"settings": deployment.prediction_log, "shadow": digest("token"), "hold_out": 0.1, "trusted_proxies": 2}
    assert told == MODEL.model_copy(update=expected)
    assert "--log=no" in pods["containers"][0]["args"]
    assert [volume["name"] for volume in pods["volumes"]] == ["other", "scratch"]


def test_where_nothing_of_a_request_is_logged_only_answers_leave_the_pod() -> None:
    logged = {"features": False, "key": "none"}
    pods = manifest(COLLECTED, Deployment.model_validate({"model": "churn", "prediction_log": logged}))
    predictor = pods["spec"]["predictor"]
    assert predictor["logger"]["mode"] == "response"
    assert LoggedModel.read(predictor["annotations"][ANNOTATION]).features == ()


def test_where_nothing_is_logged_there_is_no_logger() -> None:
    nothing = Deployment.model_validate({"model": "churn", "prediction_log": {"enabled": False}})
    pods = manifest(COLLECTED, nothing)["spec"]["predictor"]
    assert "logger" not in pods
    assert ANNOTATION not in pods["annotations"]


def test_more_features_than_an_event_can_name_are_refused() -> None:
    many = tuple(Feature(hashlib.sha256(str(at).encode()).hexdigest(), "numeric") for at in range(500))
    with pytest.raises(ContractViolation, match=r"the model.s 500 features take .* leave out log_collector"):
        MODEL.model_copy(update={"features": many}).written()
    with pytest.raises(ValueError, match="none of a release"):
        LoggedModel.read("bm9uZQ==")


def test_resources_concurrency_time_outs_and_scaling_are_settings() -> None:
    servers = KServeServers.model_validate(
        {
            "cpu": 2,
            "cpu_limit": None,
            "memory": "2Gi",
            "memory_limit": "4Gi",
            "concurrency": 16,
            "timeout_seconds": 5,
            "scaling": {"metric": "rps", "target": 100},
        }
    )
    pods = manifest(replace(BUILT, kserve=servers))["spec"]["predictor"]
    (server,) = pods["containers"]
    assert server["resources"] == {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    assert (pods["containerConcurrency"], pods["timeout"]) == (16, 5)
    assert (pods["scaleMetric"], pods["scaleTarget"]) == ("rps", 100)
    assert (pods["minReplicas"], pods["maxReplicas"]) == (2, 3)


def test_life_is_asked_apart_from_readiness_and_not_while_packages_are_installed() -> None:
    for container, delay in ((BUILT, 30), (STOCK, 600)):
        (server,) = manifest(container)["spec"]["predictor"]["containers"]
        assert server["readinessProbe"]["httpGet"]["path"] == "/v2/models/churn/ready"
        assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        assert server["livenessProbe"]["initialDelaySeconds"] == delay
        # Knative takes one port, and no startup probe in every version.
        assert [port["name"] for port in server["ports"]] == ["http1"]
        assert "startupProbe" not in server


def test_in_standard_mode_pods_are_spread_and_drained_and_one_more_comes_before_one_goes() -> None:
    servers = KServeServers.model_validate({"mode": "standard", "scaling": {"metric": "memory", "target": 60}})
    pods = manifest(replace(STOCK, kserve=servers))["spec"]["predictor"]
    spread = {item["topologyKey"]: item["labelSelector"]["matchLabels"] for item in pods["topologySpreadConstraints"]}
    every_pod = {"serving.kserve.io/inferenceservice": "churn"}
    assert spread == {"kubernetes.io/hostname": every_pod, "topology.kubernetes.io/zone": every_pod}
    assert pods["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (server,) = pods["containers"]
    drained = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    # What a server is answering by then takes 10 seconds at the most.
    assert pods["terminationGracePeriodSeconds"] > drained + 10
    probes = {server[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")}
    assert probes == {"/v2/health/live"}
    assert "initialDelaySeconds" not in server["livenessProbe"]
    assert pods["autoScaling"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    # By the class `keda` KServe would give a canary a ScaledObject without a trigger.
    assert ANNOTATIONS["serving.kserve.io/autoscalerClass"] == "hpa"


def test_labels_and_annotations_are_those_that_tools_look_for() -> None:
    service = manifest(BUILT)
    assert service["metadata"]["labels"] == {
        "app.kubernetes.io/name": "churn",
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/managed-by": "kfp-lifecycle",
    }
    pods = service["spec"]["predictor"]
    assert pods["labels"] == {"app.kubernetes.io/version": "3"}
    assert pods["annotations"] == {
        "prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("servers", "rule"),
    [
        ({"image": "registry/serving:latest"}, "@sha256:[0-9a-f]{64}"),
        ({"mode": "standard", "concurrency": 4}, "concurrency is Knative's"),
        ({"mode": "standard", "scaling": {"metric": "rps", "target": 5}}, "choose cpu or memory"),
        ({"scaling": {"metric": "cpu", "target": 800}}, "in percent of what a pod requests: at most 100"),
        ({"mode": "standard", "log_collector": "http://prediction-log:8080"}, "leads past its payload logger"),
        ({"log_collector": "prediction-log"}, "http://[^"),
        ({"cpu": 2}, "cpu_limit (1) is below cpu (2)"),
        ({"memory": "2Gi"}, "memory_limit (1Gi) is below memory (2Gi)"),
    ],
)
def test_servers_that_no_cluster_could_run_are_refused(servers: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(rule)):
        KServeServers.model_validate(servers)


def test_a_model_that_no_pod_can_read_is_refused() -> None:
    with pytest.raises(ContractViolation, match="object store"):
        storage_uri("/home/me/model")


def test_a_cluster_release_that_was_compiled_for_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    with pytest.raises(ContractViolation, match="Compile the pipeline for a cluster"):
        serving_container()


def test_a_server_is_told_who_may_ask_and_gets_the_keys_out_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECRETS, "keys", {"api": "API_KEYS"})
    asked = {"api_keys": "${API_KEYS}", "rate_limit": {"per_second": 50}, "log_format": "json"}
    deployment = Deployment.model_validate({"model": "churn", "server": asked})
    [server] = manifest(BUILT, deployment)["spec"]["predictor"]["containers"]
    assert {"--api_keys=${API_KEYS}", "--requests_per_second=50", "--burst=20", "--log_format=json"} <= {
        *server["args"]
    }
    taken = {item["name"]: item["valueFrom"]["secretKeyRef"] for item in server["env"] if "valueFrom" in item}
    assert taken["API_KEYS"] == {"name": "keys", "key": "api"}


def test_a_step_learns_from_its_variables_which_secrets_and_volumes_servers_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, "registry/serving:1")
    for name in (SECRETS_VARIABLE, VOLUMES_VARIABLE, KSERVE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert (serving_container().secrets, serving_container().volumes) == ({}, {})
    assert serving_container().kserve == KServeServers()
    pinned = f"registry/serving@sha256:{'0' * 64}"
    monkeypatch.setenv(KSERVE_VARIABLE, json.dumps({"service_account": "models", "image": pinned}))
    assert (serving_container().kserve.service_account, serving_container().image) == ("models", pinned)
    monkeypatch.setenv(SECRETS_VARIABLE, json.dumps(SECRETS))
    monkeypatch.setenv(VOLUMES_VARIABLE, '{"predictions": "/predictions"}')
    assert (serving_container().secrets, serving_container().volumes) == (SECRETS, {"predictions": "/predictions"})
    monkeypatch.setenv(VOLUMES_VARIABLE, "[]")
    with pytest.raises(ContractViolation, match=f"{VOLUMES_VARIABLE} is not what compile.py writes"):
        serving_container()
