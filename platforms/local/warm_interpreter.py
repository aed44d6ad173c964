"""An environment's interpreter that steps are forked from, with what is safe to import imported already.

Each step is a process of its own that runs the compiled YAML's program, with an environment, a log, a process group and
an end of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from environments.locks import interpreter

FORK_SERVER = Path(__file__).with_name("fork_server.py")

# Seconds between asking a step to stop and killing it.
GRACE_SECONDS = 5

# What the steps of an environment import. First-party modules never: a step's come with it. Nothing that starts threads
# when it is imported: a fork has none of them, and pyarrow, scikit-learn and ONNX Runtime end such a process with a
# signal. So the environments of the libraries start their steps from nothing.
IMPORTS: dict[str, tuple[str, ...]] = {"platform": ("kfp.dsl", "pydantic", "yaml", "jinja2")}


class InterpreterLost(Exception):
    """The warm interpreter ended before the step did."""


LOST = "the interpreter that the step ran in was killed; where memory was short, the system's log says so"


class WarmInterpreter:
    """One environment's interpreter, kept for the length of a run."""

    def __init__(self, python: Path, modules: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        """Start to import.

        Args:
            python: The environment's interpreter.
            modules: What to import before it is needed.
            variables: Environment variables while importing; each step brings its own.
            log: File for what the libraries say meanwhile.
        """
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(python), str(FORK_SERVER), *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=variables,
                start_new_session=True,
            )

    def close(self) -> None:
        """End it. A step that runs in it is a process of its own and goes on."""
        self._process.kill()
        self._process.communicate()

    def alive(self) -> bool:
        """Whether steps can be run in it: an import that fails ends it, and the step that needs it tells why."""
        return self._process.poll() is None

    def run(self, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> int:
        """Run one step with kfp's executor.

        Args:
            arguments: The executor's arguments.
            log: File that gets the step's output.
            variables: The step's environment variables, all of them.

        Returns:
            The step's exit code, negative for a signal.

        Raises:
            InterpreterLost: the interpreter is gone.
            KeyboardInterrupt: after the step and all it started were ended.
        """
        request = {"arguments": list(arguments), "variables": dict(variables), "log": str(log)}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise InterpreterLost(LOST) from error
        step: int | None = None
        try:
            step = self._answer("process")
            code = self._answer("code")
        except KeyboardInterrupt:
            self._end(step if step is not None else self._answer("process"))
            raise
        if code != 0:
            # A step that was killed could not end its own workers.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(step, signal.SIGKILL)
        return code

    def _answer(self, name: str) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InterpreterLost(LOST)
        answer: dict[str, Any] = json.loads(line)
        return int(answer[name])

    def _end(self, step: int) -> None:
        """Ask a step and its children to stop, and kill those that do not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(step, number)
            except ProcessLookupError:
                return
            wait_for(step, GRACE_SECONDS)


class WarmInterpreters:
    """The warm interpreters of a run."""

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        """None is started yet: a run whose steps are all taken over needs none.

        Args:
            variables: Environment variables while importing.
            log: File for what the libraries say meanwhile.
        """
        self._variables, self._log = variables, log
        self._interpreters: dict[str, WarmInterpreter] = {}

    def __enter__(self) -> WarmInterpreters:
        return self

    def __exit__(self, *_: object) -> None:
        for warm in self._interpreters.values():
            warm.close()

    def of(self, environment: str) -> WarmInterpreter:
        """The interpreter of an environment."""
        if environment not in self._interpreters:
            self._start(environment, IMPORTS.get(environment, ()))
        if not self._interpreters[environment].alive():
            # An import failed: the step does its own, and says so if it needs the one that fails.
            self._start(environment, ())
        return self._interpreters[environment]

    def _start(self, environment: str, modules: Sequence[str]) -> None:
        self._interpreters[environment] = WarmInterpreter(interpreter(environment), modules, self._variables, self._log)


def wait_for(process: int, seconds: float) -> None:
    """Wait for the end of a process that is not this one's child, for some seconds at the most."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        select.select([watched], [], [], seconds)
    finally:
        os.close(watched)
