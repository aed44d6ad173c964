"""Reckless clients beside well-behaved ones: none of the latter's requests fails, whatever the former send or leave."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.server import inference_pb2 as messages
from tests.devices import GOOD, INFER, site, temperature

BODY = json.dumps(GOOD).encode()
HEAD = f"POST {INFER} HTTP/1.1\r\nhost: x\r\n".encode()
WHOLE = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
# Answers that each well-behaved client wants while something reckless goes on.
ENOUGH = 20
UNTIL_SECONDS = 60.0


def connected(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=UNTIL_SECONDS)


def said(connection: socket.socket) -> bytes:
    """All that the server says until it ends the connection, be it by a reset."""
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionError:
        pass
    return found


def slow_loris(server: TrialServer) -> None:
    """Many connections that say a little, and then wait."""
    connections = [connected(server.http_port) for _ in range(200)]
    for length in (1, 5, 20, len(HEAD), len(WHOLE) - 1):
        for connection in connections[:40]:
            connection.sendall(WHOLE[:length][-1:])
    for connection in connections:
        connection.close()


def half_closed(server: TrialServer) -> None:
    """Clients that end their half within a request, or after one."""
    for length in (0, 1, len(HEAD), len(WHOLE) - 1):
        with connected(server.http_port) as connection:
            connection.sendall(WHOLE[:length])
            connection.shutdown(socket.SHUT_WR)
            assert b" 200 " not in said(connection)
    with connected(server.http_port) as connection:
        connection.sendall(WHOLE)
        connection.shutdown(socket.SHUT_WR)
        assert said(connection).startswith(b"HTTP/1.1 200 ")


def resets(server: TrialServer) -> None:
    """Clients that reset their connection within a request, and before they have read its answer."""
    for sent in (WHOLE[:-1], WHOLE, WHOLE * 20):
        for _ in range(10):
            with connected(server.http_port) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(sent)


def giant_bodies(server: TrialServer) -> None:
    """Bodies beyond the limit: told at once, in pieces, and packed."""
    packed = zlib.compress(b" " * 64 * 2**20)
    pieces = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20) * 20
    for sent in (
        HEAD + b"content-length: 999999999999\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + pieces,
        HEAD
        + b"content-encoding: deflate\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(packed), packed),
    ):
        with connected(server.http_port) as connection:
            try:
                connection.sendall(sent)
            except ConnectionError:
                continue
            assert said(connection).startswith(b"HTTP/1.1 413 ")


def lying_lengths(server: TrialServer) -> None:
    """Bodies that are shorter or longer than they say, and heads that say two lengths."""
    for headers, status in (
        (b"content-length: %d\r\n" % (len(BODY) - 1), b"400"),
        (b"content-length: -1\r\n", b"400"),
        (b"content-length: 1\r\ncontent-length: 2\r\n", b"400"),
        (b"content-length: 1, 1\r\n", b"400"),
        (b"content-length: 18446744073709551617\r\n", b"4"),
        (b"inference-header-content-length: 99999\r\ncontent-length: %d\r\n" % len(BODY), b"400"),
    ):
        with connected(server.http_port) as connection:
            connection.sendall(HEAD + headers + b"connection: close\r\n\r\n" + BODY)
            assert said(connection).startswith(b"HTTP/1.1 " + status), headers


def deep_json(server: TrialServer) -> None:
    """JSON nested beyond any parser's stack, wherever it can stand."""
    deep = b"[" * 100_000 + b"]" * 100_000
    tensor = json.dumps(GOOD["inputs"][0]).encode()
    for body in (
        deep,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"inputs": [], "parameters": {"a": %b}}' % deep,
        b'{"inputs": [%b]}' % tensor.replace(b"[30.0]", deep),
    ):
        with connected(server.http_port) as connection:
            head = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            assert said(connection).startswith(b"HTTP/1.1 400 ")


def large_batches(server: TrialServer) -> None:
    """As many rows as may come, by several clients at once."""
    rows = {"inputs": [temperature([30.0] * 10_000), site(*["north"] * 10_000)]}
    body = json.dumps(rows).encode()
    connections = [connected(server.http_port) for _ in range(4)]
    for connection in connections:
        connection.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    for connection in connections:
        assert said(connection).startswith(b"HTTP/1.1 200 ")
        connection.close()


