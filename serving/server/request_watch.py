"""Watching of requests: what log and traces are told of each when it has been answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LOGGER = logging.getLogger("kfp_lifecycle.serving.requests")


@dataclass(slots=True)
class Answered:
    """One request, and what came of it."""

    protocol: str
    """`v1`, `v2` or `grpc`."""
    code: str
    """HTTP's or gRPC's status code."""
    failed: bool
    """Whether it is the server's fault."""
    seconds: float
    id: str
    client: str
    rows: int
    """0 where it was not understood."""
    traceparent: str
    """W3C Trace Context, as the client sent it; empty where it did not."""
    trace: str = ""
    """The trace's id, once it has one."""


class Watch(Protocol):
    """Somebody who is told."""

    def answered(self, request: Answered) -> None:
        """A request has been answered. Called on the event loop: it may not wait."""


class RequestLog:
    """A line of the server's log for each request."""

    def answered(self, request: Answered) -> None:
        """Write it."""
        milliseconds = round(request.seconds * 1000, 3)
        LOGGER.info(
            "%s %s %s, %d rows, %s ms",
            request.protocol,
            request.id,
            request.code,
            request.rows,
            milliseconds,
            extra={
                "fields": {
                    "protocol": request.protocol,
                    "request_id": request.id,
                    "code": request.code,
                    "client": request.client,
                    "rows": request.rows,
                    "milliseconds": milliseconds,
                    **({"trace_id": request.trace} if request.trace else {}),
                }
            },
        )


class Watches:
    """All who are told, in their order."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def answered(self, request: Answered) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.answered(request)
