"""The adapter to kfp's local runner: each task under its environment's interpreter, every step observed.

kfp has no public hook for either, so two of its classes are replaced while a pipeline runs. All that leans on kfp's
internals is in this file, and tests/platform/test_kfp_runner.py fails when kfp changes them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import kfp.local
from kfp import components
from kfp.dsl import Artifact
from kfp.local import cache, status, subprocess_task_handler
from kfp.local import config as kfp_config

from components.environment import LOCAL_IMAGE
from environments.locks import environment_directory, interpreter, lock_digest

# Seconds between asking a step to stop and killing it.
GRACE_SECONDS = 5


@dataclass(frozen=True)
class StepOutputs:
    """What a step handed on."""

    artifacts: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Path and metadata of each artifact by its name."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Is told what happens to the steps of a run."""

    def started(self, step: str, log: Path) -> None:
        """A step's process is about to start; its output goes to `log`."""

    def cached(self, step: str, outputs: StepOutputs) -> None:
        """A step was not run: code, inputs and environment are those of an earlier run."""

    def done(self, step: str, outputs: StepOutputs) -> None:
        """A step succeeded."""

    def failed(self, step: str, reason: str, log: Path) -> None:
        """A step failed, for this reason in plain words."""

    def interrupted(self, step: str) -> None:
        """The run is being stopped while this step works."""


@dataclass(frozen=True)
class Session:
    """What the adapter needs to know while a pipeline runs."""

    observer: Observer
    logs: Path
    scratch: Path
    variables: Mapping[str, str]
    failures: dict[str, str] = field(default_factory=dict)
    """Reason of each failed step, in the order they failed."""


class EnvironmentMissing(Exception):
    """A step's environment is not built, or not as its lock says."""


class EnvironmentTaskHandler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
    """Runs a task in a process group of its own, under the interpreter that its image name stands for."""

    session: ClassVar[Session]

    def run(self) -> status.Status:
        """Run the task to its end.

        Raises:
            KeyboardInterrupt: the run is being stopped; the task's processes are gone.
        """
        executor_input = json.loads(self.full_command[self.full_command.index("--executor_input") + 1])
        step = Path(executor_input["outputs"]["outputFile"]).parent.name
        log = self.session.logs / f"{step}.log"
        self.session.observer.started(step, log)
        scratch = Path(tempfile.mkdtemp(prefix=f"{step}-", dir=self.session.scratch))
        termination_log = scratch / "termination-log"
        try:
            command = self._command(executor_input)
            code = run_process(command, log, self._variables(scratch, termination_log))
        except KeyboardInterrupt:
            self.session.observer.interrupted(step)
            raise
        else:
            if code == 0:
                outputs = read_outputs(executor_input)
                # kfp's cache takes an artifact without a file for one that was lost; metrics are metadata alone.
                for path, _ in outputs.artifacts.values():
                    if not Path(path).exists():
                        Path(path).touch()
                self.session.observer.done(step, outputs)
                return status.Status.SUCCESS
            reason = termination_log.read_text("utf-8", "replace") if termination_log.exists() else last_line(log, code)
            self.session.failures[step] = reason
            self.session.observer.failed(step, reason, log)
            return status.Status.FAILURE
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _command(self, executor_input: dict[str, Any]) -> list[str]:
        image = LOCAL_IMAGE.match(self.image)
        if image is None:
            raise EnvironmentMissing(f"{self.image} is no image of a local compilation: compile with --target local")
        environment, digest = image["environment"], image["digest"]
        # Tests run in an environment that holds the platform's and more, in the same place.
        if digest != lock_digest(environment) or not interpreter(environment).exists():
            place = environment_directory(environment)
            raise EnvironmentMissing(f"environment {environment} ({digest}) is not at {place}: run `make setup`")
        command = list(self.full_command)
        command[command.index("--executor_input") + 1] = json.dumps(self._with_failure(executor_input))
        # Only in the shell script that starts the executor: kfp's own replacement would also reach into the arguments.
        script = next(position for position, part in enumerate(command) if "ephemeral_component.py" in part)
        command[script] = command[script].replace("python3", shlex.quote(str(interpreter(environment))))
        return command

    def _with_failure(self, executor_input: dict[str, Any]) -> dict[str, Any]:
        """Tell an exit handler which step failed and why, as the clusters' backends do; kfp's local runner does not."""
        if self.session.failures:
            step, reason = next(iter(self.session.failures.items()))
            for value in executor_input.get("inputs", {}).get("parameterValues", {}).values():
                if isinstance(value, dict) and "pipeline_task_name" in value:
                    value |= {"state": "FAILED", "pipeline_task_name": step, "error": {"code": 1, "message": reason}}
        return executor_input

    def _variables(self, scratch: Path, termination_log: Path) -> dict[str, str]:
        unwanted = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
        inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
        own = {"TMPDIR": str(scratch), "TERMINATION_LOG": str(termination_log), "PYTHONUNBUFFERED": "1"}
        return {**inherited, **self.session.variables, **own, **self.env_vars}


