"""What is sent to a cluster, sent to a real Kubernetes API server, by an account with no more rights than the docs say.

Its controllers are the stand-in's: there are no nodes, so the revisions' servers and KServe's status are not real.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kserve_cluster import Cluster, InferenceService, serve
from kserve_standard_cluster import StandardCluster, StandardControllers
from kubernetes import client as kubernetes
from kubernetes.config import kube_config
from test_kserve import BUILT, COLLECTED, DEFINITION, LOCATIONS, MODEL, STOCK, manifest
from test_kserve_release import Place, resolving

from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.kserve_servers import Mode, Scaling
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.container import IMAGE_VARIABLE, KSERVE_VARIABLE, Container
from kfp_lifecycle.serving.release.kserve import live_service
from kfp_lifecycle.serving.release.kserve.predictor import disruption_budget, predictor
from kfp_lifecycle.serving.release.kserve.standard import StandardTraffic
from kfp_lifecycle.serving.release.kserve.standard_service import OF_THE_STABLE, shares_of
from kfp_lifecycle.serving.release.traffic import Stage
from tests.kubernetes_api import ACCOUNT, ADMIN, ApiServer, kubernetes_api, repeated, rights_of_the_docs
from tests.servers import GO_PROGRAMS, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DEFINITION.exists(), reason="KServe's CustomResourceDefinition is not in ../shared/crds"),
]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cluster-releases.md"
NAMESPACE = "models"
SERVERS = {"mode": "standard", "service_account": "models", "scaling": {"metric": "cpu", "target": 70}}
ROUTES = ("gateway.networking.k8s.io", "v1", NAMESPACE, "httproutes")
BUDGETS = ("policy", "v1", NAMESPACE, "poddisruptionbudgets")
KIND = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    for server in running(kubernetes_api()):
        server.define(DEFINITION)
        server.define(GO_PROGRAMS / "gateway.networking.k8s.io_httproutes.yaml")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        server.apply(namespace, *rights_of_the_docs(DOCS, NAMESPACE))
        yield server


class Controllers:
    """The stand-in's KServe and Knative, working on what the API server keeps."""

    def __init__(self, api: ApiServer, cluster: Cluster) -> None:
        self._objects, self._cluster = kubernetes.CustomObjectsApi(api.client(ADMIN)), cluster

    def reconcile(self) -> None:
        """One look at all that there is."""
        found = {item["metadata"]["name"]: item for item in self._objects.list_namespaced_custom_object(*KIND)["items"]}
        for place in [place for place in self._cluster.services if place[1] not in found]:
            del self._cluster.services[place]
        for name, body in found.items():
            service = self._cluster.services.setdefault((NAMESPACE, name), InferenceService(body, self._cluster.broken))
            service.body = body
            service.reconcile()
            status = service.object()["status"]
            if status != body.get("status"):
                self._write({**body, "status": status})

    def _write(self, body: dict[str, Any]) -> None:
        try:
            self._objects.replace_namespaced_custom_object_status(*KIND, body["metadata"]["name"], body)
        except kubernetes.ApiException as error:
            # Changed or deleted meanwhile: it is looked at again.
            if error.status not in (404, 409):
                raise


@pytest.fixture
def place(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    cluster = Cluster()
    servers = serve(cluster)
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(api.kubeconfig(ACCOUNT)))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(live_service, "POLL_SECONDS", 0.05)
    monkeypatch.setenv(IMAGE_VARIABLE, "registry/serving:1")
    resolving(servers.server_port, monkeypatch)
    with repeated(Controllers(api, cluster).reconcile, pause=0.02):
        yield Place(cluster, tmp_path)
    servers.shutdown()
    servers.server_close()
    for kind in (KIND, BUDGETS):
        kubernetes.CustomObjectsApi(api.client(ADMIN)).delete_collection_namespaced_custom_object(*kind)


@pytest.mark.parametrize("volumes", [{}, {"predictions": "/predictions"}], ids=["no volume", "a volume"])
@pytest.mark.parametrize("container", [BUILT, STOCK, COLLECTED], ids=["built image", "stock image", "with a collector"])
def test_a_manifest_is_admitted_and_not_a_field_of_it_is_dropped(
    api: ApiServer, container: Any, volumes: dict[str, str]
) -> None:
    objects = kubernetes.CustomObjectsApi(api.client(ACCOUNT))
    sent = manifest(container, **volumes)
    kept = objects.create_namespaced_custom_object(*KIND, sent, field_validation="Strict", dry_run="All")
    assert kept["spec"] == sent["spec"]
    sent["spec"]["predictor"]["containers"][0]["imagee"] = "a misspelt key"
    with pytest.raises(kubernetes.ApiException, match="imagee"):
        objects.create_namespaced_custom_object(*KIND, sent, field_validation="Strict", dry_run="All")


