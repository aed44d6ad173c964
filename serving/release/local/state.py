"""Release records of this machine: one for each model in the serving folder, and who may change it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.serving.release.local.envoy import Certificate, Listener
from kfp_lifecycle.serving.release.local.history import person
from kfp_lifecycle.serving.release.local.routing import Server, Split

RECORD_FILE = "endpoint.json"
LOCK_FILE = ".lock"

Phase = Literal["starting", "sharing", "paused", "returning", "registry"]


@dataclass(frozen=True)
class ServedVersion(Server):
    """A version's server with all that is needed to start it again, as it was when the version was released."""

    python: str
    """Interpreter of the serving environment."""
    online_store: str
    prediction_log: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """What else it is told, by the names of its arguments."""
    variables: Sequence[str] = ()
    """Names of the variables that hold its secrets; their values are the process manager's to keep."""


@dataclass(frozen=True)
class Change:
    """A change of traffic that is under way: intent, written before each of its actions."""

    action: Literal["release", "rollback"]
    candidate: str
    """The version that is to have all traffic in the end."""
    champion: str | None
    """The version that had it; None for a first release."""
    phase: Phase
    """`starting` the candidate's server, `sharing` traffic, `paused` until somebody decides, `returning` traffic to
    the candidate of a rollback, `registry`: the traffic has moved, and the registry's alias is to follow."""
    percent: int = 0
    """The candidate's share of the traffic."""
    mirror: bool = False
    """Whether it sees a copy of the champion's."""
    why: str = ""
    """Of a pause or a return."""
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    by: str = field(default_factory=person)
    process: int = field(default_factory=os.getpid)
    """The controller; it may be gone."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Section `deployment` of a release, by which it can be resumed."""


@dataclass(frozen=True)
class Release:
    """A released model: the address, and who answers there."""

    model: str
    version: str
    previous_version: str | None
    listener: Listener
    servers: tuple[ServedVersion, ...]
    """One for each version that runs: the one that answers, the previous one, during a release the candidate."""
    change: Change | None = None
    """What is under way, or was when its controller ended."""
    fallback: bool = True
    """Whether the previous version may answer where this one is down: not where it was rolled back from."""

    @property
    def split(self) -> Split:
        """Who has the traffic, by this record."""
        change = self.change
        if change is None or change.champion is None or change.phase == "registry":
            return Split({self.version: 100}, stable=self.stable)
        shares = {change.champion: 100 - change.percent, change.candidate: change.percent}
        return Split(
            {version: share for version, share in shares.items() if share > 0},
            mirror=change.candidate if change.mirror else None,
            stable=self.stable,
        )

    @property
    def stable(self) -> tuple[str, ...]:
        """Versions that are trusted, the best first: one of them takes over where a server is down."""
        first_release = self.change is not None and self.change.champion is None
        current = None if first_release else self.version
        return tuple(v for v in (current, self.previous_version if self.fallback else None) if v is not None)

    @property
    def needed(self) -> tuple[str, ...]:
        """Versions without which this record does not hold; a previous one may be down."""
        split = self.split
        asked = [*split.percentages, split.mirror, self.change.candidate if self.change else None]
        return tuple(dict.fromkeys(version for version in asked if version is not None))

    def without_change(self) -> Release | None:
        """The record of before the change; None where there was nothing before."""
        if self.change is None or self.change.phase == "registry":
            return replace(self, change=None)
        if self.change.champion is None:
            return None
        kept = tuple(server for server in self.servers if server.version in (self.version, self.previous_version))
        return replace(self, servers=kept, change=None)

    def server(self, version: str) -> ServedVersion:
        """The server of a version.

        Raises:
            KeyError: that version is not kept.
        """
        return {server.version: server for server in self.servers}[version]


def read_releases(folder: Path) -> list[Release]:
    """All that is released in a serving folder, sorted by model.

    Raises:
        ContractViolation: a record cannot be read.
    """
    return [read_release(file) for file in sorted(folder.glob(f"*/{RECORD_FILE}"))]


def read_release(file: Path) -> Release:
    """One record.

    Raises:
        ContractViolation: it cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        servers = tuple(ServedVersion(**server) for server in content.pop("servers"))
        at, change = content.pop("listener"), content.pop("change", None)
        tls = Certificate(**at["tls"]) if at.get("tls") else None
        listener = Listener(at["http_port"], at["grpc_port"], tuple(at["admin_ports"]), tls)
        return Release(listener=listener, servers=servers, change=Change(**change) if change else None, **content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContractViolation(
            f"{file} does not say what is released ({type(error).__name__}: {error}). "
            f"Stop the servers with `lifecycle down`, remove {file.parent} and release the model again."
        ) from error


def write_release(folder: Path, release: Release) -> None:
    """Record what is released; a reader sees the old record or the new one."""
    write_whole(folder / release.model / RECORD_FILE, json.dumps(asdict(release), indent=2))


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the serving folder: releases, rollbacks, starts and stops happen one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            print(f"Waiting for {holder} to finish its work in {folder}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def controlled(folder: Path, change: Change) -> bool:
    """Whether the controller of a change lives: it holds the folder, and a lock ends with its process."""
    try:
        with (folder / LOCK_FILE).open() as file:
            holder = file.read()
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return holder.strip() == f"process {change.process}"
    return False
