"""HTTP server of the dashboard: the page and its parts, what Prometheus reads, and where it finds the rest.

It answers this machine alone, under its own names: what a page elsewhere asks of it by a name that leads here is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST

from kfp_lifecycle.serving.ports import LOOPBACK

SCRIPT = Path(__file__).parent / "dashboard.js"
HTML, JSON, JAVASCRIPT = "text/html; charset=utf-8", "application/json", "text/javascript; charset=utf-8"
OWN_NAMES = (LOOPBACK, "localhost")


@dataclass(frozen=True)
class Answer:
    """What is answered at a path."""

    kind: str
    content: Callable[[], str | bytes]


def script() -> Answer:
    """The page's script."""
    return Answer(JAVASCRIPT, SCRIPT.read_bytes)


def metrics(content: Callable[[], bytes]) -> Answer:
    """Prometheus's text format."""
    return Answer(CONTENT_TYPE_LATEST, content)


def document(content: Callable[[], object]) -> Answer:
    """JSON."""
    return Answer(JSON, lambda: json.dumps(content()))


def dashboard_server(port: int, answers: Mapping[str, Answer], host: str = LOOPBACK) -> ThreadingHTTPServer:
    """A server that has begun to listen; `serve_forever` answers.

    Args:
        port: Where it listens.
        answers: By path.
        host: On which address. On this machine's own, whoever calls it by another name is refused: a page of somebody
            else's in this machine's browser may not read it.

    Raises:
        OSError: The port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.headers.get("host", "").rpartition(":")[0]
            answer = answers.get(self.path.partition("?")[0])
            if host == LOOPBACK and name not in OWN_NAMES:
                self._send(HTTPStatus.FORBIDDEN, "text/plain", f"this is {' or '.join(OWN_NAMES)}\n".encode())
            elif answer is None:
                known = f"nothing is here; there are {', '.join(answers)}\n"
                self._send(HTTPStatus.NOT_FOUND, "text/plain", known.encode())
            else:
                try:
                    content = answer.content()
                except Exception as error:  # whoever asks is to know of it, whatever it is
                    self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{error}\n".encode())
                    raise
                self._send(HTTPStatus.OK, answer.kind, content if isinstance(content, bytes) else content.encode())

        def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.send_header("cache-control", "no-store")
            self.send_header("x-content-type-options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: what is asked every few seconds is no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server
