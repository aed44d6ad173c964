"""A real Kubernetes API server for tests, without a node or a controller: it admits, keeps and refuses."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, utils
from urllib3.exceptions import HTTPError

from kfp_lifecycle.serving.ports import free_ports
from tests.servers import GO_PROGRAMS, ServerMissing, _folder, _running, _wait

START_SECONDS = 120
ADMIN, ACCOUNT = "admin", "pipeline-runner"
# Who may come in, and the groups of each: people, and the parts of a node.
USERS = {
    ADMIN: "system:masters",
    ACCOUNT: "",
    "system:kube-controller-manager": "",
    "system:kube-proxy": "",
    "system:kube-scheduler": "",
    "system:node:node": "system:nodes",
}


@dataclass(frozen=True)
class ApiServer:
    """Where it is, and how two users get in: one who may do everything, and one who may do what a role says."""

    url: str
    authority: Path

    def client(self, user: str) -> client.ApiClient:
        """A client of a user."""
        configuration = client.Configuration(host=self.url)
        configuration.ssl_ca_cert = str(self.authority)
        configuration.retries = False
        configuration.api_key = {"authorization": f"Bearer {user}-token"}
        return client.ApiClient(configuration)

    def kubeconfig(self, user: str) -> dict[str, Any]:
        """What a person has in `~/.kube/config`."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "clusters": [
                {"name": "here", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}
            ],
            "users": [{"name": user, "user": {"token": f"{user}-token"}}],
        }

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create objects as the administrator."""
        for manifest in manifests:
            utils.create_from_dict(self.client(ADMIN), manifest)

    def define(self, definition: Path) -> None:
        """Add a CustomResourceDefinition and wait until it is served."""
        content = yaml.load(definition.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        api = client.CustomObjectsApi(self.client(ADMIN))
        kind = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        api.create_cluster_custom_object(*kind, content)
        end = time.monotonic() + START_SECONDS
        while True:
            found = api.get_cluster_custom_object(*kind, content["metadata"]["name"])
            conditions = {item["type"]: item for item in found.get("status", {}).get("conditions") or []}
            if conditions.get("Established", {}).get("status") == "True" and self._is_kept(content["spec"]):
                return
            assert time.monotonic() < end, conditions
            time.sleep(0.1)

    def _is_kept(self, definition: dict[str, Any]) -> bool:
        """Whether a new kind can be listed: its storage is made when it is first asked for."""
        (version, *_) = (item["name"] for item in definition["versions"] if item["storage"])
        api = client.CustomObjectsApi(self.client(ADMIN))
        try:
            api.list_cluster_custom_object(definition["group"], version, definition["names"]["plural"])
        except client.ApiException as error:
            if error.status in (404, 429, 503):
                return False
            raise
        return True


def rights_of_the_docs(docs: Path, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The role that a page of the docs prints, in a namespace, and what gives it to ACCOUNT."""
    (text,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", docs.read_text("utf-8"), re.DOTALL)
    role = yaml.safe_load(text)
    name = role["metadata"]["name"]
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": ACCOUNT, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    return {**role, "metadata": {**role["metadata"], "namespace": namespace}}, binding


@contextlib.contextmanager
def repeated(work: Callable[[], None], pause: float) -> Iterator[None]:
    """Do some work again and again meanwhile, as a controller does, with a pause in seconds."""
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(pause):
            work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def program(name: str) -> Path:
    """A part of Kubernetes, or its etcd: all of them are one program, which goes by the name that it is called by.

    Raises:
        ServerMissing: it was not built.
    """
    found = GO_PROGRAMS / name
    if not found.exists():
        raise ServerMissing("there is no Kubernetes on this machine (.ci/go/build makes one of Go modules)")
    return found


def control_plane(folder: Path, address: str, port: int, services: str, storage: int, peers: int) -> list[list[str]]:
    """Commands of an etcd and an API server that keep their files in a folder.

    Args:
        folder: Gets the certificate, `apiserver.crt`, and the key of service accounts, `key`.
        address: Where the API server is reached.
        port: And at which port.
        services: The network of Services.
        storage: etcd's port.
        peers: etcd's port for others of its kind.
    """
    rows = [f'{user}-token,{user},{number},"{group}"' for number, (user, group) in enumerate(USERS.items())]
    (folder / "tokens").write_text("\n".join(rows), encoding="utf-8")
    key = folder / "key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    etcd = {
        "data-dir": folder / "etcd",
        "listen-client-urls": f"http://127.0.0.1:{storage}",
        "advertise-client-urls": f"http://127.0.0.1:{storage}",
        "listen-peer-urls": f"http://127.0.0.1:{peers}",
        "log-level": "warn",
    }
    server = {
        "etcd-servers": f"http://127.0.0.1:{storage}",
        "advertise-address": address,
        "bind-address": address,
        "secure-port": port,
        "cert-dir": folder,
        "token-auth-file": folder / "tokens",
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "service-cluster-ip-range": services,
        # By a policy, tests change pods that others make.
        "feature-gates": "MutatingAdmissionPolicy=true",
        "runtime-config": "admissionregistration.k8s.io/v1beta1=true",
    }
    return [
        [str(program("etcd")), "--unsafe-no-fsync", *(f"--{name}={value}" for name, value in etcd.items())],
        [str(program("kube-apiserver")), *(f"--{name}={value}" for name, value in server.items())],
    ]


@contextlib.contextmanager
def kubernetes_api() -> Iterator[ApiServer]:
    """An API server and its etcd.

    Raises:
        ServerMissing: one of the two is not on this machine.
    """
    with _folder() as folder:
        storage, peers, port = free_ports(3)
        etcd, server_command = control_plane(folder, "127.0.0.1", port, "10.0.0.0/24", storage, peers)
        # No controller gives namespaces their account here.
        server_command.append("--disable-admission-plugins=ServiceAccount")
        (folder / "storage").mkdir()
        with (
            _running(etcd, folder / "storage", signal.SIGTERM, {}),
            _running(server_command, folder, signal.SIGTERM, {}) as process,
        ):
            server = ApiServer(f"https://127.0.0.1:{port}", folder / "apiserver.crt")
            _wait(lambda: is_ready(server), process, folder)
            yield server


def is_ready(server: ApiServer) -> bool:
    """Whether it answers."""
    if not server.authority.exists():
        return False
    try:
        client.CoreV1Api(server.client(ADMIN)).read_namespace("default")
    except (client.ApiException, HTTPError):
        return False
    return True
