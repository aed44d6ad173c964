"""Kubeflow stand-in: the API server, its controllers and its state, in one object."""

from __future__ import annotations

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.execution import Execution
from tests.control_planes.kubeflow.experiments import Experiments
from tests.control_planes.kubeflow.fork_server import RUN_PROCESS
from tests.control_planes.kubeflow.http_server import Api, Server
from tests.control_planes.kubeflow.pipelines import Pipelines
from tests.control_planes.kubeflow.recurring_runs import RecurringRuns
from tests.control_planes.kubeflow.runs import Runs
from tests.control_planes.stand_in import StandIn


class KubeflowStandIn(StandIn):
    """A Kubeflow Pipelines that really runs what it is given.

    `with KubeflowStandIn(folder) as server: kfp.Client(host=server.url)`.
    """

    RUN_PROCESS = RUN_PROCESS

    def open(self, plane: ControlPlane) -> tuple[Runs, RecurringRuns]:
        """As the base says."""
        experiments, pipelines = Experiments(plane), Pipelines(plane)
        runs = Runs(plane, experiments, pipelines, Execution(plane, self.RUN_PROCESS))
        recurring_runs = RecurringRuns(plane, experiments, pipelines, runs)
        self._api = Api(plane, experiments, pipelines, runs, recurring_runs)
        return runs, recurring_runs

    def serve(self, address: tuple[str, int]) -> Server:
        """As the base says."""
        return Server(address, self._api, self.faults)
