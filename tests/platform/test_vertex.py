"""A release to Vertex AI, spoken by Google's own client to a local server of its REST protocol."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1 import AcceleratorType

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.container import IMAGE_VARIABLE, REFERENCES_VARIABLE, VERTEX_VARIABLE
from kfp_lifecycle.serving.release.release import release
from kfp_lifecycle.serving.release.vertex.endpoint import VertexTraffic, return_traffic
from tests.served import served

pytestmark = pytest.mark.slow

INPUTS = [Feature("temperature", "numeric")]
EXAMPLES = [Example(features={"temperature": 1.0}, score=0.5)]
STORES = Locations(
    tracking_uri="http://mlflow",
    dataset_remote="gs://datasets",
    online_store="",
    prediction_log="/predictions",
    serving="vertex:p/europe-west1",
)
PARENT = "projects/p/locations/europe-west1"
# A busy machine is slow, and a first version has nobody that is as slow.
BY_STEPS = Deployment(model="devices", steps=[20, 100], requests_per_step=5, max_latency_p99_ms=60_000)


class Vertex:
    """What the service remembers."""

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, dict[str, Any]]] = {}
        """By id the versions, by number."""
        self.scores: dict[str, float] = {}
        self.random = random.Random(1)
        self.deployed = 0
        self.predictions = 0
        self.asked: list[dict[str, Any]] = []
        """The parameters of each prediction."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:  # noqa: PLR0911
        """One call of the REST protocol."""
        path = re.sub(r"^/v1(beta1)?/", "", path)
        name = path.partition(":")[0]
        if path == f"{PARENT}/endpoints" and method == "GET":
            return {"endpoints": list(self.endpoints.values())}
        if path == f"{PARENT}/endpoints":
            name = f"{PARENT}/endpoints/{len(self.endpoints) + 1}"
            self.endpoints[name] = {**body, "name": name, "deployedModels": [], "trafficSplit": {}}
            return done({"@type": ENDPOINT, **self.endpoints[name]})
        if path == f"{PARENT}/models:upload":
            return self.upload(body)
        if path.startswith(f"{PARENT}/models/"):
            return self.answer_of_model(method, *path.removeprefix(f"{PARENT}/models/").partition(":")[::2], body)
        endpoint = self.endpoints[name]
        if path.endswith(":deployModel"):
            self.deployed += 1
            made = {"id": str(99 + self.deployed), "createTime": f"2026-01-01T00:00:{self.deployed:02d}Z"}
            model, _, version = body["deployedModel"]["model"].partition("@")
            deployed = {**body["deployedModel"], **made, "model": model, "modelVersionId": version or "1"}
            endpoint["deployedModels"].append(deployed)
            split = body.get("trafficSplit", {})
            endpoint["trafficSplit"] = {deployed["id"] if k == "0" else k: v for k, v in split.items()}
            return done({"@type": DEPLOYED, "deployedModel": deployed})
        if path.endswith(":undeployModel"):
            endpoint["deployedModels"] = [m for m in endpoint["deployedModels"] if m["id"] != body["deployedModelId"]]
            return done({"@type": UNDEPLOYED})
        if path.endswith(":predict"):
            split = endpoint["trafficSplit"]
            self.predictions += 1
            self.asked.append(body["parameters"])
            chosen = self.random.choices(list(split), [int(share) for share in split.values()])[0]
            model = next(m["displayName"] for m in endpoint["deployedModels"] if m["id"] == chosen)
            return {"predictions": [{"score": self.scores[model]}], "deployedModelId": chosen}
        if method == "PATCH":
            endpoint["trafficSplit"] = body["trafficSplit"]
        return endpoint

    def upload(self, body: dict[str, Any]) -> Any:
        """A new model, or a new version of one; what an alias is given to, others lose."""
        parent = body.get("parentModel")
        identity = parent.rpartition("/")[2] if parent else body["modelId"]
        assert (identity in self.models) is bool(parent)
        versions = self.models.setdefault(identity, {})
        number = str(max(map(int, versions), default=0) + 1)
        aliases = body["model"].get("versionAliases", [])
        versions[number] = {
            **body["model"],
            "name": f"{PARENT}/models/{identity}",
            "versionId": number,
            "versionAliases": [],
            "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
        }
        # The first version is the default one.
        self.give(identity, number, [*aliases, *(["default"] if not parent else [])])
        return done({"@type": UPLOADED, "model": f"{PARENT}/models/{identity}", "modelVersionId": number})

    def give(self, identity: str, number: str, aliases: list[str]) -> None:
        versions = self.models[identity]
        for alias in aliases:
            for each, version in versions.items():
                kept = [other for other in version["versionAliases"] if other != alias.removeprefix("-")]
                taken = each == number and not alias.startswith("-")
                version["versionAliases"] = [*kept, alias] if taken else kept

    def answer_of_model(self, method: str, name: str, verb: str, body: dict[str, Any]) -> Any:
        """One call about a model, a version of it by number or alias."""
        identity, _, wanted = name.partition("@")
        versions = self.models.get(identity)
        if versions is None:
            return None
        if verb == "listVersions":
            return {"models": list(versions.values())}
        number = next(
            each for each, item in versions.items() if (wanted or "default") in (each, *item["versionAliases"])
        )
        if verb == "mergeVersionAliases":
            self.give(identity, number, body["versionAliases"])
        if verb == "deleteVersion":
            assert method == "DELETE"
            del versions[number]
            return done({"@type": "type.googleapis.com/google.protobuf.Empty"})
        return versions[number]

    def aliases(self, identity: str) -> dict[str, list[str]]:
        """The aliases of each version."""
        return {number: sorted(item["versionAliases"]) for number, item in self.models.get(identity, {}).items()}


