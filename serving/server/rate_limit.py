"""Rate limit for each client: the generic cell rate algorithm (ATM Forum, Traffic Management 4.0), one number each."""

from __future__ import annotations

import math
import time

from kfp_lifecycle.serving.server.errors import RateLimited

MOST_CLIENTS = 100_000
# All who come when so many are remembered count as one.
OTHERS = ""


class RateLimit:
    """How much each client may ask."""

    def __init__(self, per_second: float, burst: int) -> None:
        """Note the limit.

        Args:
            per_second: Requests on average.
            burst: Requests that may come at once.
        """
        self._interval, self._tolerance = 1 / per_second, (burst - 1) / per_second
        self._due: dict[str, float] = {}

    def count(self, client: str) -> None:
        """Count a request.

        Raises:
            RateLimited: the client has asked too much; the error says when it may ask again.
        """
        now = time.monotonic()
        if client not in self._due and len(self._due) >= MOST_CLIENTS:
            client = OTHERS
        due = max(self._due.get(client, 0.0), now)
        if due - now > self._tolerance:
            raise RateLimited(math.ceil(due - now - self._tolerance), 1 / self._interval)
        self._due[client] = due + self._interval

    def forget(self) -> None:
        """Forget clients that have asked nothing for a while."""
        if len(self._due) > MOST_CLIENTS // 10:
            now = time.monotonic()
            self._due = {client: due for client, due in self._due.items() if due > now}
