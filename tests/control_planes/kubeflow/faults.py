"""Faults that a test orders: what the next requests meet instead of an answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.control_planes.kubeflow.errors import Code

# The words of what stands before an API server, by HTTP status, and gRPC's code for it.
CODES = {code.status: code for code in Code if code not in (Code.failed_precondition, Code.aborted)}


@dataclass(frozen=True)
class Fault:
    """What requests of a kind meet."""

    method: str = ""
    """HTTP method; empty for any."""
    path: str = ""
    """Regular expression that the path holds; empty for any."""
    status: int = 0
    """HTTP status that is answered in place of the service; 0 lets the service answer."""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before anything is done."""
    cut: bool = False
    """Whether the connection is cut when the service has done its work, before it could answer."""
    times: int = 1
    """How many requests meet it."""

    def concerns(self, method: str, path: str) -> bool:
        """Whether a request is one of those."""
        return self.method in ("", method) and re.search(self.path, path) is not None


class Faults:
    """The faults that wait for a request, in the order they were ordered."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []
        self._lock = threading.Lock()

    def order(self, fault: Fault) -> None:
        """Let the next requests that a fault concerns meet it."""
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Forget those that wait."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """What a request meets, None for nothing."""
        with self._lock:
            for index, (fault, left) in enumerate(self._waiting):
                if fault.concerns(method, path):
                    self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault
        return None
