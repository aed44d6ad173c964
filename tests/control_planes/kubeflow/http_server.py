"""HTTP server of the API: paths, bodies, tokens, and the faults that a test orders."""

from __future__ import annotations

import contextlib
import email
import http.server
import json
import re
import socket
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.control_planes.kubeflow.control_plane import ControlPlane, User
from tests.control_planes.kubeflow.errors import ApiError, Code, invalid
from tests.control_planes.kubeflow.experiments import Experiments
from tests.control_planes.kubeflow.faults import CODES, Fault, Faults
from tests.control_planes.kubeflow.pipelines import Pipelines, UploadError
from tests.control_planes.kubeflow.recurring_runs import RecurringRuns
from tests.control_planes.kubeflow.runs import Runs

API = "/apis/v2beta1"
# How a cluster's API server reaches it for whoever has a kubeconfig.
THROUGH_KUBERNETES = re.compile(r"^/api/v1/namespaces/[^/]+/services/ml-pipeline:http/proxy/+")
VERSION = "2.17.0"


@dataclass(frozen=True)
class Request:
    """A request of the API."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes

    def body(self) -> dict[str, Any]:
        """Its JSON."""
        try:
            body = json.loads(self.content or b"{}")
        except ValueError as error:
            raise invalid(f"proto: syntax error (line 1:1): {error}") from error
        if not isinstance(body, dict):
            raise invalid("proto: syntax error (line 1:1): unexpected token")
        return body

    def file(self) -> tuple[str, bytes]:
        """Name and content of the file that it uploads."""
        head = f"Content-Type: {self.headers.get('content-type', '')}\r\n\r\n".encode()
        form = email.message_from_bytes(head + self.content)
        parts = form.get_payload() if form.is_multipart() else []
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, Message) and part.get_param("name", header="content-disposition") == "uploadfile":
                content = part.get_payload(decode=True)
                return part.get_filename() or "", content if isinstance(content, bytes) else b""
        raise UploadError(400, "Failed to read pipeline from file")


Answer = dict[str, Any] | Iterable[bytes]
Route = tuple[str, re.Pattern[str], Callable[..., Answer]]


class Api:
    """The paths of the API, each with what answers it."""

    def __init__(
        self,
        plane: ControlPlane,
        experiments: Experiments,
        pipelines: Pipelines,
        runs: Runs,
        recurring_runs: RecurringRuns,
    ) -> None:
        self._plane = plane
        one, two = "([^/:]+)", "([^/:]+)/{}/([^/:]+)"
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", f"{API}/healthz", lambda request: self._healthz()),
            ("POST", f"{API}/experiments", lambda request: experiments.create(request.body())),
            ("GET", f"{API}/experiments", lambda request: experiments.listed(request.query)),
            ("GET", f"{API}/experiments/{one}", lambda request, identity: experiments.get(identity)),
            ("DELETE", f"{API}/experiments/{one}", lambda request, identity: experiments.delete(identity)),
            ("POST", f"{API}/experiments/{one}:archive", lambda request, identity: experiments.archive(identity)),
            ("POST", f"{API}/experiments/{one}:unarchive", lambda request, identity: experiments.unarchive(identity)),
            ("POST", f"{API}/pipelines/upload", lambda request: pipelines.upload(request.file(), request.query)),
            (
                "POST",
                f"{API}/pipelines/upload_version",
                lambda request: pipelines.upload_version(request.file(), request.query),
            ),
            ("GET", f"{API}/pipelines", lambda request: pipelines.listed(request.query)),
            ("GET", f"{API}/pipelines/names/{one}", lambda request, name: pipelines.get_by_name(name, request.query)),
            ("GET", f"{API}/pipelines/{one}", lambda request, identity: pipelines.get(identity)),
            ("DELETE", f"{API}/pipelines/{one}", lambda request, identity: pipelines.delete(identity, request.query)),
            (
                "GET",
                f"{API}/pipelines/{one}/versions",
                lambda request, pipeline: pipelines.list_versions(pipeline, request.query),
            ),
            ("GET", f"{API}/pipelines/{two.format('versions')}", lambda request, *named: pipelines.get_version(*named)),
            (
                "DELETE",
                f"{API}/pipelines/{two.format('versions')}",
                lambda request, *named: pipelines.delete_version(*named),
            ),
            ("POST", f"{API}/runs", lambda request: runs.create(request.body())),
            ("GET", f"{API}/runs", lambda request: runs.listed(request.query)),
            ("GET", f"{API}/runs/{one}", lambda request, identity: runs.get(identity)),
            ("DELETE", f"{API}/runs/{one}", lambda request, identity: runs.delete(identity)),
            ("POST", f"{API}/runs/{one}:archive", lambda request, identity: runs.archive(identity)),
            ("POST", f"{API}/runs/{one}:unarchive", lambda request, identity: runs.unarchive(identity)),
            ("POST", f"{API}/runs/{one}:terminate", lambda request, identity: runs.terminate(identity)),
            ("POST", f"{API}/runs/{one}:retry", lambda request, identity: runs.retry(identity)),
            ("POST", f"{API}/recurringruns", lambda request: recurring_runs.create(request.body())),
            ("GET", f"{API}/recurringruns", lambda request: recurring_runs.listed(request.query)),
            ("GET", f"{API}/recurringruns/{one}", lambda request, identity: recurring_runs.get(identity)),
            (
                "DELETE",
                f"{API}/recurringruns/{one}",
                lambda request, identity: recurring_runs.delete(identity, request.query),
            ),
            (
                "POST",
                f"{API}/recurringruns/{one}:enable",
                lambda request, identity: recurring_runs.enable(identity, True),
            ),
            (
                "POST",
                f"{API}/recurringruns/{one}:disable",
                lambda request, identity: recurring_runs.enable(identity, False),
            ),
            # Whether it is asked to follow makes no difference: the real one reads that from where it never is.
            ("GET", f"/apis/v1alpha1/runs/{two.format('nodes')}/log", lambda request, *named: runs.log(*named)),
            (
                "GET",
                f"{API}/runs/{two.format('nodes')}/artifacts/{one}:read",
                lambda request, *named: runs.artifact(*named),
            ),
        ]
        self._routes: list[Route] = [(method, re.compile(path), answer) for method, path, answer in routes]

    def answer(self, request: Request) -> Answer:
        """What a request is answered.

        Raises:
            ApiError: it is refused.
            UploadError: it is an upload that is refused.
        """
        found = [
            (method, match, answer) for method, path, answer in self._routes if (match := path.fullmatch(request.path))
        ]
        for method, match, answer in found:
            if method == request.method:
                with self._plane.request_of(self._user(request)):
                    return answer(request, *map(urllib.parse.unquote, match.groups()))
        error = ApiError(Code.unimplemented, "Method Not Allowed") if found else ApiError(Code.not_found, "Not Found")
        error.message = error.external
        raise error

    def _user(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._plane.settings.users.get(token) if scheme == "Bearer" else None

    def _healthz(self) -> dict[str, Any]:
        return {
            "commit_sha": "stand-in",
            "tag_name": VERSION,
            "multi_user": self._plane.settings.multi_user,
            "pipeline_store": "database",
        }


class Server(http.server.ThreadingHTTPServer):
    """The server; its `api` may be exchanged while it runs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], api: Api, faults: Faults) -> None:
        self.api, self.faults = api, faults
        self.requests: list[str] = []
        """What was asked, in order: `POST /apis/v2beta1/runs`."""
        self.connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def close_connections(self) -> None:
        """Cut the connections that clients keep open."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    """Speaks HTTP for one connection."""

    protocol_version = "HTTP/1.1"
    # Small answers are not to wait for one another.
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _handle(self) -> None:
        url = urllib.parse.urlsplit(THROUGH_KUBERNETES.sub("/", self.path))
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {url.path}")
        fault = self.server.faults.take(self.command, url.path) or Fault()
        time.sleep(fault.delay)
        if fault.status:
            self._refuse(fault)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = {name: values[-1] for name, values in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()}
        status, body, kind = self._answer(Request(self.command, url.path, query, headers, content))
        if fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(status, body, kind)

    def _answer(self, request: Request) -> tuple[int, bytes, str]:
        is_log, is_artifact = request.path.endswith("/log"), request.path.endswith(":read")
        try:
            answer = self.server.api.answer(request)
        except UploadError as error:
            body = {"error_message": error.message, "error_details": error.message}
            return error.status, json.dumps(body).encode(), "application/json"
        except ApiError as error:
            if is_log or is_artifact:
                # The real one begins its answer before it looks for the log, so its status is 200 all the same.
                status = 200 if is_log else 403 if error.code is Code.permission_denied else 500
                body = {"error_message": error.message, "error_details": error.message}
                return status, json.dumps(body).encode(), "text/plain; charset=utf-8"
            return error.code.status, json.dumps(error.body()).encode(), "application/json"
        except Exception:
            message = f"Internal error: {traceback.format_exc()}"
            return 500, json.dumps({"code": 13, "message": message, "details": []}).encode(), "application/json"
        if isinstance(answer, dict):
            return 200, json.dumps(answer).encode(), "application/json"
        return 200, b"".join(answer), "text/plain; charset=utf-8"

    def _refuse(self, fault: Fault) -> None:
        code = CODES.get(fault.status)
        error = ApiError(code or Code.internal, fault.message or http.HTTPStatus(fault.status).phrase)
        self._send(fault.status, json.dumps(error.body()).encode(), "application/json", fault.headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _handle
