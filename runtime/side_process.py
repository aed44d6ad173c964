"""A process beside the training's own, for what describes the model and what the model does not wait for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from kfp_lifecycle.runtime.child_process import work_for_another


@contextlib.contextmanager
def side_process() -> Iterator[Executor]:
    """One process that does what it is given, one thing after the other, with what the training leaves of the cores.

    It is started from nothing: a fork of a process whose OpenMP threads have worked waits for them for ever. It ends
    with the block or with this process, whatever it is at.
    """
    context = multiprocessing.get_context("spawn")
    life, theirs = context.Pipe()
    executor = ProcessPoolExecutor(1, context, _prepare, (theirs,))
    try:
        # It starts with the first thing that it is given.
        executor.submit(os.getpid)
        yield executor
    finally:
        life.close()
        theirs.close()
        executor.shutdown(cancel_futures=True)


def draw_plots(*arguments: Any) -> dict[str, str]:
    """What `training_plots` gives; only where they are drawn is matplotlib imported."""
    from kfp_lifecycle.components.training.train_model.plots import training_plots

    return training_plots(*arguments)


def _prepare(life: Connection) -> None:
    work_for_another(life, threads=1)
    # What it will be given to do, so that nothing waits for that then.
    from kfp_lifecycle.components.training.train_model import importance, learning_curve, plots  # noqa: F401
