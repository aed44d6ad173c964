"""Pods of a test: a namespace of its own, made and watched."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.kubernetes_node.node import Node, wait_until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# What the standard asks of a container beside its user.
ALLOWED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_SECONDS = 120.0


def pod_of(image: str, **container: Any) -> dict[str, Any]:
    """A pod of one container, which is ended once it has ended."""
    main = {"name": "main", "image": image, "securityContext": {**ALLOWED, "runAsNonRoot": True, "runAsUser": 1000}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pod-"},
        "spec": {"restartPolicy": "Never", "containers": [{**main, **container}]},
    }


@dataclass(frozen=True)
class Namespace:
    """A namespace that admits only pods of the Restricted standard."""

    node: Node
    name: str

    def create(self, pod: dict[str, Any]) -> str:
        """Start a pod; its name."""
        made = self.node.core.create_namespaced_pod(self.name, pod, field_validation="Strict")
        return str(made.metadata.name)

    def pod(self, name: str) -> Any:
        """A pod as it stands."""
        return self.node.core.read_namespaced_pod(name, self.name)

    def log(self, name: str, container: str | None = None) -> str:
        """What a pod has printed."""
        return str(self.node.core.read_namespaced_pod_log(name, self.name, container=container))

    def ended(self, name: str, seconds: float = POD_SECONDS) -> Any:
        """A pod that has come to its end."""

        def end() -> Any:
            pod = self.pod(name)
            return pod if pod.status.phase in ("Succeeded", "Failed") else None

        return wait_until(end, seconds, lambda: f"{name}: {self.pod(name).status}")

    def secret(self, name: str, values: dict[str, str]) -> None:
        """A secret in this namespace."""
        metadata = {"name": name, "namespace": self.name}
        self.node.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def allow(self, name: str, rules: list[dict[str, list[str]]]) -> None:
        """Give the namespace's default account a role."""
        group, metadata = "rbac.authorization.k8s.io", {"name": name, "namespace": self.name}
        role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
        subject = {"kind": "ServiceAccount", "name": "default", "namespace": self.name}
        reference = {"apiGroup": group, "kind": "Role", "name": name}
        binding = {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
        del binding["rules"]
        self.node.api.apply(role, binding)

    def volume(self, claim: str, folder: Path, mode: str = "ReadWriteMany", size: str = "1Gi") -> dict[str, Any]:
        """A folder of the machine for a claim of this namespace, which may come later; what both say."""
        both = {"accessModes": [mode], "storageClassName": ""}
        reference = {"name": claim, "namespace": self.name}
        specification = {"capacity": {"storage": size}, "hostPath": {"path": str(folder)}, "claimRef": reference}
        metadata = {"name": f"{self.name}-{claim}"}
        kind = {"apiVersion": "v1", "kind": "PersistentVolume"}
        self.node.api.apply({**kind, "metadata": metadata, "spec": {**both, **specification}})
        return {**both, "resources": {"requests": {"storage": size}}}

    def claim(self, name: str, folder: Path, *, read_only: bool = False) -> None:
        """A claim in this namespace on a folder of the machine."""
        specification = self.volume(name, folder, "ReadOnlyMany" if read_only else "ReadWriteMany")
        metadata = {"name": name, "namespace": self.name}
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        self.node.api.apply({**kind, "metadata": metadata, "spec": specification})


@contextmanager
def new_namespace(node: Node) -> Iterator[Namespace]:
    """A namespace for a test, with its service account; it goes after the test, and the volumes of its claims too."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    node.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    core = node.core
    wait_until(lambda: core.list_namespaced_service_account(name).items, 30, lambda: f"service account of {name}")
    try:
        yield Namespace(node, name)
    finally:
        core.delete_namespace(name)
        for volume in core.list_persistent_volume().items:
            if volume.spec.claim_ref and volume.spec.claim_ref.namespace == name:
                core.delete_persistent_volume(volume.metadata.name)


def is_gone(ask: Any) -> bool:
    """Whether what is asked for is not there any more."""
    try:
        ask()
    except client.ApiException as error:
        return error.status == 404
    return False
