"""HTTP requests and responses, as far as this server knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

JSON = b"application/json"


@dataclass(slots=True)
class HttpRequest:
    """What came."""

    method: bytes
    target: bytes
    """Path and query, as sent."""
    headers: Mapping[bytes, bytes]
    """By name in small letters; of several of one name the last."""
    body: bytes
    began: float
    """When it began to arrive, by `time.perf_counter`."""
    address: str = ""
    """Where its connection comes from."""
    client: str = ""
    """Who asks, once that is known."""
    is_shadow: bool = False
    """Whether it is known that nobody acts on the answer, by more than a header."""


@dataclass(slots=True)
class HttpResponse:
    """What goes."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: bytes = b""
    """Further header lines, each with its end."""
    closes: bool = False
    """Whether it is the last one on its connection."""
    request_id: str = ""
    """Of a request that was refused: its header says it, too."""
