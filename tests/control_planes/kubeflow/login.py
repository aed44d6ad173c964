"""A login before a Kubeflow: what oauth2-proxy and Dex do to a request without a session."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COOKIE = "oauth2_proxy_kubeflow"
FORM = b'<form method="post"><input name="login"><input name="password" type="password"></form>'


class Gate(ThreadingHTTPServer):
    """Hands requests with a session on, and sends all others to log in."""

    daemon_threads = True

    def __init__(self, behind: str, users: Mapping[str, str]) -> None:
        self.behind, self.users = urllib.parse.urlsplit(behind), users
        self.sessions: set[str] = set()
        self.logins = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

    def end_sessions(self) -> None:
        """Let every session have run out."""
        self.sessions.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        session = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        if path == "/dex/auth":
            self._send(200, b"<a href='/dex/auth/local'>Log in with Email</a>")
        elif path == "/dex/auth/local":
            self._send(302, headers={"Location": f"/dex/auth/local/login?{query}"})
        elif path == "/dex/auth/local/login":
            self._log_in(content, query)
        elif path == "/oauth2/callback":
            self._begin_session()
        elif session is not None and session.value in self.server.sessions:
            self._hand_on(content)
        else:
            self._send(302, headers={"Location": f"/dex/auth?state={secrets.token_hex(4)}"})

    do_GET = do_POST = do_DELETE = _handle

    def _log_in(self, content: bytes, query: str) -> None:
        given = dict(urllib.parse.parse_qsl(content.decode()))
        if self.command == "POST" and self.server.users.get(given.get("login", "")) == given.get("password"):
            self._send(303, headers={"Location": f"/oauth2/callback?code=x&{query}"})
        else:
            self._send(401 if self.command == "POST" else 200, FORM)

    def _begin_session(self) -> None:
        self.server.logins += 1
        session = secrets.token_hex(8)
        self.server.sessions.add(session)
        self._send(302, headers={"Location": "/apis/v2beta1/healthz", "Set-Cookie": f"{COOKIE}={session}; Path=/"})

    def _hand_on(self, content: bytes) -> None:
        place = self.server.behind
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection.request(self.command, self.path, content, headers)
        answer = connection.getresponse()
        self._send(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
        connection.close()

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/html", **(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests say nothing where all is well."""


@contextlib.contextmanager
def login_before(behind: str, users: Mapping[str, str]) -> Iterator[Gate]:
    """Put a login before an address.

    Args:
        behind: The address.
        users: Their passwords, by name.
    """
    gate = Gate(behind, users)
    thread = threading.Thread(target=gate.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        gate.shutdown()
        gate.server_close()
        thread.join()
