"""Well-behaved clients by REST and gRPC, over connections that they keep and over new ones, until they are told to end.

    python -m benchmarks.zero_lost.load HTTP_PORT GRPC_PORT CLIENTS FILE

Each asks as soon as it is answered; a line says that all are under way. Ends when its input does, and then writes what
each request came to: a line of kind, status, version, request id, and the times (Unix) when it was sent and when it
ended. Status 0 says that nothing came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import itertools
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import grpc

# KServe's, as its clients send them. One process cannot hold the library's own beside them.
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from kfp_lifecycle.serving.ports import LOOPBACK

MODEL = "devices"
INPUTS: list[dict[str, Any]] = [
    {"name": "temperature", "shape": [1], "datatype": "FP64", "data": [30.0]},
    {"name": "site", "shape": [1], "datatype": "BYTES", "data": ["north"]},
]
METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Longer than anything here takes: what is not answered by then never is.
PATIENCE_SECONDS = 90.0
HEADER_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Outcome:
    """What one request came to."""

    kind: str
    status: int
    version: str
    request_id: str
    sent: float
    ended: float
    detail: str = ""
    """Why nothing came back, or what came with another status than 200."""


class RestClient:
    """A client by REST."""

    def __init__(self, port: int, keeps: bool) -> None:
        self.kind = f"rest, {'kept' if keeps else 'new'} connection"
        self._port, self._keeps = port, keeps
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request_id: str) -> tuple[int, str, str]:
        """Status, version and what is wrong."""
        body = json.dumps({"id": request_id, "inputs": INPUTS}).encode()
        if self._streams is None or self._streams[0].at_eof():
            # Closed while nobody asked: seen before anything is sent.
            await self.close()
            self._streams = await asyncio.open_connection(LOOPBACK, self._port)
        reader, writer = self._streams
        head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: {LOOPBACK}\r\ncontent-type: application/json\r\n"
        if not self._keeps:
            head += "connection: close\r\n"
        writer.write(head.encode() + b"content-length: %d" % len(body) + HEADER_END + body)
        answer = (await reader.readuntil(HEADER_END)).decode("latin-1")
        lines = answer.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        content = await reader.readexactly(int(headers["content-length"]))
        status = int(lines[0].split()[1])
        if not self._keeps:
            await self.close()
        return status, headers.get("x-model-version", ""), "" if status == 200 else content.decode()[:200]

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._streams is not None:
            writer, self._streams = self._streams[1], None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class GrpcClient:
    """A client by gRPC."""

    def __init__(self, port: int, keeps: bool) -> None:
        self.kind = f"grpc, {'kept' if keeps else 'new'} connection"
        self._port, self._keeps = port, keeps
        self._channel: grpc.aio.Channel | None = None

    async def ask(self, request_id: str) -> tuple[int, str, str]:
        """Status as HTTP has it, version and what is wrong."""
        request = messages.ModelInferRequest(model_name=MODEL, id=request_id)
        for item in INPUTS:
            tensor = request.inputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
            if item["datatype"] == "BYTES":
                tensor.contents.bytes_contents.extend(value.encode() for value in item["data"])
            else:
                tensor.contents.fp64_contents.extend(item["data"])
        if self._channel is None:
            # Each client has connections of its own.
            self._channel = grpc.aio.insecure_channel(
                f"{LOOPBACK}:{self._port}", options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            )
        call: Any = self._channel.unary_unary(
            METHOD, request_serializer=None, response_deserializer=messages.ModelInferResponse.FromString
        )
        try:
            # As clients do that can wait: until there is a connection.
            answer = await call(request.SerializeToString(), timeout=PATIENCE_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            refused = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
            return 400 if refused else 0, "", f"{error.code().name}: {error.details()}"
        if not self._keeps:
            await self.close()
        return 200, answer.model_version, ""

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()


Client = RestClient | GrpcClient


async def asking(client: Client, name: str, end: asyncio.Event) -> AsyncIterator[Outcome]:
    """One request after the other."""
    for number in itertools.count():
        if end.is_set():
            await client.close()
            return
        request_id, sent = f"{name}-{number}", time.time()
        try:
            status, version, detail = await asyncio.wait_for(client.ask(request_id), PATIENCE_SECONDS)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            await client.close()
            status, version, detail = 0, "", f"{type(error).__name__}: {error}"
        yield Outcome(client.kind, status, version, request_id, sent, time.time(), detail)


async def load(http_port: int, grpc_port: int, clients: int, end: asyncio.Event) -> list[Outcome]:
    """Let clients of the four kinds ask until the end."""
    # No other load's requests have these names.
    run = secrets.token_hex(4)
    found: list[Outcome] = []

    async def one(client: Client, name: str) -> None:
        async for outcome in asking(client, name, end):
            found.append(outcome)
            if len(found) == 2 * clients:
                print("under way", flush=True)

    # Half of them by REST, three of four over connections that they keep.
    made: list[Client] = [
        RestClient(http_port, number % 4 > 1) if number % 2 else GrpcClient(grpc_port, number % 8 > 1)
        for number in range(clients)
    ]
    await asyncio.gather(*(one(client, f"{run}-{number}") for number, client in enumerate(made)))
    return found


@dataclass
class Load:
    """A process of clients; what they found is known when it has ended."""

    process: subprocess.Popen[bytes]
    file: Path
    outcomes: list[Outcome]

    def failures(self) -> list[Outcome]:
        """Requests that were not answered with 200."""
        return [outcome for outcome in self.outcomes if outcome.status != 200]


@contextlib.contextmanager
def under_load(http_port: int, grpc_port: int, clients: int, folder: Path) -> Iterator[Load]:
    """Clients that ask for as long as the block lasts."""
    file = folder / f"outcomes-{time.time_ns()}.csv"
    arguments = [str(http_port), str(grpc_port), str(clients), str(file)]
    command = [sys.executable, "-m", "benchmarks.zero_lost.load", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    running = Load(process, file, [])
    assert process.stdout is not None
    if not process.stdout.readline():
        raise ChildProcessError(f"the clients ended with {process.wait()} before anything was answered")
    try:
        yield running
    finally:
        # Its input ends.
        process.communicate()
    with file.open(newline="", encoding="utf-8") as lines:
        running.outcomes = [
            Outcome(kind, int(status), version, request_id, float(sent), float(ended), detail)
            for kind, status, version, request_id, sent, ended, detail in csv.reader(lines)
        ]


async def until_input_ends(http_port: int, grpc_port: int, clients: int) -> list[Outcome]:
    """The load of this process."""
    end = asyncio.Event()
    reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    reading.add_done_callback(lambda _: end.set())
    return await load(http_port, grpc_port, clients, end)


def main() -> None:
    """Ask, and write what came of it."""
    http_port, grpc_port, clients, file = sys.argv[1:]
    found = asyncio.run(until_input_ends(int(http_port), int(grpc_port), int(clients)))
    assert len(fields(Outcome)) == 7
    with Path(file).open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows(astuple(outcome) for outcome in found)


if __name__ == "__main__":
    main()
