"""HTTP/1.1 connections: Node's parser (llhttp, by httptools) and an asyncio protocol around it.

By measurement: a request costs 12 µs of processor time here, 33 to 52 on uvicorn and 45 to 88 on granian, where all of
a prediction is to cost a hundred. So there is no ASGI between parser and model, and no task for a request that is
answered at once.

Requests of one connection are answered one after the other, in order. What a connection may take is bounded: the size
of head and body, the time for a request to come whole and for an answer to be taken, the number of connections.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

from kfp_lifecycle.serving.server.errors import (
    HeadersTooLarge,
    InvalidRequest,
    Refusal,
    TooLarge,
    TooSlow,
    Unavailable,
)
from kfp_lifecycle.serving.server.http_message import HttpRequest, HttpResponse

MOST_HEAD_BYTES = 32_768
# What is read of one connection before others have their turn: so many requests, seen in pieces of so many bytes.
PIECE_BYTES = 4_096
REQUESTS_A_TURN = 16
# What a client still sends after it was refused is let come for so long.
UNREAD_SECONDS = 2.0
# Where all connections are taken, one that has asked nothing whole for so long makes room for another client.
STALL_SECONDS = 1.0
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True)
class Limits:
    """What one connection, and all of them, may take."""

    body_bytes: int = 16 * 2**20
    connections: int = 2_048
    receive_seconds: float = 30.0
    """For a request to come whole, and for an answer to be taken."""
    idle_seconds: float = 75.0
    """Between two requests: longer than Envoy keeps an idle connection, so that it is always the one to close."""


# Longer than between two looks of a front at a server's readiness.
LINGER_SECONDS = 1.5

Handler = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]
Refuser = Callable[[Refusal, HttpRequest | None], HttpResponse]


class Connections:
    """All connections of a server: their handler, their limits, and their end."""

    def __init__(self, handler: Handler, refuser: Refuser, limits: Limits) -> None:
        """Note who answers.

        Args:
            handler: Answers a request, at once or later.
            refuser: Makes the answer to a request that never reaches the handler.
            limits: What connections may take.
        """
        self.handler, self.refuser, self.limits = handler, refuser, limits
        self.open: set[Connection] = set()
        self.draining = False
        self.date = b""
        self._turn_began = 0.0
        self.tick()

    def __call__(self) -> Connection:
        """A protocol for a connection that has come."""
        return Connection(self)

    def arrival(self) -> float:
        """When what is read now had arrived at the latest: when the event loop began with what stood ready.

        So a request's time counts the requests that were answered before it in the same turn.
        """
        if not self._turn_began:
            self._turn_began = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._turn_began

    def _end_turn(self) -> None:
        self._turn_began = 0.0

    def tick(self) -> None:
        """Once a second: the date of answers, and the end of connections that take too long."""
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        now = time.monotonic()
        for connection in [one for one in self.open if one.deadline < now]:
            connection.time_out()

    def make_room(self) -> bool:
        """Whether another connection may be had; if need be, by ending the one that has kept its place for the longest
        without a whole request, so that nobody can hold all places by saying nothing."""
        if len(self.open) < self.limits.connections:
            return True
        until = time.monotonic() + self.limits.receive_seconds - STALL_SECONDS
        stalled = [one for one in self.open if one.is_unasked and one.deadline <= until]
        if stalled:
            longest = min(stalled, key=lambda one: one.deadline)
            self.open.discard(longest)
            longest.transport.abort()
        return bool(stalled)

    async def drain(self, seconds: float, stop_listening: Callable[[], None]) -> None:
        """Answer what still comes, on each connection as its last, then close those that nobody asks on.

        A proxy may ask on a connection in the very moment that the server closes it, or begin one that the system would
        reset since nobody has accepted it yet; one that looks at readiness does neither after LINGER_SECONDS. So where
        somebody is connected, the server listens for as long, and until nobody is any more.

        Args:
            seconds: How long all of that may take.
            stop_listening: Lets nobody connect any more.
        """
        self.draining = True
        began, linger = time.monotonic(), LINGER_SECONDS if self.open else 0.0
        while (passed := time.monotonic() - began) < seconds and (self.open or passed < linger):
            if passed > LINGER_SECONDS:
                for connection in list(self.open):
                    connection.close_when_idle()
            await asyncio.sleep(0.02)
        stop_listening()
        for connection in list(self.open):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[HttpRequest, bool]] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._writable, self._ended, self.is_receiving, self._asked = True, False, False, False
        self._unread, self._completed = b"", 0
        self._begin()

    def _begin(self) -> None:
        self._target, self._size = b"", 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._refused: Refusal | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self.deadline = time.monotonic() + self._all.limits.receive_seconds
        if not self._all.make_room():
            self._refuse(Unavailable("as many connections are open as may be; use those that are, or ask again later"))
            transport.close()
            return
        self._all.open.add(self)

    @property
    def is_unasked(self) -> bool:
        """Whether its client has yet to send its first request, or the rest of one."""
        return self.is_receiving or not self._asked

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what is being answered is answered to nobody."""
        self._all.open.discard(self)
        self._ended = True
        self._waiting.clear()

    def eof_received(self) -> bool:
        """The client says nothing more; it may still read."""
        if self.is_receiving and not self._ended:
            self._refuse(InvalidRequest("the request was cut off: the connection ended before it was whole"))
        self._ended = True
        return self._answering is not None

    def pause_writing(self) -> None:
        """The client takes its answers too slowly."""
        self._writable = False
        self.deadline = time.monotonic() + self._all.limits.receive_seconds

    def resume_writing(self) -> None:
        """It has taken them."""
        self._writable = True
        self._wait()
        self._answer_next()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._unread:
            self._unread += data
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Parse it, but let other connections have their turn after some requests."""
        self._completed = 0
        for start in range(0, len(data), PIECE_BYTES):
            if self._completed >= REQUESTS_A_TURN:
                self._unread = data[start:]
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._read_on)
                return
            self._parse(data if len(data) <= PIECE_BYTES else data[start : start + PIECE_BYTES])

    def _read_on(self) -> None:
        unread, self._unread = self._unread, b""
        self._read(unread)
        if not self._unread:
            self._answer_next()

    def _parse(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here; what follows may be one.
            self._end_after_answers()
        except httptools.HttpParserError as error:
            self._refuse(self._refused or InvalidRequest(f"this is no HTTP/1.1 request: {error}"))

    # What the parser finds, in this order.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._began = self._all.arrival()
        self.is_receiving = True
        self.deadline = time.monotonic() + self._all.limits.receive_seconds

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._headers[name.lower()] = value
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MOST_HEAD_BYTES:
            raise self._stopped(HeadersTooLarge(f"the head of the request is larger than {MOST_HEAD_BYTES:,} bytes"))

    def on_headers_complete(self) -> None:
        """All headers are there."""
        self._size = 0
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._all.limits.body_bytes:
            raise self._stopped(self._too_large())
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._waiting:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._size += len(body)
        if self._size > self._all.limits.body_bytes:
            raise self._stopped(self._too_large())
        self._body.append(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self.is_receiving, self._asked = False, True
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = HttpRequest(self._parser.get_method(), self._target, self._headers, body, self._began, self._address)
        self._completed += 1
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._answering is None and self._writable:
            self._answer_next()
        else:
            self.transport.pause_reading()

    def _too_large(self) -> Refusal:
        return TooLarge(f"a body may hold {self._all.limits.body_bytes:,} bytes: send several requests")

    def _stopped(self, refusal: Refusal) -> Refusal:
        # The parser tells whoever called it of an error in its own words.
        self._refused = refusal
        return refusal

    # Answers.

    def _answer_next(self) -> None:
        while self._waiting and self._writable and self._answering is None:
            request, keep_alive = self._waiting.popleft()
            self.deadline = float("inf")
            answer = self._all.handler(request)
            if isinstance(answer, HttpResponse):
                self._send(answer, request, keep_alive)
            else:
                self._answering = asyncio.ensure_future(self._answer_later(answer, request, keep_alive))
        if not (self._waiting or self._unread or self._answering or self.transport.is_closing()):
            self.transport.resume_reading()

    async def _answer_later(self, answer: Awaitable[HttpResponse], request: HttpRequest, keep_alive: bool) -> None:
        response = await answer
        self._answering = None
        self._send(response, request, keep_alive)
        self._answer_next()

    def _send(self, response: HttpResponse, request: HttpRequest | None, keep_alive: bool) -> None:
        if self.transport.is_closing():
            return
        closes = response.closes or self._ended or self._all.draining or not keep_alive
        body = response.body
        head = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
            _STATUS_LINES[response.status],
            self._all.date,
            response.content_type,
            len(body),
            response.headers,
            b"connection: close\r\n" if closes else b"",
        )
        self._wait()
        self.transport.write(head if request is not None and request.method == b"HEAD" else head + body)
        if not closes:
            return
        self._waiting.clear()
        if request is not None:
            self.transport.close()
        else:
            # What is still on its way would reset the connection, and the answer with it: it is let come, unread.
            self._ended, self.deadline = True, time.monotonic() + UNREAD_SECONDS
            self.transport.write_eof()

    def _wait(self) -> None:
        """For the next request, or for the rest of one that has begun."""
        limits = self._all.limits
        self.deadline = time.monotonic() + (limits.receive_seconds if self.is_receiving else limits.idle_seconds)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request, after the answers before it, and end."""
        self._waiting.clear()
        self._ended = True
        if self._answering is None:
            response = self._all.refuser(refusal, None)
            response.closes = True
            self._send(response, None, keep_alive=False)

    def _end_after_answers(self) -> None:
        self._ended = True
        if self._answering is None and not self._waiting:
            self.transport.close()

    def time_out(self) -> None:
        """Too long has passed."""
        if self.is_receiving and not self._ended and self._answering is None:
            seconds = self._all.limits.receive_seconds
            self._refuse(TooSlow(f"the request did not come whole within {seconds:g} s"))
        elif not self._writable:
            self.transport.abort()
        else:
            self.transport.close()

    def close_when_idle(self) -> None:
        """End it, now or when what is asked is answered."""
        if self._answering is None and not self._waiting and not self.is_receiving:
            self.transport.close()