@pytest.fixture(scope="module")
def restricted(api: ApiServer) -> str:
    """A namespace that admits only pods of the Restricted standard."""
    metadata = {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return metadata["name"]


def pod_of(predictor: dict[str, Any], *init_containers: dict[str, Any]) -> dict[str, Any]:
    """A server's pod, as KServe makes it of the predictor."""
    specification = {key: predictor[key] for key in ("containers", "volumes", "serviceAccountName") if key in predictor}
    specification["initContainers"] = list(init_containers)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": specification}


@pytest.mark.parametrize("container", [BUILT, STOCK], ids=["built image", "stock image"])
def test_a_servers_pod_is_admitted_under_the_restricted_standard(
    api: ApiServer, restricted: str, container: Any
) -> None:
    pods = kubernetes.CoreV1Api(api.client(ADMIN))
    pod = pod_of(manifest(container)["spec"]["predictor"])
    pods.create_namespaced_pod(restricted, pod, dry_run="All", field_validation="Strict")
    del pod["spec"]["containers"][0]["securityContext"]["seccompProfile"]
    with pytest.raises(kubernetes.ApiException, match="violates PodSecurity"):
        pods.create_namespaced_pod(restricted, pod, dry_run="All")


def test_kserves_own_initializer_is_admitted_with_what_the_docs_add_to_it(api: ApiServer, restricted: str) -> None:
    pods = kubernetes.CoreV1Api(api.client(ADMIN))
    predictor = manifest(BUILT)["spec"]["predictor"]
    initializer = {"name": "storage-initializer", "image": "kserve/storage-initializer:v0.20.0"}
    with pytest.raises(kubernetes.ApiException, match=r"storage-initializer.*must set securityContext"):
        pods.create_namespaced_pod(restricted, pod_of(predictor, initializer), dry_run="All")
    (storage,) = (item for item in of_the_docs() if item["kind"] == "ClusterStorageContainer")
    added = storage["spec"]["container"]["securityContext"]
    pod = pod_of(predictor, {**initializer, "securityContext": added})
    pods.create_namespaced_pod(restricted, pod, dry_run="All", field_validation="Strict")


def test_the_account_of_the_docs_is_admitted_and_names_its_secret(api: ApiServer) -> None:
    found = {item["kind"]: item for item in of_the_docs()}
    secret, account = found["Secret"], found["ServiceAccount"]
    core = kubernetes.CoreV1Api(api.client(ADMIN))
    core.create_namespaced_secret(NAMESPACE, secret, dry_run="All", field_validation="Strict")
    core.create_namespaced_service_account(NAMESPACE, account, dry_run="All", field_validation="Strict")
    assert account["secrets"] == [{"name": secret["metadata"]["name"]}]


def of_the_docs() -> list[dict[str, Any]]:
    """Every object that the page prints."""
    blocks = re.findall(r"```yaml\n(apiVersion: .*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return [item for block in blocks for item in yaml.safe_load_all(block)]


def test_versions_are_released_step_by_step_and_rolled_back_with_the_rights_of_the_docs(place: Place) -> None:
    first = place.release("1")
    assert (first["version"], first["previous_version"]) == ("1", None)
    second = place.release("2")
    assert (second["version"], second["previous_version"]) == ("2", "1")
    assert [step["percent"] for step in second["steps"]] == [20, 100]
    back = place.back()
    assert (back["version"], back["previous_version"]) == ("1", "2")
    assert place.service.shares() == {"1": 100}


def test_a_breach_gives_all_traffic_back(place: Place) -> None:
    place.release("1")
    with pytest.raises(ContractViolation, match="All traffic is back with the champion, version 1"):
        place.release("2", served=0.9)
    assert place.service.shares() == {"1": 100}


def test_a_first_version_that_fails_leaves_nothing_behind(api: ApiServer, place: Place) -> None:
    with pytest.raises(ContractViolation, match="no champion to return to"):
        place.release("1", served=0.9)
    assert kubernetes.CustomObjectsApi(api.client(ADMIN)).list_namespaced_custom_object(*KIND)["items"] == []


@pytest.fixture
def standard(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandardPlace]:
    cluster = StandardCluster()
    servers = serve(cluster)
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(api.kubeconfig(ACCOUNT)))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(live_service, "POLL_SECONDS", 0.05)
    monkeypatch.setenv(IMAGE_VARIABLE, "registry/serving:1")
    monkeypatch.setenv(KSERVE_VARIABLE, json.dumps(SERVERS))
    resolving(servers.server_port, monkeypatch)
    place = StandardPlace(cluster, tmp_path, kubernetes.CustomObjectsApi(api.client(ADMIN)))
    with repeated(StandardControllers(api.client(ADMIN), NAMESPACE, cluster).reconcile, pause=0.02):
        yield place
    servers.shutdown()
    servers.server_close()
    for kind in (KIND, ROUTES, BUDGETS):
        place.objects.delete_collection_namespaced_custom_object(*kind)
    assert cluster.refused == []


class StandardPlace(Place):
    """A place whose models are released in Standard mode."""

    cluster: StandardCluster

    def __init__(self, cluster: StandardCluster, folder: Path, objects: kubernetes.CustomObjectsApi) -> None:
        super().__init__(cluster, folder)
        self.objects = objects

    def shares(self) -> dict[str, int]:
        """Percent of the traffic by version, as the gateway has it."""
        route = self.objects.get_namespaced_custom_object(*ROUTES, "devices")
        versions = {name: deployment["version"] for name, deployment in self.cluster.deployments.items()}
        return {versions[service]: share for service, share in shares_of(route).items()}

    def comes_to(self, shares: dict[str, int], *versions: str) -> None:
        """Wait until the gateway has these shares, and these versions have pods: the last look may be still to come."""
        wanted = sorted(f"devices-v{version}-predictor" for version in versions)
        wait_until(lambda: self.shares() == shares and sorted(self.cluster.deployments) == wanted)


def test_in_standard_mode_versions_are_canaries_that_change_places_and_keep_their_pods(
    standard: StandardPlace,
) -> None:
    first = standard.release("1")
    assert (first["version"], first["previous_version"]) == ("1", None)
    # By its content type the gateway knows gRPC behind the same address.
    assert (first["url"], first["grpc"]) == ("http://devices.models.example.com", "devices.models.example.com:80")
    second = standard.release("2")
    assert (second["version"], second["previous_version"]) == ("2", "1")
    assert [step["percent"] for step in second["steps"]] == [20, 100]
    standard.comes_to({"2": 100}, "1", "2")
    # Promotion is no change of the pods: those that were watched serve.
    assert standard.cluster.made == ["devices-v1-predictor", "devices-v2-predictor"]
    # KServe takes those of ready canaries off the stable predictor's, so that two are left.
    wanted = {"devices-v1-predictor": 1, "devices-v2-predictor": 3}
    wait_until(lambda: {name: item["replicas"] for name, item in standard.cluster.deployments.items()} == wanted)
    assert all(standard.cluster.believed)
    scaled = standard.objects.get_namespaced_custom_object(*KIND, "devices")["spec"]["predictor"]["autoScaling"]
    assert scaled["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    back = standard.back()
    assert (back["version"], back["previous_version"]) == ("1", "2")
    standard.comes_to({"1": 100}, "1", "2")
    again = standard.back()
    assert (again["version"], again["previous_version"]) == ("2", "1")
    third = standard.release("3")
    assert (third["version"], third["previous_version"]) == ("3", "2")
    standard.comes_to({"3": 100}, "2", "3")
    assert len(standard.cluster.made) == 3


def test_in_standard_mode_a_breach_gives_all_traffic_back_and_the_way_back_stays(standard: StandardPlace) -> None:
    standard.release("1")
    standard.release("2")
    with pytest.raises(ContractViolation, match="All traffic is back with the champion, version 2"):
        standard.release("3", served=0.9)
    standard.comes_to({"2": 100}, "1", "2")
    assert standard.back()["version"] == "1"


def test_in_standard_mode_a_first_version_that_fails_leaves_nothing_behind(standard: StandardPlace) -> None:
    with pytest.raises(ContractViolation, match="no champion to return to"):
        standard.release("1", served=0.9)
    assert standard.objects.list_namespaced_custom_object(*KIND)["items"] == []


def test_in_standard_mode_a_version_that_does_not_come_up_gets_no_traffic(
    standard: StandardPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard.release("1")
    standard.cluster.broken.add("2")
    with monkeypatch.context() as patched:
        patched.setattr(live_service, "READY_SECONDS", 0.2)
        with pytest.raises(ContractViolation, match="the pods of devices-v2-predictor are not ready: no module named"):
            standard.release("2")
    standard.comes_to({"1": 100}, "1")


def test_in_standard_mode_a_release_that_was_cut_off_is_rolled_back_to_its_champion(
    standard: StandardPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard.release("1")
    with monkeypatch.context() as patched:
        # As if the step's node were lost: nothing is taken back.
        patched.setattr(StandardTraffic, "promote", lambda _: exec("raise KeyboardInterrupt"))
        patched.setattr(StandardTraffic, "withdraw", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            standard.release("2")
    standard.comes_to({"2": 100}, "1", "2")
    back = standard.back()
    assert (back["version"], back["previous_version"]) == ("1", "2")
    standard.comes_to({"1": 100}, "1")
    with pytest.raises(ContractViolation, match="no version to return to"):
        standard.back()


def test_in_standard_mode_shadow_is_a_mirror_of_predictions_by_a_route_of_its_own(
    standard: StandardPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard.release("1")
    seen: list[dict[str, Any]] = []
    shift = StandardTraffic.shift

    def watched(traffic: StandardTraffic, stage: Stage) -> None:
        shift(traffic, stage)
        if stage.mirror:
            seen.append(standard.objects.get_namespaced_custom_object(*ROUTES, "devices-shadow"))
            standard.comes_to({"1": 100}, "1", "2")

    monkeypatch.setattr(StandardTraffic, "shift", watched)
    record = standard.release("2", strategy="shadow")
    assert [step["percent"] for step in record["steps"]] == [0, 100]
    standard.comes_to({"2": 100}, "1", "2")
    (mirror,) = seen
    own = standard.objects.get_namespaced_custom_object(*ROUTES, "devices")
    assert (mirror["spec"]["hostnames"], mirror["spec"]["parentRefs"][0]["name"]) == (
        own["spec"]["hostnames"], "kserve-ingress-gateway"
    )  # fmt: skip
    (rule,) = mirror["spec"]["rules"]
    # An exact path goes before KServe's regular expression (Gateway API, precedence of matches).
    assert [match["path"] for match in rule["matches"]] == [
        {"type": "Exact", "value": "/v2/models/devices/infer"},
        {"type": "Exact", "value": "/v1/models/devices:predict"},
    ]
    assert rule["backendRefs"][0]["name"] == "devices-v1-predictor"
    copy = rule["filters"][0]["requestMirror"]["backendRef"]
    assert (copy["name"], copy["port"]) == ("devices-v2-predictor", 8082)
    with pytest.raises(kubernetes.ApiException, match="404"):
        standard.objects.get_namespaced_custom_object(*ROUTES, "devices-shadow")


def test_a_service_keeps_its_mode(standard: StandardPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    standard.release("1")
    monkeypatch.delenv(KSERVE_VARIABLE)
    with pytest.raises(ContractViolation, match=r"is of the mode Standard, and targets.kubeflow.servers.mode asks for"):
        standard.release("2")


@pytest.mark.parametrize("container", [BUILT, STOCK], ids=["built image", "stock image"])
def test_in_standard_mode_a_manifest_is_admitted_and_a_pod_of_it_is_restricted(
    api: ApiServer, restricted: str, container: Container
) -> None:
    said = {"mode": Mode.standard, "scaling": Scaling(metric="cpu", target=70)}
    servers = container.kserve.model_copy(update=said)
    pods = predictor(
        Deployment(model="churn"),
        LOCATIONS,
        version="3",
        uri="s3://bucket/model",
        logged=MODEL,
        container=replace(container, kserve=servers),
        shadow_token="token",
    )
    pods.name = "v3"
    sent = kubernetes.ApiClient().sanitize_for_serialization(pods)
    canary = {key: value for key, value in sent.items() if key not in OF_THE_STABLE} | {"name": "v4", "minReplicas": 1}
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "churn", "annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
        "spec": {"predictor": sent, "canary": [{"trafficPercent": 10, "predictor": canary}]},
    }
    objects = kubernetes.CustomObjectsApi(api.client(ACCOUNT))
    kept = objects.create_namespaced_custom_object(*KIND, service, field_validation="Strict", dry_run="All")
    assert kept["spec"] == service["spec"]
    target = {"type": "Utilization", "averageUtilization": 70}
    assert sent["autoScaling"] == {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}
    (server,) = sent["containers"]
    assert [port["name"] for port in server["ports"]] == ["http1", "h2c-grpc", "http1-shadow"]
    assert server["startupProbe"]["failureThreshold"] * server["startupProbe"]["periodSeconds"] == 600
    specification = {key: sent[key] for key in ("containers", "volumes", "topologySpreadConstraints")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": specification}
    kubernetes.CoreV1Api(api.client(ADMIN)).create_namespaced_pod(
        restricted, pod, dry_run="All", field_validation="Strict"
    )


def test_the_disruption_budget_is_admitted(api: ApiServer) -> None:
    budget = disruption_budget(NAMESPACE, "devices", 1)
    kubernetes.PolicyV1Api(api.client(ADMIN)).create_namespaced_pod_disruption_budget(
        NAMESPACE, budget, dry_run="All", field_validation="Strict"
    )


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_account_without_the_rights_is_told_which_it_needs(api: ApiServer, place: Place) -> None:
    rights = kubernetes.RbacAuthorizationV1Api(api.client(ADMIN))
    rights.delete_namespaced_role_binding("releases", NAMESPACE)
    try:
        with pytest.raises(
            ContractViolation, match=r"\(403: .*is forbidden: User .*cannot get.*needs get, create, patch and delete"
        ):
            place.release("1")
    finally:
        api.apply(rights_of_the_docs(DOCS, NAMESPACE)[1])
