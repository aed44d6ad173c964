"""A worker process beside a step's own, at low priority, for what the main work does not wait for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import Connection

from kfp_lifecycle.runtime.child_process import work_for_another


@contextlib.contextmanager
def side_process(prepare: Callable[[], None] | None = None) -> Iterator[Executor]:
    """One process that does what it is given, one thing after the other, with what the step leaves of the cores.

    It is started from nothing: a fork of a process whose OpenMP threads have worked waits for them for ever. It ends
    with the block or with this process, whatever it is at.

    Args:
        prepare: What it does first, to be pickled: import what its work will need.
    """
    context = multiprocessing.get_context("spawn")
    life, theirs = context.Pipe()
    executor = ProcessPoolExecutor(1, context, _prepare, (theirs, prepare))
    try:
        # It starts with the first thing that it is given.
        executor.submit(os.getpid)
        yield executor
    finally:
        life.close()
        theirs.close()
        executor.shutdown(cancel_futures=True)


def _prepare(life: Connection, prepare: Callable[[], None] | None) -> None:
    work_for_another(life, threads=1)
    if prepare is not None:
        prepare()
