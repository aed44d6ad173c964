"""TFDV, without TensorFlow where nothing has imported that yet: it costs more than half of TFDV's import.

TFDV computes statistics in NumPy and checks them in C++; of TensorFlow it needs, for tables in memory, names in type
annotations and one conversion. While TFDV is imported, stand-ins give those; whatever else is asked of one when a
statistic is computed is an error that says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

TENSORFLOW = "tensorflow"

# Read at import: TensorFlow would tell every step which processor features it was not built for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class _StandIn(type):
    """A name of TensorFlow's: it can be mentioned, as annotations do, and not be used."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return as_bytes if name == "as_bytes" else _StandIn(name, (), {})

    def __call__(cls, *_: object, **__: object) -> Any:
        raise TypeError(f"TFDV wants to call TensorFlow's {cls.__name__}, which was not imported with it")


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        ours = name == TENSORFLOW or name.startswith(f"{TENSORFLOW}.")
        return ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def as_bytes(value: bytes) -> bytes:
    """The one function of TensorFlow that TFDV calls on a serialized message, which is bytes already."""
    return value


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Imports inside get stand-ins for TensorFlow, unless it is there already. Later imports get TensorFlow itself."""
    if TENSORFLOW in sys.modules:
        yield
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _StandInModule):
                del sys.modules[name]


with without_tensorflow():
    from tensorflow_data_validation import (
        GenerateStatistics,
        StatsOptions,
        WriteStatisticsToBinaryFile,
        infer_schema,
        update_schema,
        validate_statistics,
    )
    from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory

__all__ = [
    "GenerateStatistics",
    "StatsOptions",
    "WriteStatisticsToBinaryFile",
    "generate_statistics_in_memory",
    "infer_schema",
    "update_schema",
    "validate_statistics",
]
