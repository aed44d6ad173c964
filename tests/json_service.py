"""The frame of the stand-ins for services that speak JSON over HTTP: each says what it answers, and no more."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.served import served


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    body: bytes
    """Unpacked, where it came compressed."""

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Answer:
    """What it is answered, where that is more than a body."""

    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def json_service(answer: Callable[[Request], Answer | dict[str, Any]]) -> Iterator[str]:
    """Answer every request of a client until the end; the URL that leads there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                answered = answer(Request(self.command, self.path, dict(self.headers), body))
            except Exception as error:
                # The stand-in's own mistake: a client that is not answered would ask again for minutes.
                answered = Answer({"error": {"message": f"{type(error).__name__}: {error}"}}, 400)
            if not isinstance(answered, Answer):
                answered = Answer(answered)
            content = b"" if answered.content is None else json.dumps(answered.content).encode()
            self.send_response(answered.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **answered.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    with served(Handler) as url:
        yield url
