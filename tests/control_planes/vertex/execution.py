"""Execution of runs: a process for each, as on the Kubeflow stand-in."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.control_planes.kubeflow.execution import Execution
from tests.control_planes.kubeflow.fork_server import fork_server
from tests.control_planes.kubeflow.order import Order
from tests.control_planes.kubeflow.specification import Template
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.run_process import RESOURCE

RUN_PROCESS = "tests.control_planes.vertex.run_process"


class JobExecution(Execution):
    """Starts, finds and ends the processes of runs."""

    def start(self, run: Document) -> None:
        """Begin a run that was created."""
        template, folder = Template.parse(run["text"]), self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        pipeline = folder / "pipeline.yaml"
        pipeline.write_text(template.text(), "utf-8")
        (folder / RESOURCE).write_text(run["name"], "utf-8")
        Order(
            run_id=run["id"],
            workflow=run["workflow"],
            pipeline=str(pipeline),
            arguments=run["arguments"],
            pipeline_root=run["pipeline_root"],
            objects=str(self._plane.objects),
            # Runs of pipelines of one name share a cache.
            cache=str(self._plane.folder / "cache" / template.name),
            clock_offset=self._plane.clock.offset,
        ).write(folder)
        number = fork_server(RUN_PROCESS).start(folder)
        run["process"] = [number, psutil.Process(number).create_time()]

    def folder(self, run: Document) -> Path:
        """Where a run keeps what it has to say."""
        return self._folder(run)
