"""Operations on local endpoints: what answers where, start and stop all of it, return to the version before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.release.local.envoy import Split
from kfp_lifecycle.serving.release.local.servers import bring_up, envoy_of, running, startable, version_folder
from kfp_lifecycle.serving.release.local.state import Release, only_one, read_releases, write_release
from kfp_lifecycle.serving.release.local.supervisor import Supervisor


@dataclass(frozen=True)
class Endpoint:
    """A released model and its address."""

    url: str
    """Base of the v1 and v2 REST paths, such as `http://127.0.0.1:8080`."""
    grpc: str
    """Host and port for v2 gRPC."""
    model: str
    version: str
    """The version that has the traffic."""
    healthy: bool
    """Whether it answers now."""


def endpoints(folder: Path) -> list[Endpoint]:
    """All released models, running or not, sorted by name.

    Raises:
        ContractViolation: a record of what is released cannot be read.
    """
    return [endpoint_of(release) for release in read_releases(folder)]


def start(folder: Path) -> list[Endpoint]:
    """Run again what was released: after `stop`, after a reboot, or after something was killed.

    What runs already goes on undisturbed.

    Raises:
        ContractViolation: a port is taken, or a server does not come up.
    """
    folder = folder.resolve()
    with only_one(folder):
        releases = [startable(folder, release) for release in read_releases(folder)]
        if releases:
            bring_up(folder, releases)
        for release in releases:
            write_release(folder, release)
    return endpoints(folder)


def stop(folder: Path) -> bool:
    """Stop every process of a serving folder; what was released is remembered.

    Returns:
        Whether anything was running.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        return False
    with only_one(folder):
        return Supervisor(folder).stop()


def rollback(folder: Path, model: str) -> Endpoint:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Raises:
        ContractViolation: the model is not released, has no earlier version, or that version does not come up.
    """
    folder = folder.resolve()
    with only_one(folder):
        release = startable(folder, release_of(folder, model))
        others = [other for other in read_releases(folder) if other.model != model]
        previous = release.previous_version
        if previous is None or not version_folder(folder, model, previous).is_dir():
            raise ContractViolation(
                f"{model} has no version before {release.version} to return to. Train and release another one."
            )
        bring_up(folder, [*running(folder, others), release])
        envoy = envoy_of(folder, release)
        envoy.wait_until_applied(envoy.publish(release.servers, Split({previous: 100})))
        release = replace(release, version=previous, previous_version=release.version)
        write_release(folder, release)
    return endpoint_of(release)


def release_of(folder: Path, model: str) -> Release:
    """What is released of a model.

    Raises:
        ContractViolation: nothing is, or the record of it cannot be read.
    """
    releases = {release.model: release for release in read_releases(folder)}
    if model not in releases:
        raise ContractViolation(f"{model} is not released in {folder}; released are: {', '.join(releases) or 'none'}.")
    return releases[model]


def endpoint_of(release: Release) -> Endpoint:
    """Where a release answers, and whether it does."""
    with Client(release.listener.http_port, timeout=2) as client:
        healthy = client.get(f"/v2/models/{release.model}/ready").status == 200
    return Endpoint(
        url=f"http://{LOOPBACK}:{release.listener.http_port}",
        grpc=f"{LOOPBACK}:{release.listener.grpc_port}",
        model=release.model,
        version=release.version,
        healthy=healthy,
    )