TYPE = "type.googleapis.com/google.cloud.aiplatform.v1"
ENDPOINT, UPLOADED = f"{TYPE}.Endpoint", f"{TYPE}.UploadModelResponse"
DEPLOYED, UNDEPLOYED = f"{TYPE}.DeployModelResponse", f"{TYPE}.UndeployModelResponse"


def done(response: dict[str, Any]) -> dict[str, Any]:
    """A long-running operation that took no time."""
    return {"name": f"{PARENT}/operations/1", "done": True, "response": response}


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Vertex, str]]:
    monkeypatch.setenv(IMAGE_VARIABLE, "registry/serving:1")
    service = Vertex()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            found = service.answer(self.command, unquote(self.path.partition("?")[0]), body)
            missing = {"error": {"code": 404, "status": "NOT_FOUND", "message": "The model does not exist."}}
            content = json.dumps(missing if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as url:
        yield service, url


def connection(url: str) -> dict[str, Any]:
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return {"api_endpoint": url, "api_transport": "rest", "credentials": credentials}


def traffic(url: str, version: str, uri: str = "gs://bucket/model") -> VertexTraffic:
    return VertexTraffic("p", "europe-west1", BY_STEPS, STORES, version, uri, INPUTS, **connection(url))


def released(vertex: tuple[Vertex, str], *versions: str) -> dict[str, Any]:
    """Release versions, one after the other, that all give the registered score; the endpoint."""
    service, url = vertex
    for version in versions:
        service.scores[f"devices-{version}"] = 0.5
        release(traffic(url, version), BY_STEPS, INPUTS, EXAMPLES)
    (endpoint,) = service.endpoints.values()
    return endpoint


def test_versions_follow_each_other_by_the_endpoint_s_split(vertex: tuple[Vertex, str]) -> None:
    service, url = vertex
    released(vertex, "1")
    service.scores |= {"devices-2": 0.5, "devices-3": 0.9}
    second = traffic(url, "2")
    assert second.champion == "1"
    before = service.predictions
    assert [step.percent for step in release(second, BY_STEPS, INPUTS, EXAMPLES)] == [20, 100]
    # A champion without traffic is not looked for.
    assert service.predictions - before < 100
    (endpoint,) = service.endpoints.values()
    assert endpoint["trafficSplit"] == {"101": 100}
    # The third gives other scores than were registered: the second keeps the traffic.
    with pytest.raises(ContractViolation, match="back with the champion, version 2"):
        release(traffic(url, "3"), BY_STEPS, INPUTS, EXAMPLES)
    assert endpoint["trafficSplit"] == {"101": 100}
    assert [model["displayName"] for model in endpoint["deployedModels"]] == ["devices-1", "devices-2"]
    container = service.models["devices"]["1"]["containerSpec"]
    assert container["predictRoute"] == "/v1/models/devices:predict"
    assert "--version=1" in container["args"]
    assert [item["name"] for item in container["env"]] == ["LIFECYCLE_SHADOW_TOKEN"]


def test_versions_of_a_model_are_under_one_model_of_the_registry(vertex: tuple[Vertex, str]) -> None:
    service, url = vertex
    released(vertex, "1", "2")
    assert list(service.models) == ["devices"]
    assert service.aliases("devices") == {"1": ["v1"], "2": ["champion", "default", "v2"]}
    return_traffic("p", "europe-west1", "devices", **connection(url))
    assert service.aliases("devices") == {"1": ["champion", "default", "v1"], "2": ["v2"]}
    # A candidate that is withdrawn stays there, and released again it is the same version.
    service.scores["devices-3"] = 0.9
    for _ in range(2):
        with pytest.raises(ContractViolation, match="back with the champion, version 1"):
            release(traffic(url, "3"), BY_STEPS, INPUTS, EXAMPLES)
    assert service.aliases("devices") == {"1": ["champion", "default", "v1"], "2": ["v2"], "3": ["v3"]}
    # Another server of it is another version.
    with pytest.raises(ContractViolation, match="back with the champion, version 1"):
        release(traffic(url, "3", uri="gs://bucket/other"), BY_STEPS, INPUTS, EXAMPLES)
    assert service.aliases("devices")["3"] == []
    assert service.aliases("devices")["4"] == ["v3"]


def test_old_versions_are_removed_and_those_that_are_released_stay(
    vertex: tuple[Vertex, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VERTEX_VARIABLE, json.dumps({"keep_versions": 3}))
    released(vertex, "1", "2", "3", "4", "5")
    assert vertex[0].aliases("devices") == {"3": ["v3"], "4": ["v4"], "5": ["champion", "default", "v5"]}
    monkeypatch.setenv(VERTEX_VARIABLE, json.dumps({"keep_versions": 1}))
    released(vertex, "6")
    assert list(vertex[0].aliases("devices")) == ["5", "6"]


def test_what_models_are_served_on_is_said_by_the_target(
    vertex: tuple[Vertex, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
    said = {
        "machine_type": "g2-standard-8",
        "accelerator": {"type": "NVIDIA_L4", "count": 1},
        "service_account": "servers@p.iam.gserviceaccount.com",
        "labels": {"team": "growth"},
        "encryption_key": key,
        "request_log": "bq://p.serving.requests",
        "request_log_share": 0.5,
    }
    monkeypatch.setenv(VERTEX_VARIABLE, json.dumps(said))
    endpoint = released(vertex, "1")
    assert (endpoint["labels"], endpoint["encryptionSpec"]["kmsKeyName"]) == ({"team": "growth"}, key)
    assert endpoint["predictRequestResponseLoggingConfig"] == {
        "enabled": True,
        "samplingRate": 0.5,
        "bigqueryDestination": {"outputUri": "bq://p.serving.requests"},
    }
    (deployed,) = endpoint["deployedModels"]
    assert deployed["serviceAccount"] == "servers@p.iam.gserviceaccount.com"
    machine = {"machineType": "g2-standard-8", "acceleratorType": AcceleratorType.NVIDIA_L4, "acceleratorCount": 1}
    resources = deployed["dedicatedResources"]
    assert resources["machineSpec"] == machine
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (2, 3)
    version = vertex[0].models["devices"]["1"]
    assert version["labels"] == {"team": "growth", "lifecycle_model": "devices"}
    assert version["encryptionSpec"]["kmsKeyName"] == key


def test_a_rollback_returns_to_the_version_before_and_twice_is_as_never(vertex: tuple[Vertex, str]) -> None:
    endpoint = released(vertex, "1", "2", "3")
    assert [model["displayName"] for model in endpoint["deployedModels"]] == ["devices-2", "devices-3"]
    back = return_traffic("p", "europe-west1", "devices", **connection(vertex[1]))
    assert (back.version, back.previous_version) == ("2", "3")
    assert back.url.endswith("/endpoints/1:predict")
    assert endpoint["trafficSplit"] == {"101": 100}
    again = return_traffic("p", "europe-west1", "devices", **connection(vertex[1]))
    assert (again.version, again.previous_version) == ("3", "2")
    # A version that serves already is made sure of, not deployed once more.
    second = traffic(vertex[1], "3")
    assert (second.champion, second.keep_champion()) == ("3", "2")
    assert len(endpoint["deployedModels"]) == 2


def test_a_release_that_was_cut_off_is_rolled_back_to_its_champion(vertex: tuple[Vertex, str]) -> None:
    endpoint = released(vertex, "1", "2")
    started = traffic(vertex[1], "3")
    started.start_candidate()
    endpoint["trafficSplit"] = {"101": 50, "102": 50}
    back = return_traffic("p", "europe-west1", "devices", **connection(vertex[1]))
    assert (back.version, back.previous_version) == ("2", "3")
    assert endpoint["trafficSplit"] == {"101": 100}


def test_without_a_version_before_a_rollback_says_what_to_do(vertex: tuple[Vertex, str]) -> None:
    with pytest.raises(ContractViolation, match="not released in p/europe-west1"):
        return_traffic("p", "europe-west1", "devices", **connection(vertex[1]))
    endpoint = released(vertex, "1")
    with pytest.raises(ContractViolation, match="no other one is deployed"):
        return_traffic("p", "europe-west1", "devices", **connection(vertex[1]))
    assert endpoint["trafficSplit"] == {"100": 100}


def test_on_a_stock_image_the_container_is_told_what_to_install(
    vertex: tuple[Vertex, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, "python:3.11-slim")
    released(vertex, "1")
    container = vertex[0].models["devices"]["1"]["containerSpec"]
    assert container["imageUri"] == "python:3.11-slim"
    assert {"name": "HOME", "value": "/tmp"} in container["env"]


def test_a_server_is_told_where_the_secret_of_its_online_store_is(
    vertex: tuple[Vertex, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = "secretmanager://projects/p/secrets/redis"
    monkeypatch.setenv(REFERENCES_VARIABLE, json.dumps({"PASSWORD": reference, "HOOK": f"{reference}-hook"}))
    store = STORES.model_copy(update={"online_store": "redis://:${PASSWORD}@redis:6379"})
    release_of = VertexTraffic(
        "p", "europe-west1", Deployment(model="m"), store, "1", "gs://b/m", **connection(vertex[1])
    )
    told = release_of.container()["serving_container_environment_variables"]
    assert {name for name, value in told.items() if value.startswith("secretmanager:")} == {"PASSWORD"}


def test_every_version_is_told_the_same_token_by_which_a_release_marks_its_requests(
    vertex: tuple[Vertex, str],
) -> None:
    released(vertex, "1", "2", "3")
    tokens = {
        item["value"]
        for version in vertex[0].models["devices"].values()
        for item in version["containerSpec"]["env"]
        if item["name"] == "LIFECYCLE_SHADOW_TOKEN"
    }
    assert len(tokens) == 1
    assert vertex[0].asked == [{"shadow": token} for token in tokens] * vertex[0].predictions


def test_the_prediction_log_is_written_to_the_bucket_that_steps_read_it_from(vertex: tuple[Vertex, str]) -> None:
    stores = STORES.model_copy(update={"prediction_log": "/gcs/logs/predictions"})
    one = VertexTraffic("p", "europe-west1", Deployment(model="m"), stores, "1", "gs://b/m", **connection(vertex[1]))
    assert "--prediction_log=gs://logs/predictions" in one.container()["serving_container_args"]


def test_scores_are_explained_where_the_target_says_so(
    vertex: tuple[Vertex, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released(vertex, "1")
    assert "explanationSpec" not in vertex[0].models["devices"]["1"]
    monkeypatch.setenv(VERTEX_VARIABLE, json.dumps({"explanation_paths": 10}))
    released(vertex, "2")
    assert vertex[0].models["devices"]["2"]["explanationSpec"] == {
        "metadata": {"inputs": {"temperature": {}}, "outputs": {"score": {}}},
        "parameters": {"sampledShapleyAttribution": {"pathCount": 10}},
    }


def test_a_model_outside_cloud_storage_is_refused_before_anything_is_uploaded(vertex: tuple[Vertex, str]) -> None:
    with pytest.raises(ContractViolation, match="must be in Cloud Storage"):
        traffic(vertex[1], "1", uri="s3://bucket/model")
    assert vertex[0].models == {}
