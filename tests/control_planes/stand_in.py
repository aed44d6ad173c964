"""Stand-in for a control plane: a server, its controllers and its state, in one object with a life of its own."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.control_planes.kubeflow.clock import Clock
from tests.control_planes.kubeflow.control_plane import ControlPlane, Settings
from tests.control_planes.kubeflow.faults import Fault, Faults
from tests.control_planes.kubeflow.fork_server import fork_server
from tests.control_planes.kubeflow.http_server import Server
from tests.control_planes.kubeflow.order import place_of
from tests.control_planes.kubeflow.state import State

# How often it looks for schedules that are due, and for runs that have ended.
TICK_SECONDS = 0.2


class Runs(Protocol):
    """The runs of a control plane."""

    def end_all(self) -> None:
        """End those that are under way."""

    def lose(self, identity: str) -> None:
        """Kill the process of a run and of its steps."""


class Schedules(Protocol):
    """The schedules of a control plane."""

    def tick(self) -> None:
        """Begin what is due."""


class StandIn(ABC):
    """A control plane that really runs what it is given.

    All it knows is in the folder: another one over the same folder goes on where this one stopped.
    """

    RUN_PROCESS: str
    """The module that a run's process is forked from."""

    def __init__(
        self,
        folder: Path,
        *,
        objects: Path | None = None,
        settings: Settings | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """
        Args:
            folder: For the state, and for what runs leave.
            objects: Folder that stands for the object store; by default `objects` in the folder.
            settings: How it is set up.
            host: Address to answer on.
            port: Port to answer on; by default a free one.
        """
        self.folder = folder
        self.objects = objects or folder / "objects"
        self.settings = settings or Settings()
        self.clock = Clock()
        self.faults = Faults()
        self._host, self._port = host, port
        self._stopped = threading.Event()

    @abstractmethod
    def open(self, plane: ControlPlane) -> tuple[Runs, Schedules]:
        """Make runs and schedules over a state, and what `serve` answers with."""

    @abstractmethod
    def serve(self, address: tuple[str, int]) -> Server:
        """The server, which answers by what was opened."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self._host}:{self._port}"

    @property
    def requests(self) -> list[str]:
        """What was asked since it was started, in order: `POST /apis/v2beta1/runs`."""
        return self._server.requests

    def start(self) -> None:
        """Answer requests, and take up the runs that are under way."""
        # It gets ready while nobody asks for a run yet.
        fork_server(self.RUN_PROCESS)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)
        self._state = State(self.folder / "state.sqlite")
        plane = ControlPlane(self.folder, self.objects, self._state, self.clock, self.settings)
        self._runs, self._schedules = self.open(plane)
        self._server = self.serve((self._host, self._port))
        self._port = self._server.server_port
        self._stopped.clear()
        self.clock.moved = self._schedules.tick
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, *, leave_runs: bool = False) -> None:
        """Answer no more.

        Args:
            leave_runs: Let the runs that are under way go on, as they do while the API server is away.
        """
        self._stopped.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        if not leave_runs:
            self._runs.end_all()
        self._state.close()

    def restart(self, *, away: float = 0.0) -> None:
        """Stop and start again, at the same address and with the same state, while the runs go on.

        Args:
            away: Seconds in between.
        """
        self.stop(leave_runs=True)
        time.sleep(away)
        self.start()

    def order(self, fault: Fault) -> None:
        """Let the next requests that a fault concerns meet it."""
        self.faults.order(fault)

    def lose(self, run: str) -> None:
        """Kill the process of a run and of its steps, as the loss of the machine would that they are on."""
        self._runs.lose(run)

    def object(self, uri: str) -> Path:
        """Where the object store keeps what a URI names: a file or folder to read, or to put there."""
        return Path(place_of(uri, str(self.objects)))

    def _watch(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            self._schedules.tick()


def serve_until_interrupted(kind: type[StandIn], what: str) -> None:
    """The command line of a stand-in.

    Args:
        kind: The stand-in.
        what: What it stands for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    parser = argparse.ArgumentParser(description=f"A {what} for tests, that really runs what it is given.")
    parser.add_argument("--folder", type=Path, required=True, help="for its state and what runs leave")
    parser.add_argument("--objects", type=Path, help="folder that stands for the object store")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with kind(given.folder, objects=given.objects, port=given.port) as server:
        print(server.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
