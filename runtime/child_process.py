"""What a process does first that works for another: it gives way to it, ends with it, and is not interrupted itself."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing.connection import Connection

from kfp_lifecycle.runtime.contract import import_quickly

# The other one hands out what there is to do; while it works, nobody waits for this one.
LOWEST_PRIORITY = 19


def work_for_another(life: Connection, threads: int) -> None:
    """Prepare this process, before it imports what it works with.

    Args:
        life: One end of a pipe; this process ends, in the midst of whatever it does, when the other end is closed or
            the process that holds it is gone.
        threads: Threads that OpenMP may use here.
    """
    import_quickly()
    os.nice(LOWEST_PRIORITY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        life.recv()
    os._exit(1)
