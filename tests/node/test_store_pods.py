"""Stores of `deploy/` in real pods of a Restricted namespace, by what kustomize makes of the manifests.

What the test changes is said to kustomize: the namespace, the images (`store_images`), and a claim on the packages of
MLflow and moto. Network policies are accepted here and not enforced.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from kfp_lifecycle.runtime.closure import ROOT
from tests.kubernetes_api import ADMIN
from tests.kubernetes_node.node import Node, wait_until
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node.environment_images import PACKAGES, environment_folder
from tests.node.store_images import store_images
from tests.servers import PASSWORD

KUBECTL = shutil.which("kubectl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl on this machine, which holds kustomize"),
]

READY_SECONDS = 120.0
# Name and kind of what runs each store; where it has packages to mount, their environment.
STORES = {"redis": "StatefulSet", "postgresql": "StatefulSet", "objects": "StatefulSet", "mlflow": "Deployment"}
ENVIRONMENTS = {"objects": "platform", "mlflow": "modelling"}
SIZES = {"data-redis-0": "5Gi", "data-postgresql-0": "5Gi", "data-objects-0": "20Gi", "lifecycle": "10Gi"}


@dataclass
class Stores:
    """The stores under way."""

    namespace: Namespace

    def pod(self, store: str) -> Any:
        """The one pod of a store that is not about to go; None where there is none."""
        core = self.namespace.node.core
        found = core.list_namespaced_pod(self.namespace.name, label_selector=f"app={store}").items
        return next((pod for pod in found if pod.metadata.deletion_timestamp is None), None)

    def is_ready(self, store: str) -> bool:
        """Whether the probes of its manifest say so."""
        pod = self.pod(store)
        conditions = (pod.status.conditions or []) if pod else []
        return any(item.type == "Ready" and item.status == "True" for item in conditions)

    def wait(self, store: str) -> None:
        wait_until(lambda: self.is_ready(store), READY_SECONDS, lambda: f"{store}: {self.pod(store).status}")

    def replace(self, store: str) -> None:
        """Delete its pod, and wait for the next."""
        core, name = self.namespace.node.core, self.pod(store).metadata.name
        core.delete_namespaced_pod(name, self.namespace.name)
        self.wait(store)

    def address(self, store: str) -> str:
        """That of its Service."""
        return str(self.namespace.node.core.read_namespaced_service(store, self.namespace.name).spec.cluster_ip)


def patches() -> Iterator[dict[str, Any]]:
    """For kustomize: packages for those that have none in their image."""
    for store, environment in ENVIRONMENTS.items():
        name = f"environment-{environment}"
        claim = {"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}}
        mount = {"name": name, "mountPath": PACKAGES, "readOnly": True}
        of_pod: dict[str, Any] = {"volumes": [claim], "containers": [{"name": store, "volumeMounts": [mount]}]}
        if store == "mlflow":
            of_pod["initContainers"] = [{"name": "buckets", "volumeMounts": [mount]}]
        kind = {"apiVersion": "apps/v1", "kind": STORES[store], "metadata": {"name": store}}
        yield {"patch": yaml.safe_dump({**kind, "spec": {"template": {"spec": of_pod}}})}


@pytest.fixture(scope="module")
def stores(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    assert KUBECTL is not None
    images = store_images()
    for image in images.values():
        node.load(image)
    folder = tmp_path_factory.mktemp("stores")
    deploy = folder / "deploy"
    shutil.copytree(ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("*.env"))
    overlay = deploy / "overlays" / "example"
    with new_namespace(node) as namespace:
        for claim, size in SIZES.items():
            (folder / claim).mkdir()
            (folder / claim).chmod(0o777)
            mode = "ReadWriteMany" if claim == "lifecycle" else "ReadWriteOnce"
            namespace.volume(claim, folder / claim, mode, size)
        for environment in ENVIRONMENTS.values():
            namespace.claim(f"environment-{environment}", environment_folder(environment), read_only=True)
        for file in overlay.glob("*.env.example"):
            text = file.read_text("utf-8").replace("…", PASSWORD).replace("churn-team", namespace.name)
            file.with_suffix("").write_text(text, encoding="utf-8")
        wanted = yaml.safe_load((overlay / "kustomization.yaml").read_text("utf-8"))
        # There is no Prometheus operator.
        del wanted["components"]
        wanted |= {"namespace": namespace.name, "patches": list(patches())}
        wanted["images"] = [
            {"name": name, "newName": image.partition(":")[0], "newTag": "packages"} for name, image in images.items()
        ]
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
        (folder / "kubeconfig").write_text(yaml.safe_dump(node.api.kubeconfig(ADMIN)), encoding="utf-8")
        command = [KUBECTL, f"--kubeconfig={folder / 'kubeconfig'}", "apply", "--server-side", "-k", str(overlay)]
        applied = subprocess.run(command, capture_output=True, text=True, check=False)
        assert applied.returncode == 0, applied.stderr
        made = Stores(namespace)
        for store in STORES:
            made.wait(store)
        yield made


@pytest.mark.parametrize("store", STORES)
def test_a_store_is_ready_in_a_restricted_pod_that_has_no_token(stores: Stores, store: str) -> None:
    pod = stores.pod(store)
    assert stores.is_ready(store)
    assert pod.spec.security_context.run_as_non_root
    assert not [volume.name for volume in pod.spec.volumes if volume.name.startswith("kube-api-access")]
    assert all(container.security_context.read_only_root_filesystem for container in pod.spec.containers)
    assert [status.restart_count for status in pod.status.container_statuses] == [0]


def test_mlflow_remembers_what_it_was_told_when_its_pod_and_its_databases_are_new(stores: Stores) -> None:
    experiments, named = "/api/2.0/mlflow/experiments", {"Host": f"mlflow.{stores.namespace.name}:5000"}
    place = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model.json"

    def client() -> httpx.Client:
        url = f"http://{stores.address('mlflow')}:5000"
        return httpx.Client(base_url=url, trust_env=False, timeout=30, headers=named)

    with client() as mlflow:
        created = mlflow.post(f"{experiments}/create", json={"name": "churn"})
        assert created.status_code == 200, created.text
        assert mlflow.put(place, content=b"{}").status_code == 200
    stores.replace("postgresql")
    stores.replace("mlflow")
    with client() as mlflow:
        found = mlflow.get(f"{experiments}/get-by-name", params={"experiment_name": "churn"})
        assert found.json()["experiment"]["experiment_id"] == created.json()["experiment_id"]
        assert mlflow.get(place).content == b"{}"


def test_redis_asks_for_the_password_and_a_new_pod_has_what_the_old_one_was_told(stores: Stores) -> None:
    assert redis(stores, "GET a").startswith("-NOAUTH")
    login = f'AUTH "{PASSWORD}"'
    assert redis(stores, login, "SET a 1") == "+OK\r\n+OK\r\n"
    stores.replace("redis")
    assert redis(stores, login, "GET a") == "+OK\r\n$1\r\n1\r\n"


def redis(stores: Stores, *commands: str) -> str:
    """What Redis answers to commands."""
    with socket.create_connection((stores.address("redis"), 6379), timeout=10) as caller:
        caller.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
        return b"".join(iter(lambda: caller.recv(65536), b"")).decode().removesuffix("+OK\r\n")
