"""Processes beside the step's own, one for each core, for what takes long to import or to compute."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache

from joblib import cpu_count

from kfp_lifecycle.runtime.contract import import_quickly


@cache
def workers() -> ProcessPoolExecutor:
    """The processes, each started when there is work for it; they end with the step.

    They start anew instead of as copies of this one, whose libraries may have threads that a copy would wait for.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=cpu_count(), mp_context=context, initializer=import_quickly)
