"""Vertex AI stand-in: the regional API of pipelines and schedules, and its state, in one object."""

from __future__ import annotations

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.stand_in import StandIn
from tests.control_planes.vertex.execution import RUN_PROCESS, JobExecution
from tests.control_planes.vertex.http_server import Api, GoogleServer
from tests.control_planes.vertex.jobs import Jobs
from tests.control_planes.vertex.logs import Entries
from tests.control_planes.vertex.metadata import Contexts
from tests.control_planes.vertex.project import Project
from tests.control_planes.vertex.schedules import Schedules
from tests.control_planes.vertex.studies import Studies


class VertexStandIn(StandIn):
    """A Vertex AI Pipelines that really runs what it is given; `objects` stands for Cloud Storage."""

    RUN_PROCESS = RUN_PROCESS

    def open(self, plane: ControlPlane) -> tuple[Jobs, Schedules]:
        """As the base says."""
        jobs = Jobs(plane, JobExecution(plane))
        schedules = Schedules(plane, jobs)
        self.contexts = Contexts(plane)
        self.entries = Entries(jobs)
        self.studies = Studies(plane)
        self.project = Project()
        self._api = Api(jobs, schedules, self.contexts, self.entries, self.studies, self.project)
        return jobs, schedules

    def serve(self, address: tuple[str, int]) -> GoogleServer:
        """As the base says."""
        return GoogleServer(address, self._api, self.faults)
