"""Fork server: the process of a run comes from one that has imported all it needs, and so begins at once."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.closure import ROOT

RUN_PROCESS = "tests.control_planes.kubeflow.run_process"
# All that runs need is imported before the first of them is asked for.
PROGRAM = "from {module} import main; from tests.control_planes.kubeflow.fork_server import serve; serve(main)"


class ForkServer:
    """A process that forks those of runs. They go on when it ends.

    Args:
        module: Whose `main` a run's process is, given the run's folder.
    """

    def __init__(self, module: str) -> None:
        self._lock = threading.Lock()
        path = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        # Inherited: a run is to be terminated when it knows how, not before.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(module=module)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=variables,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def start(self, folder: Path) -> int:
        """Begin the run whose order is in a folder; its process's number."""
        requests, numbers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert numbers is not None
        with self._lock:
            requests.write(json.dumps({"folder": str(folder), "variables": dict(os.environ)}).encode() + b"\n")
            requests.flush()
            return int(numbers.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@functools.cache
def fork_server(module: str = RUN_PROCESS) -> ForkServer:
    """The fork server of this process, for all stand-ins of a kind in it."""
    server = ForkServer(module)
    atexit.register(server.close)
    return server


def serve(run: Callable[[Path], None]) -> None:
    """Fork a process for each request that comes in, until there are no more to come."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request, run)
        print(child, flush=True)


def become(request: Mapping[str, Any], run: Callable[[Path], None]) -> None:
    """Be the process of a run, to its end."""
    folder = Path(request["folder"])
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["variables"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(folder / "process.log", flags, 0o644))):
        os.dup2(file, descriptor)
    os.dup2(1, 2)
    code = 1
    try:
        run(folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
