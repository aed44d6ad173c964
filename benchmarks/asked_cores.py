"""How many cores a process and its children keep busy, told also on a machine that others use."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.05
PROCESSES = Path("/proc")


class AskedCores:
    """Watches a process tree while a block runs.

    A thread that is ready to run either runs or waits in the kernel's queue for a core that somebody else has. Both
    together are what would be busy on a machine of its own.

    Attributes:
        seconds: Wall clock of the block.
        ran: Processor seconds of all threads.
        asked: The same, and the seconds that they waited for a core.
    """

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self.seconds = self.ran = self.asked = 0.0
        self._last: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()

    @property
    def undisturbed(self) -> float:
        """About the wall clock that it would have taken had no thread waited for a core that others had."""
        return self.seconds * self.ran / self.asked

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Count this process and all its children while the block runs."""
        before, started = dict(self._look()), time.monotonic()
        self._last = dict(before)
        watcher = threading.Thread(target=self._go_on, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()
            self._last.update(self._look())
            self.seconds = time.monotonic() - started
            ran, waited = (
                sum(now[at] - before.get(thread, (0, 0))[at] for thread, now in self._last.items()) / 1e9
                for at in (0, 1)
            )
            self.ran, self.asked = ran, ran + waited

    def _go_on(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            self._last.update(self._look())

    def _look(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Nanoseconds that each thread of the tree has run and waited since it began."""
        waiting = [str(os.getpid())]
        while waiting:
            process = PROCESSES / waiting.pop() / "task"
            # A process or a thread may end while it is looked at.
            with contextlib.suppress(OSError):
                for task in process.iterdir():
                    with contextlib.suppress(OSError):
                        ran, waited, _ = (task / "schedstat").read_text("ascii").split()
                        waiting += (task / "children").read_text("ascii").split()
                        yield task.name, (int(ran), int(waited))
