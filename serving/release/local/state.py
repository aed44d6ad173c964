"""Release records of this machine: one for each model in the serving folder, and who may change it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.serving.release.local.envoy import Listener, Server

RECORD_FILE = "endpoint.json"


@dataclass(frozen=True)
class ServedVersion(Server):
    """A version's server with all that is needed to start it again, as it was when the version was released."""

    python: str
    """Interpreter of the serving environment."""
    online_store: str
    prediction_log: str


@dataclass(frozen=True)
class Release:
    """A released model: the address, and who answers there."""

    model: str
    version: str
    previous_version: str | None
    listener: Listener
    servers: tuple[ServedVersion, ...]
    """One for each version that runs: the one that answers, the previous one, during a release the candidate."""

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
        return Release(listener=Listener(**content.pop("listener")), servers=servers, **content)
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
    with (folder / ".lock").open("a+") as file:
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
