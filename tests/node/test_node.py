"""The node is a real one, apart from the machine, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kubernetes import client

from tests.kubernetes_api import ADMIN
from tests.kubernetes_node import node as kubernetes
from tests.kubernetes_node.images import PAUSE, base_image
from tests.kubernetes_node.node import CGROUPS, NAME, Node, wait_until
from tests.kubernetes_node.pods import Namespace, pod_of
from tests.servers import GO_PROGRAMS, ServerMissing

ROOT = Path(__file__).resolve().parents[2]


def left_on_the_machine() -> set[str]:
    """Processes, network links, mounts, control groups and folders of a node."""
    processes = {
        command
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if "kubernetes_node" in (command := _text(file)) or "lifecycle-node" in command
    }
    links = {f"link {link.name}" for link in Path("/sys/class/net").glob("lcn*")}
    mounts = {line for line in _text(Path("/proc/mounts")).splitlines() if "lifecycle-node" in line}
    groups = {f"group {group}" for group in CGROUPS.glob("*/lifecycle-node-*")}
    return processes | links | mounts | groups | {f"folder {folder}" for folder in _folders()}


def _folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("lifecycle-node-*"))


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").replace("\0", " ")
    except OSError:
        return ""


def test_its_parts_are_of_one_version_and_its_etcd_is_new_enough_for_them(node: Node) -> None:
    kubelet = node.core.read_node(NAME).status.node_info.kubelet_version
    assert kubelet == client.VersionApi(node.api.client(ADMIN)).get_code().git_version == "v1.34.4"
    etcd = subprocess.run([GO_PROGRAMS / "etcd", "--version"], capture_output=True, text=True, check=True).stdout
    assert etcd.startswith("etcd Version: 3.6.")


def test_it_takes_pods_of_the_restricted_standard_and_refuses_others(namespace: Namespace) -> None:
    name = namespace.create(pod_of(PAUSE))
    wait_until(lambda: namespace.pod(name).status.phase == "Running", 60, lambda: str(namespace.pod(name).status))
    assert namespace.pod(name).spec.node_name == NAME
    rootful = pod_of(PAUSE)
    rootful["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        namespace.create(rootful)


def test_pods_find_services_by_name_and_nothing_outside(namespace: Namespace) -> None:
    program = """
import socket
for name in ("kubernetes.default", "kubernetes.default.svc.cluster.local", "example.com"):
    try:
        print(socket.gethostbyname(name))
    except socket.gaierror:
        print("nothing")
"""
    namespace.node.load(base_image())
    name = namespace.create(pod_of(base_image(), command=["python3", "-c", program]))
    assert namespace.ended(name).status.phase == "Succeeded"
    address = f"10.91.{namespace.node.number}.1"
    assert namespace.log(name).splitlines() == [address, address, "nothing"]


def test_none_of_its_parts_has_to_be_started_again(node: Node) -> None:
    assert node.log("first_process") == ""


@pytest.mark.slow
def test_nothing_of_it_stays_on_the_machine_even_where_the_tests_are_killed() -> None:
    before = left_on_the_machine()
    program = (
        "import time\n"
        "from tests.kubernetes_node.node import kubernetes_node\n"
        "with kubernetes_node():\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    tests = subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    assert tests.stdout.readline() == "up\n"
    assert len(left_on_the_machine() - before) > 10
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    wait_until(lambda: left_on_the_machine() <= before, 30, lambda: str(left_on_the_machine() - before))


def test_a_machine_without_what_it_needs_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "PROGRAMS", ("no-such-program", *kubernetes.PROGRAMS))
    with pytest.raises(ServerMissing, match=r"^a Kubernetes node needs no-such-program on this machine \(.ci/run"):
        kubernetes.require_node()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServerMissing, match=r"needs root"):
        kubernetes.require_node()
