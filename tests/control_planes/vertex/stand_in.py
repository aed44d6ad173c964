"""Vertex AI stand-in: the regional API of pipelines and schedules, and its state, in one object."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from tests.control_planes.kubeflow.clock import Clock
from tests.control_planes.kubeflow.control_plane import ControlPlane, Settings
from tests.control_planes.kubeflow.faults import Fault, Faults
from tests.control_planes.kubeflow.fork_server import fork_server
from tests.control_planes.kubeflow.order import place_of
from tests.control_planes.kubeflow.state import State
from tests.control_planes.vertex.execution import RUN_PROCESS, JobExecution
from tests.control_planes.vertex.http_server import Api, GoogleServer
from tests.control_planes.vertex.jobs import Jobs
from tests.control_planes.vertex.metadata import Contexts
from tests.control_planes.vertex.schedules import Schedules

# How often it looks for schedules that are due.
TICK_SECONDS = 0.2


class VertexStandIn:
    """A Vertex AI Pipelines that really runs what it is given.

    All it knows is in the folder: another one over the same folder goes on where this one stopped.
    """

    def __init__(self, folder: Path, *, objects: Path | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        """
        Args:
            folder: For the state, and for what runs leave.
            objects: Folder that stands for Cloud Storage; by default `objects` in the folder.
            host: Address to answer on.
            port: Port to answer on; by default a free one.
        """
        self.folder = folder
        self.objects = objects or folder / "objects"
        self.clock = Clock()
        self.faults = Faults()
        self._host, self._port = host, port
        self._stopped = threading.Event()

    def __enter__(self) -> VertexStandIn:
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
        """What was asked since it was started, in order: `POST /v1/projects/p/locations/l/pipelineJobs`."""
        return self._server.requests

    def start(self) -> None:
        """Answer requests, and take up the runs that are under way."""
        # It gets ready while nobody asks for a run yet.
        fork_server(RUN_PROCESS)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)
        self._state = State(self.folder / "state.sqlite")
        plane = ControlPlane(self.folder, self.objects, self._state, self.clock, Settings())
        self._jobs = Jobs(plane, JobExecution(plane))
        self._schedules = Schedules(plane, self._jobs)
        self.contexts = Contexts(plane)
        api = Api(self._jobs, self._schedules, self.contexts)
        self._server = GoogleServer((self._host, self._port), api, self.faults)
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
            leave_runs: Let the runs that are under way go on.
        """
        self._stopped.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        if not leave_runs:
            self._jobs.end_all()
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
        """Kill the process of a run and of its steps."""
        self._jobs.lose(run)

    def object(self, uri: str) -> Path:
        """Where Cloud Storage keeps what a URI names: a file or folder to read, or to put there."""
        return Path(place_of(uri, str(self.objects)))

    def _watch(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            self._schedules.tick()
