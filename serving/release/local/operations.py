"""Operations on local endpoints: what answers where, start and stop all of it, return to an earlier version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.release.local.history import Event, record
from kfp_lifecycle.serving.release.local.routing import VERSION_HEADER, ready_path, server_is_ready
from kfp_lifecycle.serving.release.local.servers import (
    bring_up,
    envoy_of,
    programs_of,
    running,
    server_program,
    startable,
    version_folder,
)
from kfp_lifecycle.serving.release.local.state import (
    RECORD_FILE,
    Change,
    Phase,
    Release,
    controlled,
    only_one,
    read_releases,
    write_release,
)
from kfp_lifecycle.serving.release.local.supervisor import Supervisor

DRAIN_SECONDS = 10.0
# Moves the registry's alias: from the version that it should name still, to the one that serves.
MoveAlias = Callable[[str, str], None]


@dataclass(frozen=True)
class Endpoint:
    """A released model and its address."""

    url: str
    """Base of the v1 and v2 REST paths, such as `http://127.0.0.1:8080`."""
    grpc: str
    """Host and port for v2 gRPC."""
    model: str
    version: str
    """The version that is released; during a release the champion."""
    healthy: bool
    """Whether the endpoint answers now."""
    shares: Mapping[str, int]
    """Percentage of the traffic by version."""
    remarks: tuple[str, ...] = ()
    """What is not as it should be, or under way, each with what to do."""


def endpoints(folder: Path) -> list[Endpoint]:
    """All released models, running or not, sorted by name.

    Raises:
        ContractViolation: a record of what is released cannot be read.
    """
    return [endpoint_of(folder, release) for release in read_releases(folder)]


def start(folder: Path) -> list[Endpoint]:
    """Run again what was released: after `stop`, after a reboot, or after something was killed.

    What runs already goes on undisturbed. A release whose controller was killed is taken back; one that is paused, or
    a rollback, stays as it is recorded.

    Raises:
        ContractViolation: a port is taken, or a server does not come up.
    """
    folder = folder.resolve()
    with only_one(folder):
        for release in read_releases(folder):
            if release.change is not None and release.change.phase in ("starting", "sharing"):
                settle(folder, release.model)
        releases = [startable(folder, release) for release in read_releases(folder)]
        for release in releases:
            write_release(folder, release)
        if releases:
            bring_up(folder, releases)
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


def unfinished(folder: Path, model: str) -> Change:
    """The release that was cut off or paused.

    Raises:
        ContractViolation: there is none.
    """
    change = release_of(folder, model).change
    if change is None or change.action != "release":
        raise ContractViolation(f"no release of {model} is unfinished; `lifecycle releases` tells what was done.")
    return change


def settle(folder: Path, model: str) -> None:
    """Take back a release that was cut off or paused; the caller holds the folder, so nobody works at it.

    Raises:
        ContractViolation: the champion does not come up.
    """
    release = next((item for item in read_releases(folder) if item.model == model), None)
    if release is None or release.change is None or release.change.action != "release":
        return
    change, before = release.change, release.without_change()
    why = f"it was {change.phase} when its controller (process {change.process} of {change.by}) ended; {change.why}"
    record(folder, Event(model, change.candidate, change.champion, "abandoned", why=why.removesuffix("; ")))
    if before is None:
        # A first release: nobody was served before.
        (folder / model / RECORD_FILE).unlink()
        others = running(folder, read_releases(folder))
        Supervisor(folder).apply([program for item in others for program in programs_of(folder, item)])
        return
    envoy = envoy_of(folder, release)
    if envoy.is_ready():
        envoy.publish(release.servers, before.split)
        envoy.wait_until_drained(change.candidate, DRAIN_SECONDS)
    before = startable(folder, before)
    write_release(folder, before)
    others = [item for item in read_releases(folder) if item.model != model]
    bring_up(folder, [*running(folder, others), before])


def rollback(
    folder: Path, model: str, to: str | None = None, *, move_alias: MoveAlias | None = None, why: str = ""
) -> Endpoint:
    """Give all traffic to an earlier version: of an unfinished release to the champion, else to the version before.

    The version that is left need not run, nor start. The two change places, so a second rollback undoes the first.
    Where the traffic has moved and the registry refuses, the record says so, and a rollback done again moves the alias.

    Args:
        folder: The serving folder.
        model: What is rolled back.
        to: The version; by default as above.
        move_alias: Lets the registry's alias follow; without it the caller sees to that.
        why: For the history.

    Raises:
        ContractViolation: the model is not released, that version is not kept here or does not come up, or the alias
            does not move.
    """
    folder = folder.resolve()
    with only_one(folder):
        release = release_of(folder, model)
        change = release.change
        if change is not None and change.action == "release" and to in (None, change.champion) and change.champion:
            settle(folder, model)
            record(folder, Event(model, change.champion, change.candidate, "returned", "rollback", why))
            return endpoint_of(folder, release_of(folder, model))
        release = _return(folder, release, _target(folder, release, to), why)
        if move_alias is not None and release.change is not None:
            move_alias(str(release.previous_version), release.version)
        release = replace(release, change=None)
        write_release(folder, release)
    return endpoint_of(folder, release)


def _target(folder: Path, release: Release, to: str | None) -> str:
    """The version that a rollback leads to."""
    if to is None and release.change is not None and release.change.action == "rollback":
        return release.change.candidate
    kept = {
        server.version for server in release.servers if version_folder(folder, release.model, server.version).is_dir()
    }
    wanted = to or release.previous_version
    if wanted is None or wanted not in kept:
        problem = f"version {to} is not kept here" if to else f"{release.model} has no version before {release.version}"
        raise ContractViolation(
            f"{problem} to return to; kept are: {', '.join(sorted(kept))}. Release the one that you want: "
            f"lifecycle release VERSION --model {release.model}"
        )
    return wanted


def _return(folder: Path, release: Release, target: str, why: str) -> Release:
    """Move the traffic, at once where the target's server runs.

    Returns:
        The new record; it says that the registry is to follow.
    """
    if release.version == target and (release.change is None or release.change.phase == "registry"):
        # A rollback that is done again: nothing is left to do but the alias.
        previous = release.previous_version
        return replace(release, change=_rollback(target, previous, "registry", why))
    leaving = release.version
    release = startable(folder, replace(release, change=_rollback(target, leaving, "returning", why)))
    write_release(folder, release)
    envoy = envoy_of(folder, release)
    if envoy.is_ready() and server_is_ready(release.model, release.server(target)):
        envoy.publish(release.servers, release.split)
    else:
        others = [item for item in read_releases(folder) if item.model != release.model]
        bring_up(folder, [*running(folder, others), release])
    release = replace(
        release,
        version=target,
        previous_version=leaving,
        change=_rollback(target, leaving, "registry", why),
        fallback=False,
    )
    write_release(folder, release)
    record(folder, Event(release.model, target, leaving, "returned", "rollback", why))
    return release


def _rollback(target: str, leaving: str | None, phase: Phase, why: str) -> Change:
    return Change(action="rollback", candidate=target, champion=leaving, phase=phase, percent=100, why=why)


def release_of(folder: Path, model: str) -> Release:
    """What is released of a model.

    Raises:
        ContractViolation: nothing is, or the record of it cannot be read.
    """
    releases = {release.model: release for release in read_releases(folder)}
    if model not in releases:
        raise ContractViolation(f"{model} is not released in {folder}; released are: {', '.join(releases) or 'none'}.")
    return releases[model]


def endpoint_of(folder: Path, release: Release) -> Endpoint:
    """Where a release answers, whether it does, and what is not as it should be."""
    with release.listener.client(timeout=2) as client:
        answer = client.get(ready_path(release.model))
    healthy = answer.status == 200
    remarks = []
    if release.change is not None:
        remarks.append(describe_change(folder, release))
    by = answer.headers.get(VERSION_HEADER, "")
    if healthy and by not in release.split.percentages:
        remarks.append(
            f"the server of version {release.version} is down: version {by} answers for it meanwhile; its log is "
            f"{folder / 'supervisor' / 'logs' / f'{server_program(release.model, release.version)}.log'}"
        )
    if healthy and not Supervisor(folder).is_running():
        remarks.append("the process manager is gone: what is killed stays down; `lifecycle serve` starts it again")
    return Endpoint(
        url=f"{'http' if release.listener.tls is None else 'https'}://{LOOPBACK}:{release.listener.http_port}",
        grpc=f"{LOOPBACK}:{release.listener.grpc_port}",
        model=release.model,
        version=release.version,
        healthy=healthy,
        shares=dict(release.split.percentages),
        remarks=tuple(remarks),
    )


def describe_change(folder: Path, release: Release) -> str:
    """What is under way, or was left unfinished, in words, with what to do."""
    change = release.change
    assert change is not None
    if change.phase == "registry":
        return (
            f"version {release.version} serves after a rollback, and the registry's alias may name version "
            f"{change.champion} still: `lifecycle rollback {release.model} --to {release.version}` moves it"
        )
    shares = ", ".join(f"{share}% by version {version}" for version, share in release.split.percentages.items())
    copy = f", a copy to version {release.split.mirror}" if change.mirror else ""
    told = f"{change.action} of version {change.candidate} by {change.by} since {change.since}: {shares}{copy}"
    if change.action == "rollback":
        return f"{told}; it was cut off: `lifecycle rollback {release.model}` finishes it"
    ways = f"`lifecycle release --resume`, `lifecycle promote {release.model}` or `lifecycle rollback {release.model}`"
    if change.phase == "paused":
        return f"{told}; paused: {change.why}. Go on, take it, or go back: {ways}"
    if controlled(folder, change):
        return f"{told}; under way"
    return f"{told}; its controller, process {change.process}, is gone. Go on, take it, or go back: {ways}"
