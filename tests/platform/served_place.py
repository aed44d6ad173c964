"""A serving folder of a test, stopped at its end, the processes in it, and releases whose controller is killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_release import Place

from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import port_pair
from kfp_lifecycle.serving.release.local.operations import stop
from kfp_lifecycle.serving.release.local.servers import INTERPRETER_VARIABLE

# Where the controller of a release ends: what its traffic does instead of a step.
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
POINTS = {
    "starting": f"traffic.bring_up = lambda *_: {KILL}",
    "sharing, before the routes": f"LocalTraffic.shift = lambda self, stage: (self._intend(stage, 'sharing'), {KILL})",
    "sharing": f"ask = LocalTraffic.ask; LocalTraffic.ask = lambda self, *more: "
    f"{KILL} if self.release.change.percent == 50 else ask(self, *more)",
    "promoted": f"LocalTraffic._let_go = lambda self: {KILL}",
}


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


def killed_release(place: Place, model: Path, point: str) -> None:
    """A release whose controller is killed at a point."""
    code = (
        "import os, signal; from pathlib import Path; from local_release import Place; "
        "from kfp_lifecycle.serving.release.local import traffic; "
        "from kfp_lifecycle.serving.release.local.traffic import LocalTraffic; "
        f"{POINTS[point]}; "
        f"Place(Path({str(place.folder)!r}), {place.port}).release(Path({str(model)!r}), steps=[50, 100])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", str(Path(__file__).parent)])}
    assert subprocess.run([str(interpreter("platform")), "-c", code], env=environment, check=False).returncode == -9
