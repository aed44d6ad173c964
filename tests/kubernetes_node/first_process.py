"""First process of the node's namespaces: mounts what a node needs, starts its parts, and starts again what ends.

`first_process.py NODE.json`: with `folder`, `hierarchies` (of control groups), `address` (of the API server), and the
commands of the parts that come `first` and of those that come `then`, when the API server answers. It needs nothing but
the standard library, and ends when the process that owns the node ends it: with it ends all that it started.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

# kubelet writes these settings of the kernel for the whole machine: it is given files in their place.
KERNEL = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
# Where programs write that cannot be told another place.
OWN = ("/run", "/var/lib", "/var/log")
PAUSE_SECONDS = 1.0
CGROUPS = Path("/sys/fs/cgroup")


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def mount(folder: Path, hierarchies: list[str]) -> None:
    """Give the node its own view of the machine."""
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "proc", "proc", "/proc")
    for name, value in KERNEL.items():
        file = folder / "kernel" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        run("mount", "--bind", file, Path("/proc/sys", name))
    # Nothing outside the machine is looked for.
    run("mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf")
    for place in OWN:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    Path("/run/lock").mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", CGROUPS)
    for hierarchy in hierarchies:
        (CGROUPS / hierarchy).mkdir()
        options = "none,name=systemd" if hierarchy == "systemd" else hierarchy
        run("mount", "-t", "cgroup", "-o", options, "cgroup", CGROUPS / hierarchy)


def wait_for_network() -> None:
    """The owner of the node gives it its end of a cable."""
    while subprocess.run(["ip", "route", "get", "1.1.1.1"], capture_output=True, check=False).returncode:
        time.sleep(0.02)


def listens(host: str, port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex((host, port)) == 0


def main(settings: dict[str, object]) -> None:
    """Keep the node's parts alive."""
    folder = Path(str(settings["folder"]))
    mount(folder, settings["hierarchies"])  # type: ignore[arg-type]
    socket.sethostname("node")
    wait_for_network()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    commands: dict[str, list[str]] = dict(settings["first"])  # type: ignore[call-overload]
    then: dict[str, list[str]] = dict(settings["then"])  # type: ignore[call-overload]
    host, port = settings["address"]  # type: ignore[misc]
    running: dict[int, str] = {}
    ended: dict[str, float] = {}
    while True:
        if then and listens(host, port):
            commands |= then
            then = {}
        for name in set(commands) - set(running.values()):
            if time.monotonic() - ended.get(name, 0) > PAUSE_SECONDS:
                with (folder / "log" / name).open("ab") as log:
                    process = subprocess.Popen(
                        commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                    )
                running[process.pid] = name
        # Also what others left behind: this is the first process.
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if name := running.pop(pid, ""):
                ended[name] = time.monotonic()
                print(f"{name} ended with {os.waitstatus_to_exitcode(status)}", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
