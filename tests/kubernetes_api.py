"""A real Kubernetes API server for tests, without a node or a controller: it admits, keeps and refuses."""

from __future__ import annotations

import contextlib
import re
import shutil
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

PROGRAM = GO_PROGRAMS / "kube-apiserver"
START_SECONDS = 120
ADMIN, ACCOUNT = "admin", "pipeline-runner"


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
            if conditions.get("Established", {}).get("status") == "True":
                return
            assert time.monotonic() < end, conditions
            time.sleep(0.1)


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


@contextlib.contextmanager
def kubernetes_api() -> Iterator[ApiServer]:
    """An API server and its etcd.

    Raises:
        ServerMissing: one of the two is not on this machine.
    """
    etcd = shutil.which("etcd")
    if not PROGRAM.exists() or etcd is None:
        raise ServerMissing(
            "there is no Kubernetes API server on this machine (.ci/go/build makes one of Go modules; its "
            "etcd is Debian's: apt-get install etcd-server)"
        )
    with _folder() as folder:
        storage, peers, port = free_ports(3)
        addresses = [f"--listen-client-urls=http://127.0.0.1:{storage}", f"--listen-peer-urls=http://127.0.0.1:{peers}"]
        addresses += [f"--advertise-client-urls=http://127.0.0.1:{storage}", "--unsafe-no-fsync"]
        (folder / "tokens").write_text(
            f"{ADMIN}-token,{ADMIN},1,system:masters\n{ACCOUNT}-token,{ACCOUNT},2\n", encoding="utf-8"
        )
        key = folder / "key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        options = {
            "etcd-servers": f"http://127.0.0.1:{storage}",
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "cert-dir": folder,
            "token-auth-file": folder / "tokens",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.0.0.0/24",
            # No controller gives namespaces their account here.
            "disable-admission-plugins": "ServiceAccount",
        }
        (folder / "storage").mkdir()
        command = [PROGRAM, *(f"--{name}={value}" for name, value in options.items())]
        with (
            _running([etcd, f"--data-dir={folder / 'etcd'}", *addresses], folder / "storage", signal.SIGTERM, {}),
            _running(command, folder, signal.SIGTERM, {}) as process,
        ):
            server = ApiServer(f"https://127.0.0.1:{port}", folder / "apiserver.crt")
            _wait(lambda: _is_ready(server), process, folder)
            yield server


def _is_ready(server: ApiServer) -> bool:
    if not server.authority.exists():
        return False
    try:
        client.CoreV1Api(server.client(ADMIN)).read_namespace("default")
    except (client.ApiException, HTTPError):
        return False
    return True
