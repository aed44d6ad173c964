"""A stand-in for Google's Dataflow: takes jobs from Beam's own client, and runs the pipeline that was staged."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.python_urns import EMBEDDED_PYTHON
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


@dataclass
class Dataflow:
    """The service, and what was asked of it."""

    refusal: str = ""
    """Jobs fail with this message; by default they are run."""
    url: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """As they were created."""

    @property
    def options(self) -> dict[str, Any]:
        """Beam's options of the newest job."""
        found: dict[str, Any] = self.jobs[-1]["environment"]["sdkPipelineOptions"]["options"]
        return found

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take a job and, unless jobs are refused, finish it."""
        self.jobs.append(job)
        if not self.refusal:
            with FileSystems.open(self.options["pipelineUrl"]) as staged:
                pipeline = beam_runner_api_pb2.Pipeline.FromString(staged.read())
            for environment in pipeline.components.environments.values():
                # The workers' image is not here; this process has what is in it.
                environment.urn, environment.payload = EMBEDDED_PYTHON, b""
                del environment.dependencies[:]
            FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
        return self.told("JOB_STATE_PENDING")

    def told(self, state: str) -> dict[str, Any]:
        """The newest job, as the service tells of it."""
        return {"id": "job-1", "name": self.jobs[-1]["name"], "projectId": "shop-project", "currentState": state}


@contextlib.contextmanager
def dataflow() -> Iterator[Dataflow]:
    """The service on a free port. It also gives tokens, at `/token`."""
    service = Dataflow()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/token":
                self._answer({"access_token": "for-tests", "token_type": "Bearer", "expires_in": 3600})
            else:
                self._answer(service.create(json.loads(content)))

        def do_GET(self) -> None:
            if "/messages" in self.path:
                message = {"time": "2026-01-01T00:00:00Z", "messageImportance": "JOB_MESSAGE_ERROR"}
                self._answer({"jobMessages": [{**message, "messageText": service.refusal}]})
            else:
                self._answer(service.told("JOB_STATE_FAILED" if service.refusal else "JOB_STATE_DONE"))

        def _answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # Beam takes a port with no other name.
        service.url = f"http://localhost:{server.server_port}/"
        try:
            yield service
        finally:
            server.shutdown()