def pipelining(server: TrialServer) -> None:
    """Thousands of requests at once, whose answers are read late, or never."""
    probe = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
    with connected(server.http_port) as connection:
        connection.sendall(probe * 5_000 + probe.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert said(connection).count(b"HTTP/1.1 200 OK") == 5_001
    with connected(server.http_port) as connection:
        connection.setblocking(False)
        try:
            for _ in range(200):
                connection.send(WHOLE * 100)
        except BlockingIOError:
            pass


def garbage(server: TrialServer) -> None:
    """What is no HTTP, on either port, and frames of HTTP/2 that cannot be."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    frames = [
        struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + b"\xff" * 40
        for length, kind, flags, stream in ((40, 0, 1, 7), (40, 1, 4, 1), (40, 4, 0, 0), (2**24 - 1, 9, 0, 2**31 - 1))
    ]
    for port in (server.http_port, server.grpc_port):
        for sent in (b"\x16\x03\x01\x02\x00\x01", b"\x00" * 1_000, bytes(range(256)) * 40, preface, WHOLE):
            with connected(port) as connection:
                try:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                said(connection)
        for frame in frames:
            with connected(port) as connection:
                try:
                    connection.sendall(preface + frame)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                said(connection)


class WellBehaved:
    """Clients by REST, over a connection that is kept and over new ones, and by gRPC; what they got is counted."""

    def __init__(self, server: TrialServer) -> None:
        self._server, self._end = server, threading.Event()
        self.answers: dict[str, Counter[str]] = {name: Counter() for name in ("kept", "new", "grpc")}
        self._threads = [threading.Thread(target=self._loop, args=(name,)) for name in self.answers]

    def __enter__(self) -> WellBehaved:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait(self) -> None:
        """Until each has got some more answers, or is gone."""
        wanted = {name: counted.total() + ENOUGH for name, counted in self.answers.items()}
        deadline = time.monotonic() + UNTIL_SECONDS
        while any(self.answers[name].total() < count for name, count in wanted.items()):
            assert time.monotonic() < deadline, f"not answered any more: {self.answers}"
            time.sleep(0.02)

    def _loop(self, name: str) -> None:
        asking = {"kept": self._kept, "new": self._new, "grpc": self._grpc}[name]()
        while not self._end.is_set():
            self.answers[name][next(asking)] += 1
            time.sleep(0.002)

    def _kept(self) -> Iterator[str]:
        with self._server.client() as client:
            while True:
                yield str(client.post(INFER, GOOD).status)

    def _new(self) -> Iterator[str]:
        while True:
            with self._server.client() as client:
                yield str(client.post(INFER, GOOD).status)

    def _grpc(self) -> Iterator[str]:
        request = messages.ModelInferRequest(model_name="devices")
        number = messages.InferTensorContents(fp64_contents=[30.0])
        request.inputs.add(name="temperature", datatype="FP64", shape=[1], contents=number)
        request.inputs.add(
            name="site", datatype="BYTES", shape=[1], contents=messages.InferTensorContents(bytes_contents=[b"north"])
        )
        with grpc.insecure_channel(f"{LOOPBACK}:{self._server.grpc_port}") as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            while True:
                try:
                    infer(request, timeout=UNTIL_SECONDS)
                    yield "200"
                except grpc.RpcError as error:
                    yield str(error.code())


@pytest.fixture(scope="module")
def well_behaved(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialServer, WellBehaved]]:
    with TrialServer(model, "devices", "1", tmp_path_factory.mktemp("log")) as server, WellBehaved(server) as clients:
        yield server, clients


@pytest.mark.parametrize(
    "reckless",
    [
        slow_loris,
        half_closed,
        resets,
        giant_bodies,
        lying_lengths,
        deep_json,
        large_batches,
        pipelining,
        garbage,
    ],
    ids=lambda one: one.__name__,
)
def test_nobody_else_s_request_fails(
    well_behaved: tuple[TrialServer, WellBehaved], reckless: Callable[[TrialServer], None]
) -> None:
    server, clients = well_behaved
    clients.wait()
    reckless(server)
    clients.wait()
    assert [set(counted) for counted in clients.answers.values()] == [{"200"}] * 3


def test_none_of_it_is_the_server_s_own_error(well_behaved: tuple[TrialServer, WellBehaved]) -> None:
    server, _ = well_behaved
    with server.client() as client:
        metrics = client.get("/metrics").body
    assert 'code="200"' in metrics
    assert 'code="5' not in metrics
    assert 'code="INTERNAL"' not in metrics
