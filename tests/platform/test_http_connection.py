"""The client's connection reads answers as HTTP/1.1 writes them, and tells those that are none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from kfp_lifecycle.serving.client import Client

Serve = Callable[[list[bytes]], Client]


@pytest.fixture
def answering() -> Iterator[Serve]:
    """Starts a server that gives each request the next answer; a connection ends with a list's end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = []

        def start(answers: list[bytes]) -> Client:
            def serve() -> None:
                connection, _ = listening.accept()
                with connection:
                    for answer in answers:
                        connection.recv(65_536)
                        connection.sendall(answer)

            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            return Client(listening.getsockname()[1], timeout=60)

        yield start
        for thread in threads:
            thread.join()


def test_answers_on_one_connection_are_told_apart_however_their_length_is_told(answering: Serve) -> None:
    with answering(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Model-Version:  2 \r\n\r\nscore",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nsc\r\n3;a=b\r\nore\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nuntil its end",
        ]
    ) as client:
        first = client.get("/")
        assert (first.status, first.body, first.headers["x-model-version"]) == (200, "score", "2")
        assert [(answer.status, answer.body) for answer in (client.post("/", {}) for _ in range(4))] == [
            (200, "score"),
            (204, ""),
            (503, ""),
            (200, "until its end"),
        ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsco", "within its answer"),
        (b"SSH-2.0-OpenSSH_9.6 server ready\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "no HTTP"),
    ],
)
def test_what_is_no_answer_is_told_and_the_next_request_finds_the_server_again(
    answering: Serve, answer: bytes, why: str
) -> None:
    with answering([answer]) as client:
        told = client.get("/")
        assert told.status == 0
        assert why in told.body
        answering([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"])
        assert client.get("/").status == 200
