"""Runs under an environment's interpreter: imports its heavy libraries once, and forks a process for each step.

Run as a script by `platforms/local/warm_interpreter.py`, with the names of the modules to import. Standard library
only, since every environment runs it.

Reads a line of JSON for each step from its standard input, `{"arguments", "variables", "log"}`, and answers with
`{"process"}` when the step's process is there and `{"code"}` when it has ended. It goes on importing meanwhile: a step
that comes early imports by itself what is missing.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any


def serve(modules: list[str]) -> dict[str, Any] | None:
    """Answer requests until there are no more.

    Returns:
        None in the server itself; in the process of a step, what it is to do.
    """
    requests, answers = os.fdopen(os.dup(0)), os.dup(1)
    os.dup2(2, 1)
    # Nobody waits for the processes between this one and the steps.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    waiting = list(modules)
    while True:
        if waiting and not select.select([requests], [], [], 0)[0]:
            importlib.import_module(waiting.pop(0))
            # What is there before a fork stays shared with the steps as long as no collection touches it.
            gc.freeze()
            continue
        line = requests.readline()
        if not line:
            return None
        if os.fork() == 0:
            # A process between: it waits for the step while the server goes on.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            step = os.fork()
            if step == 0:
                os.close(answers)
                request: dict[str, Any] = json.loads(line)
                return request
            tell(answers, {"process": step})
            _, status = os.waitpid(step, 0)
            tell(answers, {"code": os.waitstatus_to_exitcode(status)})
            os._exit(0)


def tell(answers: int, answer: dict[str, int]) -> None:
    """Write one answer."""
    os.write(answers, json.dumps(answer).encode() + b"\n")


def become(request: dict[str, Any]) -> None:
    """Take on a step's process group, log, variables and arguments, as if started from nothing."""
    os.setsid()
    for path, flags, number in (
        (os.devnull, os.O_RDONLY, 0),
        (request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1),
        (request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 2),
    ):
        os.dup2(os.open(path, flags, 0o644), number)
    os.environ.clear()
    os.environ.update(request["variables"])
    # Both were set while libraries were imported, for all steps alike.
    tempfile.tempdir = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    sys.argv[1:] = request["arguments"]


if __name__ == "__main__":
    # As `python -m` has it: the folder of this script must not hide libraries.
    sys.path[0] = str(Path.cwd())
    asked = serve(sys.argv[1:])
    if asked is not None:
        become(asked)
        runpy.run_module("kfp.dsl.executor_main", run_name="__main__", alter_sys=True)
