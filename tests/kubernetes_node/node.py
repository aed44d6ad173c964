"""Node of Kubernetes: every part of it, on this machine and apart from it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from tests.kubernetes_api import ADMIN, ApiServer, control_plane, is_ready, program
from tests.kubernetes_node.images import load_image, pause_image
from tests.servers import ServerMissing

PROGRAMS = ("buildah", "conntrack", "containerd", "ctr", "ip", "iptables", "nsenter", "runc", "setpriv", "unshare")
PLUGINS = Path("/usr/lib/cni")
CGROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
# Whatever a pod does, there is memory left for what else runs here.
MEMORY_BYTES = 12 * 2**30
START_SECONDS = 120.0
NAME = "node"


class NotPossible(ServerMissing):
    """This machine cannot have a node, whatever is installed on it."""


@dataclass(frozen=True)
class Node:
    """A node under way."""

    api: ApiServer
    folder: Path
    process: subprocess.Popen[bytes]
    """Its keeper."""
    number: int

    @property
    def core(self) -> client.CoreV1Api:
        """Pods and what belongs to them, for the administrator."""
        return client.CoreV1Api(self.api.client(ADMIN))

    @property
    def address_of_the_machine(self) -> str:
        """Where pods reach servers of this machine."""
        return f"10.89.{self.number}.1"

    def load(self, image: str) -> None:
        """Give the node an image that was built here."""
        load_image(image, self.folder / "containerd.sock")

    def log(self, part: str) -> str:
        """What a part of the node has printed."""
        return (self.folder / "log" / part).read_text("utf-8", "replace")


def require_node() -> None:
    """See that a node can run here.

    Raises:
        ServerMissing: what is not there, in one line.
    """
    program("kubelet")
    if os.geteuid() != 0:
        raise NotPossible("a Kubernetes node needs root, whom namespaces and control groups belong to")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [] if (PLUGINS / "bridge").exists() else ["containernetworking-plugins"]
    if missing:
        raise ServerMissing(f"a Kubernetes node needs {', '.join(missing)} on this machine (.ci/run installs them)")
    if absent := [name for name in HIERARCHIES if not (CGROUPS / name / "cgroup.procs").exists()]:
        raise NotPossible(f"the node of these tests needs control groups of version 1: {', '.join(absent)}")
    apart = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "true"], capture_output=True, check=False
    )
    if apart.returncode:
        raise NotPossible("a Kubernetes node needs namespaces of its own, and this machine gives none")


@contextlib.contextmanager
def kubernetes_node() -> Iterator[Node]:
    """A node that takes pods.

    Raises:
        ServerMissing: this machine cannot have one.
    """
    require_node()
    pause_image()
    number = next(number for number in range(250) if not Path(f"/sys/class/net/lcn{number}").exists())
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-node-"))
    settings = _written(folder, number)
    file = folder / "node.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    keeper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), str(file)]
    process = subprocess.Popen(keeper, stdin=subprocess.PIPE, start_new_session=True)
    api = ApiServer(f"https://10.89.{number}.2:6443", folder / "apiserver.crt")
    node = Node(api, folder, process, number)
    try:
        wait_until(lambda: is_ready(api), START_SECONDS, lambda: f"the API server: {_end_of_logs(folder)}")
        node.load(pause_image())
        wait_until(lambda: _takes_pods(node), START_SECONDS, lambda: f"the node: {_end_of_logs(folder)}")
        yield node
    finally:
        assert process.stdin is not None
        process.stdin.close()
        code = process.wait()
    assert code == 0, f"the node was not taken away: its keeper ended with {code}"


def wait_until(done: Callable[[], Any], seconds: float, what: Callable[[], str]) -> Any:
    """Ask until the answer is true, and give it; what was waited for is said where it does not come."""
    end = time.monotonic() + seconds
    while not (answer := done()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what()}"
        time.sleep(0.1)
    return answer


def _takes_pods(node: Node) -> bool:
    try:
        found = node.core.read_node(NAME)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    ready = {item.type: item.status for item in found.status.conditions or []}.get("Ready") == "True"
    accounts = node.core.list_namespaced_service_account("default").items
    return ready and not found.spec.taints and bool(accounts)


def _end_of_logs(folder: Path) -> str:
    return "\n".join(
        f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-1500:]}" for log in sorted((folder / "log").iterdir())
    )


def _written(folder: Path, number: int) -> dict[str, Any]:
    """Write what the node's parts read, and give what its keeper and its first process are told."""
    for name in ("log", "cni", "kubelet", "pods"):
        (folder / name).mkdir()
    address, pods, services = f"10.89.{number}.2", f"10.90.{number}.0/24", f"10.91.{number}.0/24"
    socket = folder / "containerd.sock"
    etcd, api_server = control_plane(folder, address, 6443, services, 2379, 2380)
    api = ApiServer(f"https://{address}:6443", folder / "apiserver.crt")

    def access(user: str) -> Path:
        file = folder / f"{user.replace(':', '-')}.kubeconfig"
        file.write_text(yaml.safe_dump(api.kubeconfig(user)), encoding="utf-8")
        return file

    def command(part: str, **options: object) -> list[str]:
        return [str(program(part)), *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())]

    (folder / "containerd.toml").write_text(_containerd(folder, socket), encoding="utf-8")
    (folder / "cni" / "pods.conflist").write_text(json.dumps(_pod_network(folder, pods)), encoding="utf-8")
    (folder / "resolv.conf").touch()
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(folder, address, socket)), encoding="utf-8")
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": str(access("system:kube-proxy"))},
        "clusterCIDR": pods,
        # These settings are the whole machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    (folder / "kube-proxy.yaml").write_text(yaml.safe_dump(proxy), encoding="utf-8")
    names = f"kubernetes cluster.local {{\n  kubeconfig {access(ADMIN)}\n}}"
    (folder / "Corefile").write_text(f".:53 {{\n  bind {address}\n  errors\n  {names}\n}}\n", encoding="utf-8")
    controllers = {
        "kubeconfig": access("system:kube-controller-manager"),
        "leader_elect": "false",
        "use_service_account_credentials": "true",
        "service_account_private_key_file": folder / "key",
        "root_ca_file": folder / "apiserver.crt",
        "bind_address": "127.0.0.1",
    }
    scheduler = {
        "kubeconfig": access("system:kube-scheduler"),
        "leader_elect": "false",
        "bind_address": "127.0.0.1",
    }
    kubelet = {
        "config": folder / "kubelet.yaml",
        "kubeconfig": access("system:node:node"),
        "hostname_override": NAME,
        "node_ip": address,
        "root_dir": folder / "kubelet",
        "cert_dir": folder / "kubelet",
    }
    containerd = shutil.which("containerd")
    return {
        "folder": str(folder),
        "number": number,
        "hierarchies": list(HIERARCHIES),
        "memory_bytes": MEMORY_BYTES,
        "address": [address, 6443],
        "first": {
            "etcd": etcd,
            "kube-apiserver": api_server,
            "containerd": [str(containerd), "--config", str(folder / "containerd.toml")],
        },
        "then": {
            "kube-controller-manager": command("kube-controller-manager", **controllers),
            "kube-scheduler": command("kube-scheduler", **scheduler),
            "kubelet": command("kubelet", **kubelet),
            "kube-proxy": command("kube-proxy", config=folder / "kube-proxy.yaml"),
            "coredns": [str(program("coredns")), "-conf", str(folder / "Corefile")],
        },
    }


def _containerd(folder: Path, socket: Path) -> str:
    cri = "io.containerd.grpc.v1.cri"
    return f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."{cri}"]
  sandbox_image = "{pause_image()}"
  # Without CAP_SYS_RESOURCE no process may be made less likely to be ended.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."{cri}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."{cri}".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{folder}/cni"
"""


def _pod_network(folder: Path, pods: str) -> Mapping[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": True, "hairpinMode": True, "mtu": 1400}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet(folder: Path, address: str, socket: Path) -> Mapping[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        # It is reached from this machine alone.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "podLogsDir": str(folder / "pods"),
        "volumePluginDir": str(folder / "kubelet" / "plugins"),
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }
