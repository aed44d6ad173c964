"""Worker: a thread that does one thing after the other, and that nobody has to wait for.

What hangs in one of a `ThreadPoolExecutor` keeps the interpreter from ending, since it waits for all of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class Worker:
    """One such thread."""

    def __init__(self, name: str) -> None:
        """Start it."""
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have something done after what waits already."""
        found: Future[T] = Future()

        def do() -> None:
            if not found.set_running_or_notify_cancel():
                return
            try:
                found.set_result(work())
            except BaseException as error:  # whoever asked is to know of it, whatever it is
                found.set_exception(error)

        self._waiting.put(do)
        return found

    def tell(self, work: Callable[[], Any]) -> None:
        """As `submit`, for work that tells by itself what has come of it."""
        self._waiting.put(work)

    @property
    def busy_since(self) -> float | None:
        """When it began what it does now, by `time.monotonic`; None where it waits."""
        return self._busy_since

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Whether whoever asks is this thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Let it end after what it does now, which nobody waits for."""
        with contextlib.suppress(Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            self._busy_since = time.monotonic()
            try:
                work()
            except Exception:
                LOGGER.exception("%s failed at something", self._thread.name)
            self._busy_since = None
