"""Load over HTTP: a few raw connections that ask one request after the other, and what a server's processes spend."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass

import numpy as np
import psutil

HEADER_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Found:
    """What one measurement found."""

    requests: int
    seconds: float
    processor_us: float
    """Processor time of the server's processes a request, in microseconds."""
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def http_request(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + HEADER_END + body


def processor_seconds(pid: int) -> float:
    """What a process and its descendants have used."""
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])


def memory_mb(pid: int) -> float:
    """What a process and its descendants hold in memory of their own."""
    process = psutil.Process(pid)
    return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)]) / 1e6


class Connection:
    """One client."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.asked = bytearray(), 0.0

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self.received.clear()
        self.asked = time.perf_counter()
        self.socket.sendall(request)

    def take(self) -> bool:
        """Take what has come; whether that is the whole answer.

        Raises:
            ConnectionError: the server closed the connection, or did not answer with 200.
        """
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the server closed the connection")
        self.received += part
        head, found, body = self.received.partition(HEADER_END)
        if not found:
            return False
        if b" 200 " not in head[:16]:
            raise ConnectionError(bytes(self.received[:500]).decode(errors="replace"))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return len(body) >= int(length.split(b":")[1])


def load(port: int, pid: int, request: bytes, clients: int, seconds: float) -> Found:
    """Ask for some seconds, each client as soon as it is answered.

    Args:
        port: The server's.
        pid: Its process, for what it spends.
        request: As it goes over the wire.
        clients: How many connections.
        seconds: How long.
    """
    connections = [Connection(port) for _ in range(clients)]
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        spent, began = processor_seconds(pid), time.perf_counter()
        for connection in connections:
            connection.ask(request)
        waiting = clients
        while waiting:
            for key, _ in selector.select():
                connection = key.data
                if connection.take():
                    now = time.perf_counter()
                    taken.append(now - connection.asked)
                    if now - began < seconds:
                        connection.ask(request)
                    else:
                        waiting -= 1
        ended = time.perf_counter()
        used = processor_seconds(pid) - spent
    for connection in connections:
        connection.socket.close()
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1000
    return Found(len(taken), ended - began, used / len(taken) * 1e6, float(p50), float(p99))


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            return b" 200 " in connection.recv(64)
    except OSError:
        return False
