"""Stores of `deploy/` in real pods of a Restricted namespace, by what kustomize makes of the manifests.

What tests change is said to kustomize: the namespace, the images (`store_images`), and a claim on the packages of
MLflow and moto. Network policies are accepted here and not enforced.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kfp_lifecycle.runtime.closure import ROOT
from tests.kubernetes_api import ADMIN
from tests.kubernetes_node.node import Node, wait_until
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node.environment_images import PACKAGES, environment_folder
from tests.node.store_images import store_images
from tests.servers import PASSWORD

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
        """Wait until its probes say that it is ready, and its Service's address leads to it."""
        wait_until(lambda: self.is_ready(store), READY_SECONDS, lambda: f"{store}: {self.pod(store).status}")
        wait_until(lambda: self.is_reached(store), READY_SECONDS, lambda: f"the address of {store}")

    def is_reached(self, store: str) -> bool:
        """Whether its Service's address leads to a pod that takes a connection; just after, it may lead to the last."""
        service = self.namespace.node.core.read_namespaced_service(store, self.namespace.name)
        address = (str(service.spec.cluster_ip), service.spec.ports[0].port)
        with suppress(OSError), socket.create_connection(address, timeout=2):
            return True
        return False

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


@contextmanager
def deployed_stores(node: Node, folder: Path, kubectl: str) -> Iterator[Stores]:
    """Apply the example of `deploy/` in a namespace, and wait until all its stores are ready.

    Args:
        node: Where.
        folder: For their volumes.
        kubectl: The program.
    """
    images = store_images()
    for image in images.values():
        node.load(image)
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
        command = [kubectl, f"--kubeconfig={folder / 'kubeconfig'}", "apply", "--server-side", "-k", str(overlay)]
        applied = subprocess.run(command, capture_output=True, text=True, check=False)
        assert applied.returncode == 0, applied.stderr
        made = Stores(namespace)
        for store in STORES:
            made.wait(store)
        yield made
