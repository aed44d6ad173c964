"""HTTP/1.1 connection to one server, kept open: a request, its answer, and the next.

A release asks thousands of small requests, one after the other. The standard library's client takes a quarter of a
millisecond for each, most of it to read the few headers of an answer as those of a mail.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from io import BufferedReader

LONGEST_LINE, MOST_HEADERS = 65_536, 200
NO_BODY = (b"204", b"304")


class HttpConnection:
    """One connection; not to be shared between threads."""

    def __init__(self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        """Name the server; it is connected to at the first request."""
        self._address, self._timeout, self._tls = (host, port), timeout, tls
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None

    def close(self) -> None:
        """End the connection; the next request begins another."""
        for part in (self._reader, self._socket):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()
        self._socket = self._reader = None

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and wait for its answer.

        Returns:
            Status, headers by their names in small letters, and body.

        Raises:
            OSError: the server cannot be reached, closed the connection, or answered no HTTP.
        """
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._address[0]}:{self._address[1]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        try:
            # In one piece, so that nobody on the way is woken twice.
            self._connected().sendall(head + (body or b""))
            return self._answer()
        except ValueError as error:
            self.close()
            raise ConnectionError(f"the answer is no HTTP: {error}") from error
        except OSError:
            self.close()
            raise

    def _connected(self) -> socket.socket:
        if self._socket is None:
            opened = socket.create_connection(self._address, self._timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
            self._socket, self._reader = opened, opened.makefile("rb")
        return self._socket

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        version, status, *_ = self._line().split(None, 2)
        headers = self._headers()
        while status == b"100":
            version, status, *_ = self._line().split(None, 2)
            headers = self._headers()
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"it begins with {version[:20]!r}")
        body, ends = (b"", False) if status in NO_BODY else self._body(headers)
        if ends or version == b"HTTP/1.0" or headers.get("connection", "").lower() == "close":
            self.close()
        return int(status), headers, body

    def _body(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether the end of the connection was its end."""
        assert self._reader is not None
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self._line().split(b";")[0], 16):
                chunks.append(self._exactly(size))
                self._line()
            self._headers()
            return b"".join(chunks), False
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"])), False
        return self._reader.read(), True

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _ in range(MOST_HEADERS):
            line = self._line()
            if not line:
                return found
            name, _, value = line.decode("latin-1").partition(":")
            found[name.lower()] = value.strip()
        raise ValueError(f"it has more than {MOST_HEADERS} headers")

    def _line(self) -> bytes:
        assert self._reader is not None
        line = self._reader.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionError("the server closed the connection")
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int) -> bytes:
        assert self._reader is not None
        found = self._reader.read(size)
        if len(found) < size:
            raise ConnectionError("the server closed the connection within its answer")
        return found
