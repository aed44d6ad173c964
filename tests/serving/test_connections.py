"""Connections: what no well-behaved client sends costs nobody else anything."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.serving.server import http_protocol
from kfp_lifecycle.serving.server.encoding import refusal
from kfp_lifecycle.serving.server.errors import Refusal
from kfp_lifecycle.serving.server.http_message import HttpRequest, HttpResponse
from kfp_lifecycle.serving.server.http_protocol import Connections, Limits
from tests.devices import GOOD, INFER


def spoken(server: TrialServer, sent: bytes) -> bytes:
    """All that the server says to some bytes, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65_536):
            found += part
        return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v2/models/devices/infer HTTP/1.1\r\ncontent-length: 500\r\n\r\n{}", 400),
        (b"GET / HTTP/1.1\r\nho", 400),
        (b"POST /v2/models/devices/infer HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)  # fmt: skip
def test_garbage_is_answered_once_and_the_connection_ended(server: TrialServer, sent: bytes, status: int) -> None:
    said = spoken(server, sent)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said
    assert list(json.loads(body)) == ["error"]


def test_requests_may_be_sent_before_the_answer_to_the_last(server: TrialServer) -> None:
    body = json.dumps({"id": "%d", **GOOD}).encode()
    requests = b"".join(
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (INFER.encode(), len(sent), sent)
        for sent in (body.replace(b"%d", b"%d" % number) for number in range(50))
    )
    said = spoken(server, requests)
    assert said.count(b"HTTP/1.1 200 OK") == 50
    assert re.findall(rb'"id":"(\d+)"', said) == [b"%d" % number for number in range(50)]


def test_a_body_in_pieces_is_put_together(server: TrialServer) -> None:
    body = json.dumps(GOOD).encode()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n" % INFER.encode()
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert spoken(server, head + pieces).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_waits_to_be_told_to_go_on_is_told(server: TrialServer) -> None:
    body = json.dumps(GOOD).encode()
    head = b"POST %b HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % (INFER.encode(), len(body))
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_request_that_does_not_come_whole_in_time_is_told_so_and_a_silent_connection_is_ended() -> None:
    async def scenario() -> list[bytes]:
        connections = Connections(lambda _: HttpResponse(200), refused, Limits())
        server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        said = []
        for sent in (b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhal", b"GET / HTT", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            while not any(connection.is_receiving == bool(sent) for connection in connections.open):
                await asyncio.sleep(0.01)
            for connection in connections.open:
                connection.deadline = 0.0
            connections.tick()
            said.append(await reader.read())
            writer.close()
            while connections.open:
                await asyncio.sleep(0.01)
        server.close()
        return said

    late, late_head, silent = asyncio.run(scenario())
    for answer in (late, late_head):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert list(json.loads(body)) == ["error"]
    assert silent == b""


def test_who_holds_all_places_and_asks_nothing_makes_room_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "STALL_SECONDS", 0.0)

    async def first_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        line = await reader.readline()
        await reader.readuntil(b"\r\n\r\n")
        return line

    async def scenario() -> tuple[list[bytes], list[bytes], bytes]:
        connections = Connections(lambda _: HttpResponse(200), refused, Limits(connections=3))
        server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        silent[0][1].write(b"GET / HTT")
        kept, asked = [], []
        for _ in silent:
            kept.append(await asyncio.open_connection("127.0.0.1", port))
            asked.append(await first_line(*kept[-1]))
        # Those who have asked keep their places.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turned_away = await reader.readline()
        again = [await first_line(*one) for one in kept]
        for _, other in (*silent, *kept, (reader, writer)):
            other.close()
        await connections.drain(0, server.close)
        return asked, again, turned_away

    asked, again, turned_away = asyncio.run(scenario())
    assert asked == again == [b"HTTP/1.1 200 OK\r\n"] * 3
    assert turned_away == b"HTTP/1.1 503 Service Unavailable\r\n"


def test_who_connects_while_the_server_ends_is_answered_too_as_the_last() -> None:
    ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

    async def scenario() -> tuple[list[bytes], list[bytes]]:
        connections = Connections(lambda _: HttpResponse(200), refused, Limits())
        server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        kept = await asyncio.open_connection("127.0.0.1", port)
        kept[1].write(ask)
        await kept[0].readuntil(b"\r\n\r\n")
        draining = asyncio.ensure_future(connections.drain(20, server.close))
        await asyncio.sleep(0)
        new = await asyncio.open_connection("127.0.0.1", port)
        said = []
        for reader, writer in (new, kept):
            writer.write(ask)
            # To its end: it is closed.
            said.append(await reader.read())
            writer.close()
        await draining
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        return said, [one.split(b"\r\n")[0] for one in said]

    said, lines = asyncio.run(scenario())
    assert lines == [b"HTTP/1.1 200 OK"] * 2
    assert all(b"connection: close" in one for one in said)


def refused(error: Refusal, _: HttpRequest | None) -> HttpResponse:
    return HttpResponse(error.status, refusal(str(error)))
