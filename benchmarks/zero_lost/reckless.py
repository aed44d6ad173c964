"""A reckless client: what no client should do to a server, again and again, while others ask as they should."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from kfp_lifecycle.serving.ports import LOOPBACK

INFER = b"POST /v2/models/devices/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT_SECONDS = 0.5
GIANT_BYTES = 20 * 2**20


def slow_loris(port: int) -> None:
    """Headers that never end, a byte at a time, on many connections at once."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection((LOOPBACK, port))) for _ in range(20)]
        for byte in INFER[:10]:
            for connection in many:
                connection.send(bytes([byte]))
            time.sleep(0.02)


def half_closed(port: int) -> None:
    """Half a body, and nothing more will come."""
    with socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(INFER + b'content-length: 100\r\n\r\n{"inputs": [')
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1024)


def gone(port: int) -> None:
    """A whole request, and nobody to take the answer."""
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(INFER + b"content-length: 2\r\n\r\n{}")


def giant_body(port: int) -> None:
    """More than a request may hold, sent as long as it is taken."""
    with socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(INFER + b"content-length: %d\r\n\r\n" % GIANT_BYTES)
        for _ in range(GIANT_BYTES // 65_536):
            connection.sendall(b" " * 65_536)
        connection.recv(1024)


def pipelining(port: int) -> None:
    """Many requests at once, good and bad, without waiting for an answer."""
    one = b'{"inputs": [{"name": "temperature", "shape": [1], "datatype": "FP64", "data": [1]}]}'
    with socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS) as connection:
        for body in (one, b"{", b"[]") * 10:
            connection.sendall(INFER + b"content-length: %d\r\n\r\n" % len(body) + body)
        connection.sendall(b"GET / HTTP/9.9\r\n\r\n")
        while connection.recv(65_536):
            pass


def garbage(port: int) -> None:
    """Bytes that mean nothing."""
    with socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(os.urandom(4096))
        connection.recv(1024)


def garbage_frames(port: int) -> None:
    """HTTP/2's greeting, and frames that mean nothing."""
    with socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(HTTP2)
        for _ in range(20):
            length = random.randrange(64)
            kind, stream = random.randrange(16), random.randrange(2**31)
            head = length.to_bytes(3, "big") + bytes([kind, random.randrange(256)]) + stream.to_bytes(4, "big")
            connection.sendall(head + os.urandom(length))
        connection.recv(1024)


REST: list[Callable[[int], None]] = [slow_loris, half_closed, gone, giant_body, pipelining, garbage]
GRPC: list[Callable[[int], None]] = [slow_loris, garbage, garbage_frames, gone]


@contextlib.contextmanager
def reckless_client(http_port: int, grpc_port: int) -> Iterator[Counter[str]]:
    """One that does all of it for as long as the block lasts; how often it did what."""
    done: Counter[str] = Counter()
    end = threading.Event()
    tricks = [(trick, http_port) for trick in REST] + [(trick, grpc_port) for trick in GRPC]

    def misbehave() -> None:
        for trick, port in itertools.cycle(tricks):
            if end.wait(0.05):
                return
            # That it is thrown out is what it asked for.
            with contextlib.suppress(OSError):
                trick(port)
            done[trick.__name__] += 1

    thread = threading.Thread(target=misbehave)
    thread.start()
    try:
        yield done
    finally:
        end.set()
        thread.join()
