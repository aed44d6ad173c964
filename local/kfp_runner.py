"""The adapter to kfp's local runner: each task under its environment's interpreter, every step observed.

kfp has no public hook for either, so two of its classes, and the order that it runs tasks in, are replaced while a
pipeline runs. All that leans on kfp's
internals is in this file, and tests/platform/test_kfp_runner.py fails when kfp changes them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import kfp.local
from google.protobuf import json_format
from kfp import components
from kfp.dsl import Artifact
from kfp.local import cache, graph_utils, status, subprocess_task_handler
from kfp.local import config as kfp_config
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PipelineTaskSpec

from kfp_lifecycle.compilation.code import EXECUTOR
from kfp_lifecycle.compilation.target import LOCAL_IMAGE
from kfp_lifecycle.compilation.tasks import in_order
from kfp_lifecycle.environments.locks import (
    SETUP,
    EnvironmentMissing,
    environment_directory,
    interpreter,
    is_built,
    lock_digest,
)
from kfp_lifecycle.local.step_process import run_step
from kfp_lifecycle.runtime.code_version import CODE_VARIABLE

# Linux refuses an argument of so many bytes (MAX_ARG_STRLEN).
LONGEST_ARGUMENT = 32 * 4096


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
    code: Path
    """Folder with the code of steps, each by its digest."""
    variables: Mapping[str, str]
    lock: int | None = None
    """Descriptor of the lock that is held for as long as a step runs."""
    failures: dict[str, str] = field(default_factory=dict)
    """Reason of each failed step, in the order they failed."""


def require_environments(specification: PipelineSpec) -> None:
    """See that the environments of all steps are here, before the first of them runs.

    Raises:
        EnvironmentMissing: some are not built.
    """
    executors = json_format.MessageToDict(specification.deployment_spec)["executors"]
    images = (executor.get("container", {}).get("image", "") for executor in executors.values())
    wanted = {image["environment"] for image in map(LOCAL_IMAGE.match, images) if image}
    missing = sorted(name for name in wanted if not is_built(name))
    if missing:
        raise EnvironmentMissing(f"steps run in environments that are not built ({', '.join(missing)}): run `{SETUP}`")


class EnvironmentTaskHandler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
    """Runs a task in a process group of its own, under the interpreter that its image name stands for."""

    session: ClassVar[Session]

    def validate_not_container_component(self, full_command: list[str]) -> None:
        """kfp's subprocess runner knows its own executor in a command; here each task has the library's."""
        if EXECUTOR not in full_command:
            super().validate_not_container_component(full_command)

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
            code = run_step(
                self._command(executor_input, scratch),
                log,
                {**self._variables(), "TMPDIR": str(scratch), "TERMINATION_LOG": str(termination_log)},
                held=[] if self.session.lock is None else [self.session.lock],
            )
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

    def _interpreter(self) -> Path:
        image = LOCAL_IMAGE.match(self.image)
        if image is None:
            # Somebody else's lightweight component, among ours.
            return interpreter("platform")
        environment, digest = image["environment"], image["digest"]
        # Tests run in an environment that holds the platform's and more, in the same place.
        if digest != lock_digest(environment) or not is_built(environment):
            place = environment_directory(environment)
            raise EnvironmentMissing(f"environment {environment} ({digest}) is not at {place}: run `{SETUP}`")
        return interpreter(environment)

    def _command(self, executor_input: dict[str, Any], scratch: Path) -> list[str]:
        """The task's own command, under the interpreter of its environment."""
        command = list(self.full_command)
        told = json.dumps(self._with_failure(executor_input))
        if EXECUTOR in command and len(told) >= LONGEST_ARGUMENT:
            file = scratch / "executor_input.json"
            file.write_text(told, "utf-8")
            told = f"@{file}"
        command[command.index("--executor_input") + 1] = told
        # As a container's Python: nothing of the folder that the run was started in can be imported.
        python = [str(self._interpreter()), "-P"]
        if EXECUTOR in command:
            return [*python, *command[1:]]
        script = next(position for position, part in enumerate(command) if "ephemeral_component.py" in part)
        program = scratch / "ephemeral_component.py"
        program.write_text(command[script + 1], "utf-8")
        executor = ["-m", "kfp.dsl.executor_main", "--component_module_path", str(program)]
        return [*python, *executor, *command[script + 2 :]]

    def _with_failure(self, executor_input: dict[str, Any]) -> dict[str, Any]:
        """Tell an exit handler which step failed and why, as the clusters' backends do; kfp's local runner does not."""
        if self.session.failures:
            step, reason = next(iter(self.session.failures.items()))
            for value in executor_input.get("inputs", {}).get("parameterValues", {}).values():
                if isinstance(value, dict) and "pipeline_task_name" in value:
                    value |= {"state": "FAILED", "pipeline_task_name": step, "error": {"code": 1, "message": reason}}
        return executor_input

    def _variables(self) -> dict[str, str]:
        unwanted = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
        inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
        # kfp imports what runs a step, and not what compiles one, whose libraries the environments do not have.
        own = {"PYTHONUNBUFFERED": "1", "_KFP_RUNTIME": "true"}
        code = {}
        if CODE_VARIABLE in self.env_vars:
            code["PYTHONPATH"] = str(self.session.code / self.env_vars[CODE_VARIABLE])
        if image := LOCAL_IMAGE.match(self.image):
            code |= {"LIFECYCLE_ENVIRONMENT": f"{image['environment']}-{image['digest']}"}
        return {**inherited, **own, **code, **self.session.variables, **self.env_vars}


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


def _stack_in_order(tasks: Mapping[str, PipelineTaskSpec]) -> list[str]:
    """The order that is shown, the first task last: kfp's own is another in each process, as a protobuf map's is."""
    return in_order({name: task.dependent_tasks for name, task in tasks.items()})[::-1]


@contextmanager
def _adapted(session: Session) -> Iterator[None]:
    handler, kept = subprocess_task_handler.SubprocessTaskHandler, cache.LocalCache
    sort = graph_utils.topological_sort_tasks
    EnvironmentTaskHandler.session = ObservedCache.session = session
    subprocess_task_handler.SubprocessTaskHandler = EnvironmentTaskHandler
    cache.LocalCache = ObservedCache
    graph_utils.topological_sort_tasks = _stack_in_order
    cache.reset_local_cache_singleton()
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = handler
        cache.LocalCache = kept
        graph_utils.topological_sort_tasks = sort
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
            # By default a folder below the system's, which stays where the run is killed.
            workspace_root=str(session.scratch / "workspace"),
            # A failed step is reported by the observer; kfp goes on to the exit handler.
            raise_on_error=False,
            enable_caching=cache_root is not None,
            cache_root=str(cache_root) if cache_root else None,
        )
        components.load_component_from_file(str(compiled))(**arguments)
