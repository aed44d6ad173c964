"""Kubeflow stand-in: the API server, its controllers and its state, in one object."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from tests.control_planes.kubeflow.clock import Clock
from tests.control_planes.kubeflow.control_plane import ControlPlane, Settings
from tests.control_planes.kubeflow.execution import Execution
from tests.control_planes.kubeflow.experiments import Experiments
from tests.control_planes.kubeflow.faults import Fault, Faults
from tests.control_planes.kubeflow.fork_server import fork_server
from tests.control_planes.kubeflow.http_server import Api, Server
from tests.control_planes.kubeflow.order import place_of
from tests.control_planes.kubeflow.pipelines import Pipelines
from tests.control_planes.kubeflow.recurring_runs import RecurringRuns
from tests.control_planes.kubeflow.runs import Runs
from tests.control_planes.kubeflow.state import State

# How often it looks for recurring runs that are due, and for runs that have ended.
TICK_SECONDS = 0.2


class KubeflowStandIn:
    """A Kubeflow Pipelines that really runs what it is given.

    `with KubeflowStandIn(folder) as server: kfp.Client(host=server.url)`. All it knows is in the folder: another one
    over the same folder goes on where this one stopped.
    """

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
            settings: How this Kubeflow is set up.
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

    def __enter__(self) -> KubeflowStandIn:
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
        fork_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)
        self._state = State(self.folder / "state.sqlite")
        plane = ControlPlane(self.folder, self.objects, self._state, self.clock, self.settings)
        experiments, pipelines = Experiments(plane), Pipelines(plane)
        self._runs = Runs(plane, experiments, pipelines, Execution(plane))
        self._recurring_runs = RecurringRuns(plane, experiments, pipelines, self._runs)
        api = Api(plane, experiments, pipelines, self._runs, self._recurring_runs)
        self._server = Server((self._host, self._port), api, self.faults)
        self._port = self._server.server_port
        self._stopped.clear()
        self.clock.moved = self._recurring_runs.tick
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, *, leave_runs: bool = False) -> None:
        """Answer no more.

        Args:
            leave_runs: Let the runs that are under way go on, as workflows do while the API server is away.
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
            self._recurring_runs.tick()
