"""A serving folder of a test, stopped at its end, and the processes in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import port_pair
from local_release import Place

from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.release.local.operations import stop
from kfp_lifecycle.serving.release.local.servers import INTERPRETER_VARIABLE


@contextlib.contextmanager
def serving_place(folder: Path) -> Iterator[Place]:
    """A serving folder with everything in its path that shells and configuration files trip over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(INTERPRETER_VARIABLE, str(interpreter("serving")))
        found = Place(folder / "a place; 100% #1 'ours'", port_pair())
        try:
            yield found
        finally:
            stop(found.serving)


def processes(place: Place) -> list[psutil.Process]:
    """All processes with this serving folder in their command."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(place.serving) in argument for argument in process.info["cmdline"] or [])
    ]


def server_process(place: Place, version: str) -> psutil.Process:
    return next(p for p in processes(place) if "--model_dir" in p.cmdline() and version in p.cmdline())
