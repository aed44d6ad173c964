"""What is sent to a cluster, sent to a real Kubernetes API server, by an account with no more rights than the docs say.

Its controllers are the stand-in's: there are no nodes, so the revisions' servers and KServe's status are not real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kserve_cluster import Cluster, InferenceService, serve
from kubernetes import client as kubernetes
from kubernetes.config import kube_config
from test_kserve import BUILT, DEFINITION, STOCK, manifest
from test_kserve_release import Place, resolving

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.container import IMAGE_VARIABLE
from kfp_lifecycle.serving.release.kserve import live_service
from tests.kubernetes_api import ACCOUNT, ADMIN, ApiServer, kubernetes_api, repeated, rights_of_the_docs
from tests.servers import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DEFINITION.exists(), reason="KServe's CustomResourceDefinition is not in ../shared/crds"),
]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cluster-releases.md"
NAMESPACE = "models"
KIND = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    for server in running(kubernetes_api()):
        server.define(DEFINITION)
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
    kubernetes.CustomObjectsApi(api.client(ADMIN)).delete_collection_namespaced_custom_object(*KIND)


@pytest.mark.parametrize("volumes", [{}, {"predictions": "/predictions"}], ids=["no volume", "a volume"])
@pytest.mark.parametrize("container", [BUILT, STOCK], ids=["built image", "stock image"])
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
