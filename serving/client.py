"""Inference client for v1 and v2 over HTTP, for those who try and compare servers."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.serving.http_connection import HttpConnection
from kfp_lifecycle.serving.ports import LOOPBACK

# A served score may differ from the registered one by this much: 32 bit arithmetic on another machine.
SCORE_TOLERANCE = 1e-5

# Marks a request whose answer nobody acts on: mirrored traffic, and what a release asks itself. A server believes only
# who sends the token that it shares with its front or with releases; one variable holds it, or one names its file.
SHADOW_HEADER = "x-shadow"
SHADOW_TOKEN_VARIABLE = "LIFECYCLE_SHADOW_TOKEN"
SHADOW_TOKEN_FILE_VARIABLE = "LIFECYCLE_SHADOW_TOKEN_FILE"

# Of an answer whose features were looked up: those that had no value, by comma, each as in a URL.
MISSING_HEADER = "x-missing-features"

JSON = {"content-type": "application/json"}


def digest(token: str) -> str:
    """A token as others may see it: those who collect a server's requests, and share a secret with it by this."""
    return sha256(token.encode()).hexdigest() if token else ""


def unverified() -> ssl.SSLContext:
    """TLS to whoever is there, for a server on this very machine: no name of a certificate says that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Answer:
    """What came back, and how long it took. Status 0: nothing did, and the body says why."""

    status: int
    body: str
    seconds: float
    headers: Mapping[str, str]

    def json(self) -> Any:
        """The body's content.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


class Client:
    """One connection, kept open; not to be shared between threads."""

    def __init__(
        self, port: int, host: str = LOOPBACK, timeout: float = 10.0, tls: ssl.SSLContext | None = None
    ) -> None:
        """Name the server; it is connected to at the first request.

        Args:
            port: Its HTTP port.
            host: Its name or address.
            timeout: Seconds after which an answer is no longer waited for.
            tls: By which certificates it is known; None: it is asked in the clear.
        """
        self._connection = HttpConnection(host, port, timeout, tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def get(self, path: str) -> Answer:
        """Ask for a path."""
        return self._send("GET", path, None, {})

    def post(self, path: str, body: object, headers: Mapping[str, str] = JSON) -> Answer:
        """Send a body: bytes as they are, anything else as JSON."""
        return self._send("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        started = time.perf_counter()
        try:
            status, found, content = self._connection.ask(method, path, headers, body)
        except OSError as error:
            return Answer(0, f"{type(error).__name__}: {error}", time.perf_counter() - started, {})
        return Answer(status, content.decode(errors="replace"), time.perf_counter() - started, found)


def v2_request(inputs: Sequence[Feature], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of feature values as a v2 request, one tensor for each feature.

    Args:
        inputs: The model's inputs.
        rows: For each row a value for each input; None where it is missing.
    """
    datatypes = {"numeric": "FP64", "categorical": "BYTES"}
    return {
        "inputs": [
            {
                "name": item.name,
                "shape": [len(rows)],
                "datatype": datatypes[item.type],
                "data": [row[item.name] for row in rows],
            }
            for item in inputs
        ]
    }


def entity_request(key: str, value: int | float | str) -> dict[str, Any]:
    """A v2 request about one entity. Numbers come out of an artifact's metadata as floats."""
    whole = not isinstance(value, str)
    data = int(value) if whole else value
    return {"inputs": [{"name": key, "datatype": "INT64" if whole else "BYTES", "shape": [1], "data": [data]}]}


def scores_in(answer: Answer) -> list[float]:
    """The scores of a v2 answer; none where it is no such answer."""
    if answer.status != 200:
        return []
    try:
        outputs = {item["name"]: item["data"] for item in answer.json()["outputs"]}
        return [float(score) for score in outputs["score"]]
    except (ValueError, KeyError, TypeError):
        return []


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, no quantile")
    position = max(0, -(-len(values) * share // 1) - 1)
    return sorted(values)[int(position)]