class ObservedCache(cache.LocalCache):  # type: ignore[misc]
    """kfp's cache of outputs, telling the observer when a step needs no run."""

    session: ClassVar[Session]

    def __init__(self, cache_root: str) -> None:
        super().__init__(cache_root)
        self._steps: dict[str, str] = {}

    def compute_key(self, component_name: str, *args: Any, **kwargs: Any) -> str:
        """kfp's key, remembered with the step it is for."""
        key: str = super().compute_key(component_name, *args, **kwargs)
        self._steps[key] = component_name.removeprefix("comp-")
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        """The outputs kept under a key, None when there are none or their files are gone."""
        outputs: dict[str, Any] | None = super().get(key)
        if outputs is not None:
            artifacts = {
                name: (item.path, item.metadata) for name, item in outputs.items() if isinstance(item, Artifact)
            }
            parameters = {name: item for name, item in outputs.items() if not isinstance(item, Artifact)}
            self.session.observer.cached(self._steps[key], StepOutputs(artifacts, parameters))
        return outputs


def run_process(command: list[str], log: Path, variables: Mapping[str, str]) -> int:
    """Run a command with its output in a log file.

    Returns:
        Its exit code.

    Raises:
        KeyboardInterrupt: after the command and all it started were ended.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            end_process_group(process)
            raise


def end_process_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process and its children to stop, and kill those that do not."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def read_outputs(executor_input: Mapping[str, Any]) -> StepOutputs:
    """What a finished step wrote: artifacts with their metadata, and parameters."""
    file = Path(executor_input["outputs"]["outputFile"])
    written = json.loads(file.read_text("utf-8")) if file.exists() else {}
    artifacts = {
        name: (items["artifacts"][0]["uri"], items["artifacts"][0].get("metadata", {}))
        for name, items in written.get("artifacts", {}).items()
        if items["artifacts"]
    }
    return StepOutputs(artifacts, written.get("parameterValues", {}))


def last_line(log: Path, code: int) -> str:
    """The last words of a process that gave no reason."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    ended = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{lines[-1]} ({ended})" if lines else ended


@contextmanager
def _adapted(session: Session) -> Iterator[None]:
    handler, kept = subprocess_task_handler.SubprocessTaskHandler, cache.LocalCache
    EnvironmentTaskHandler.session = ObservedCache.session = session
    subprocess_task_handler.SubprocessTaskHandler = EnvironmentTaskHandler
    cache.LocalCache = ObservedCache
    cache.reset_local_cache_singleton()
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = handler
        cache.LocalCache = kept
        cache.reset_local_cache_singleton()
        kfp_config.LocalExecutionConfig.instance = None


def run_pipeline(
    compiled: Path,
    arguments: Mapping[str, Any],
    *,
    session: Session,
    artifacts: Path,
    cache_root: Path | None,
    kfp_log: Path,
) -> None:
    """Run a compiled pipeline with kfp's local runner.

    Args:
        compiled: Pipeline YAML of a compilation for `local`.
        arguments: The pipeline's parameters.
        session: Who is told of each step; afterwards `session.failures` holds the reason of each failed step.
        artifacts: Folder for the steps' outputs.
        cache_root: Folder with the outputs of earlier runs; None runs every step.
        kfp_log: File for kfp's own messages.

    Raises:
        EnvironmentMissing: a step's environment is not built.
        KeyboardInterrupt: the run was stopped.
    """
    with _adapted(session), kfp_log.open("a", encoding="utf-8") as log, redirect_stdout(log), warnings.catch_warnings():
        # kfp warns that resource limits and display names do nothing locally; that is known.
        warnings.simplefilter("ignore")
        kfp.local.init(
            runner=kfp.local.SubprocessRunner(use_venv=False),
            pipeline_root=str(artifacts),
            # A failed step is reported by the observer; kfp goes on to the exit handler.
            raise_on_error=False,
            enable_caching=cache_root is not None,
            cache_root=str(cache_root) if cache_root else None,
        )
        components.load_component_from_file(str(compiled))(**arguments)
