"""Frozen clock: Python code that is run as if it were another moment, to find out whether it looks at the clock."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any


@contextmanager
def frozen_clock(moment: datetime) -> Iterator[None]:
    """Let all Python code of this process, however it asks, find the clock at one moment.

    The methods of the class `datetime` itself and the functions of `time` are replaced while it lasts, so that names
    which were imported long before, and libraries such as pandas that ask through them, are frozen too. numpy asks the
    system, and is not. For a process that does nothing else meanwhile.

    Args:
        moment: With a zone.
    """
    seconds = moment.timestamp()
    nanoseconds = int(seconds) * 1_000_000_000
    real = {name: getattr(time, name) for name in ("localtime", "gmtime", "ctime", "asctime", "strftime")}

    def now(kind: type[datetime], tz: tzinfo | None = None) -> datetime:
        return kind.fromtimestamp(seconds, tz)

    def utcnow(kind: type[datetime]) -> datetime:
        return kind.fromtimestamp(seconds, UTC).replace(tzinfo=None)

    def of_the_moment(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda asked=None: function(seconds if asked is None else asked)

    replaced: dict[str, Any] = {
        "time": lambda: seconds,
        "time_ns": lambda: nanoseconds,
        "clock_gettime": lambda clock: seconds,
        "clock_gettime_ns": lambda clock: nanoseconds,
        "monotonic": lambda: seconds,
        "monotonic_ns": lambda: nanoseconds,
        "localtime": of_the_moment(real["localtime"]),
        "gmtime": of_the_moment(real["gmtime"]),
        "ctime": of_the_moment(real["ctime"]),
        "asctime": lambda parts=None: real["asctime"](parts or real["localtime"](seconds)),
        "strftime": lambda form, parts=None: real["strftime"](form, parts or real["localtime"](seconds)),
    }
    with _replaced(time, replaced), _replaced(datetime, {"now": classmethod(now), "utcnow": classmethod(utcnow)}):
        yield


@contextmanager
def _replaced(owner: Any, items: dict[str, Any]) -> Iterator[None]:
    """Attributes of a module, or of a class that is written in C and can be changed in no other way."""
    [attributes] = gc.get_referents(owner.__dict__) if isinstance(owner, type) else [vars(owner)]
    before = {name: attributes[name] for name in items}
    try:
        attributes.update(items)
        _forget_lookups(owner)
        yield
    finally:
        attributes.update(before)
        _forget_lookups(owner)


def _forget_lookups(owner: Any) -> None:
    if isinstance(owner, type):
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
