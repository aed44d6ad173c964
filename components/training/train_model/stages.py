"""Timing of the stages of a training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record how long a stage takes."""
    started = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - started, 3)


def measured(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """What a function gives, and the seconds that it takes in whichever process it runs."""
    seconds: dict[str, float] = {}
    with timed(seconds, "it"):
        given = function(*arguments)
    return given, seconds["it"]
