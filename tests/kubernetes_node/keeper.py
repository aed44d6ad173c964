"""Process that owns the node: gives it namespaces, control groups and a cable, and takes everything away at its end.

`keeper.py NODE.json`: the node ends with this process' standard input, which tests hold open: so nothing stays on the
machine even where they are killed. What a keeper that was killed itself left is taken away by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# Of the names of its groups and of its folder, which has the keeper's number in a file.
PREFIX, KEEPER = "lifecycle-node-", "keeper"
NAMESPACES = ("mount", "pid", "fork", "kill-child", "uts", "ipc", "cgroup", "net")
END_SECONDS = 20.0


def ip(*words: object, inside: int | None = None) -> None:
    """The command `ip`, on the machine or in the network of a process."""
    there = [] if inside is None else ["nsenter", "-t", str(inside), "-n"]
    subprocess.run([*there, "ip", *map(str, words)], check=True)


def enter_groups(name: str, hierarchies: list[str], memory_bytes: int) -> None:
    """Make a control group in each hierarchy, with this process in it; what a pod takes is bounded by it."""
    for hierarchy in hierarchies:
        group = CGROUPS / hierarchy / name
        group.mkdir()
        if hierarchy == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((group.parent / file).read_text())
        if hierarchy == "memory":
            (group / "memory.limit_in_bytes").write_text(str(memory_bytes))
        (group / "cgroup.procs").write_text("0")


def leave_groups(hierarchies: list[str]) -> None:
    for hierarchy in hierarchies:
        (CGROUPS / hierarchy / "cgroup.procs").write_text(str(os.getpid()))


def remove_groups(name: str, hierarchies: list[str]) -> None:
    """Remove a node's control groups, as soon as the kernel has ended what was in them."""
    end = time.monotonic() + END_SECONDS
    for hierarchy in hierarchies:
        group = CGROUPS / hierarchy / name
        while group.exists():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if group.exists():
                assert time.monotonic() < end, f"{group} cannot be removed"
                time.sleep(0.05)


def sweep(hierarchies: list[str], folders: Path) -> None:
    """Take away what is left of nodes whose keeper was killed."""
    for group in (CGROUPS / hierarchies[0]).glob(f"{PREFIX}*"):
        if not Path("/proc", group.name.removeprefix(PREFIX)).exists():
            remove_groups(group.name, hierarchies)
    for file in folders.glob(f"{PREFIX}*/{KEEPER}"):
        if not Path("/proc", file.read_text("utf-8")).exists():
            shutil.rmtree(file.parent)


def connect(link: str, number: int, process: int) -> None:
    """Lay a cable between the machine and the node; pods and services are reached through it."""
    while Path(f"/proc/{process}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
        time.sleep(0.01)
    ip("link", "add", link, "mtu", 1400, "type", "veth", "peer", "name", "eth0", "mtu", 1400, "netns", process)
    ip("address", "add", f"10.89.{number}.1/24", "dev", link)
    ip("link", "set", link, "up")
    ip("link", "set", "lo", "up", inside=process)
    ip("address", "add", f"10.89.{number}.2/24", "dev", "eth0", inside=process)
    ip("link", "set", "eth0", "up", inside=process)
    for network in (f"10.90.{number}.0/24", f"10.91.{number}.0/24"):
        ip("route", "add", network, "via", f"10.89.{number}.2")
    ip("route", "add", "default", "via", f"10.89.{number}.1", inside=process)


def main(file: Path) -> None:
    """Keep the node until nobody holds its standard input."""
    settings = json.loads(file.read_text("utf-8"))
    folder, hierarchies = Path(settings["folder"]), settings["hierarchies"]
    # An interrupt of the tests is theirs: the node is still needed while they end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    name = f"{PREFIX}{os.getpid()}"
    (folder / KEEPER).write_text(str(os.getpid()), encoding="utf-8")
    sweep(hierarchies, folder.parent)
    enter_groups(name, hierarchies, settings["memory_bytes"])
    try:
        first = [sys.executable, "-I", "-S", str(Path(__file__).with_name("first_process.py")), str(file)]
        with (folder / "log" / "first_process").open("wb") as log:
            # Should this process be killed, the kernel ends the node.
            apart = ["setpriv", "--pdeathsig", "KILL", "unshare", *(f"--{kind}" for kind in NAMESPACES)]
            command = [*apart, "--propagation", "private", *first]
            node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        leave_groups(hierarchies)
        connect(f"lcn{settings['number']}", settings["number"], node.pid)
        sys.stdin.buffer.read()
    finally:
        node.kill()
        node.wait()
        leave_groups(hierarchies)
        remove_groups(name, hierarchies)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
