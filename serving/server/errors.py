"""Refusals: what a client is told where it gets no prediction, over HTTP and gRPC alike."""

from __future__ import annotations

import json
from typing import ClassVar


class Refusal(Exception):
    """A request that is not answered with a prediction; the message says why, and what to do."""

    status: ClassVar[int] = 500
    """HTTP's status code."""
    grpc_code: ClassVar[str] = "INTERNAL"
    """Name of gRPC's status code."""
    retry_after: int | None = None
    """Seconds after which it may be worth to ask again."""
    request_id: str = ""
    """Of the request, where its body was understood as far."""
    closes: ClassVar[bool] = False
    """Whether the connection ends with it, since what follows on it cannot be told apart."""


class InvalidRequest(Refusal):
    """The request cannot be answered, now or later."""

    status, grpc_code = 400, "INVALID_ARGUMENT"


class Unauthenticated(Refusal):
    """Who asks is not known."""

    status, grpc_code = 401, "UNAUTHENTICATED"


class NotPermitted(Refusal):
    """Nobody may ask that."""

    status, grpc_code = 403, "PERMISSION_DENIED"


class NotFound(Refusal):
    """There is no such model, version or path."""

    status, grpc_code = 404, "NOT_FOUND"


class MethodNotAllowed(Refusal):
    """The path is there, and takes another method."""

    status, grpc_code = 405, "UNIMPLEMENTED"

    def __init__(self, allowed: str) -> None:
        """Name the methods that it takes, as the header `allow` lists them."""
        super().__init__(f"the path takes {allowed}")
        self.allowed = allowed


class TooSlow(Refusal):
    """The request did not come whole in time."""

    status, grpc_code, closes = 408, "DEADLINE_EXCEEDED", True


class TooLarge(Refusal):
    """The request is larger than any may be."""

    status, grpc_code, closes = 413, "RESOURCE_EXHAUSTED", True


class UnsupportedEncoding(Refusal):
    """The body is compressed in a way that is not known here."""

    status, grpc_code = 415, "INVALID_ARGUMENT"


class TooManyRequests(Refusal):
    """As many are waiting as may wait."""

    status, grpc_code = 429, "RESOURCE_EXHAUSTED"
    retry_after: int | None = 1


class RateLimited(TooManyRequests):
    """The client has asked as much as it may."""

    def __init__(self, retry_after: int, per_second: float) -> None:
        """Say when it may ask again, in seconds, and how much."""
        super().__init__(f"one client may ask {per_second:g} times a second; ask again in {retry_after} s")
        self.retry_after = retry_after


class HeadersTooLarge(Refusal):
    """The head of the request is larger than any may be."""

    status, grpc_code, closes = 431, "RESOURCE_EXHAUSTED", True


class Unavailable(Refusal):
    """It could be answered, but not now."""

    status, grpc_code = 503, "UNAVAILABLE"
    retry_after: int | None = 1


def shown(value: object) -> str:
    """A value as a message shows it: never more of a request than helps."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | list) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "…"
