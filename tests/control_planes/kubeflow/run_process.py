"""Process of one run: the submitted pipeline under the project's local runner, told as an Argo workflow.

The run's order is `order.json` in its folder, its workflow's status `workflow.json`, the logs of its pods are below
`logs/`. One process is one run, since kfp's local runner keeps its settings in its modules, some of whose functions are
replaced here. It outlives the API server, as a workflow does. SIGTERM terminates the run: the step at work is killed,
nothing new is begun, and exit handlers run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import types
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kfp import components, dsl
from kfp.local import cache as kfp_cache
from kfp.local import executor_input_utils, importer_handler, status, task_dispatcher
from kfp.local.orchestrator import dag_orchestrator, enhanced_dag_orchestrator, task_executor
from kfp.pipeline_spec import pipeline_spec_pb2

from kfp_lifecycle.compilation.code import EXECUTOR
from kfp_lifecycle.environments.locks import interpreter, is_built, lock_digest
from kfp_lifecycle.local import kfp_runner
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.kubeflow import workflow as argo
from tests.control_planes.kubeflow.order import Order, place_of
from tests.control_planes.kubeflow.workflow import Phase, Workflow

TriggerStrategy = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy
# Of an image of the library: `registry/kfp-lifecycle-modelling:LOCK-LIBRARY`.
OWN_IMAGE = re.compile(r"/kfp-lifecycle-(?P<environment>[a-z]+):(?P<lock>[0-9a-f]+)-[0-9a-f]+$")
# Between a pod's SIGTERM and its SIGKILL; Kubernetes waits for 30.
GRACE_SECONDS = 2.0


@dataclass
class Scope:
    """A DAG of tasks that is under way."""

    boundary: str
    """Full name of its node."""
    tasks: Mapping[str, Any]
    on_exit: bool = False
    """Whether it belongs to an exit handler, which no termination stops."""
    phases: dict[str, Phase] = field(default_factory=dict)

    def before(self, task: str) -> list[str]:
        """Full names of the nodes that a task waited for."""
        return [f"{self.boundary}.{name}" for name in sorted(self.tasks[task].dependent_tasks)]


@dataclass
class Step:
    """A container task that is under way."""

    executor: str
    """Full name of its executor's node."""
    boundary: str
    label: str
    """Its executor's label in the deployment."""
    attempts: int = 0
    pod: str = ""
    """Full name of the node of its newest pod."""
    prefix: str = ""
    """What the names of its templates begin with."""


class WorkflowFull(Exception):
    """The workflow is larger than what Argo may store."""


class Conductor:
    """Leads the local runner through a pipeline, and writes the nodes that Argo would have."""

    def __init__(self, order: Order, specification: Any, workflow: Workflow, folder: Path) -> None:
        self.order, self.specification, self.workflow = order, specification, workflow
        self._outputs, self._logs = folder / "outputs", folder / "logs"
        self.terminating = threading.Event()
        self._here = threading.local()
        self._loops: dict[tuple[int, str], tuple[Scope, str]] = {}
        self._steps_begun = 0
        self._at_work = 0
        self._reimported: set[str] = set()

    # What the workflow itself is made of.

    def run(self, run_pipeline: Callable[[], None]) -> None:
        """Run the pipeline to the workflow's end."""
        name, workflow = self.workflow.name, self.workflow
        top = workflow.begin_retried(name, "entrypoint", "")
        self._driver("root", argo.DAG_DRIVER, top, [])
        self._root = workflow.begin_retried(f"{top}.root", "root", top, [f"{top}.root-driver"])
        self._here.boundary, self._here.on_exit = self._root, False
        self.phase = Phase.succeeded
        try:
            run_pipeline()
        except WorkflowFull as full:
            workflow.end(Phase.error, str(full))
            return
        except Exception:
            workflow.end(Phase.error, traceback.format_exc())
            raise
        workflow.end_retried(f"{top}.root", self.phase)
        workflow.end_retried(name, self.phase)
        workflow.end(self.phase)

    def terminate(self) -> None:
        """Kill the steps at work; what is not of an exit handler is begun no more."""
        if not self.terminating.is_set():
            self.terminating.set()
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        asked: dict[int, float] = {}
        while self._at_work:
            for step in psutil.Process().children():
                number = signal.SIGTERM if step.pid not in asked else None
                if number is None and time.monotonic() > asked[step.pid] + GRACE_SECONDS:
                    number = signal.SIGKILL
                if number is not None:
                    asked.setdefault(step.pid, time.monotonic())
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(step.pid, number)
            time.sleep(0.05)

    # What stands in for functions of kfp's local runner.

    def run_dag(self, original: Callable[..., Any], **given: Any) -> Any:
        """Run the tasks of a DAG, whose node is under way."""
        boundary, on_exit = self._here.boundary, self._here.on_exit
        with self._scope(Scope(boundary, given["dag_component_spec"].dag.tasks, on_exit)) as scope:
            outputs, _ = original(**{**given, "unique_pipeline_id": self.order.run_id})
            self._omit(scope)
            failed = Phase.failed in scope.phases.values() or self._cut(scope)
            self._here.phase = phase = Phase.failed if failed else Phase.succeeded
        if boundary == self._root:
            self.phase = phase
        # As on Argo, an exit handler's failure is none of the DAG that it ends.
        return outputs, status.Status.FAILURE if failed else status.Status.SUCCESS

    def run_task(self, original: Callable[..., Any], **given: Any) -> Any:
        """Run one task: a group of tasks, an iteration, or a step."""
        name, specification = given["task_name"], given["task_spec"]
        loop = self._loops.get((id(given["io_store"]), name.rpartition("-iteration-")[0]))
        if loop is not None:
            return self._run_iteration(original, *loop, **given)
        component = given["components"][specification.component_ref.name]
        if component.WhichOneof("implementation") != "dag":
            return original(**given)
        with self._entered(name) as entered:
            if entered is None:
                return {}, status.Status.FAILURE
            scope, boundary, after = entered
            self._driver(name, argo.DAG_DRIVER, boundary, after)
            node = f"{boundary}.{name}"
            component_name = specification.component_ref.name
            inside = self.workflow.begin_retried(node, component_name, boundary, [f"{node}-driver"])
            self._here.boundary, self._here.on_exit = inside, scope.on_exit or boundary != scope.boundary
            outputs, outcome = original(**given)
            self._end(scope, name, node, outcome)
            return outputs, outcome

    def run_loop(self, original: Callable[..., Any], **given: Any) -> bool:
        """Run a loop over items."""
        name = given["task_name"]
        with self._entered(name) as entered:
            if entered is None:
                return True
            scope, boundary, after = entered
            component_name = given["task_spec"].component_ref.name
            node = f"{boundary}.{name}"
            inside = self.workflow.begin_retried(node, f"{component_name}-{name}-iterator", boundary, after)
            self._driver("iteration", argo.DAG_DRIVER, inside, [])
            group = f"{inside}.iteration-iterations"
            self.workflow.begin(
                group, f"{component_name}-iteration", inside, [f"{inside}.iteration-driver"], phase=Phase.running
            )
            key = id(given["io_store"]), name
            self._loops[key] = scope, group
            try:
                failed: bool = original(**given)
            finally:
                del self._loops[key]
            self.workflow.mark(group, Phase.failed if failed else Phase.succeeded)
            self._end(scope, name, node, status.Status.FAILURE if failed else status.Status.SUCCESS)
            return failed

    def _run_iteration(self, original: Callable[..., Any], scope: Scope, group: str, **given: Any) -> Any:
        index = given["task_name"].rpartition("-")[2]
        component_name = given["task_spec"].component_ref.name
        loop = group.rpartition(".")[0]
        item = f"{group}({index}:{index})"
        inside = self.workflow.begin_retried(item, f"{component_name}-iteration", loop, [f"{loop}.iteration-driver"])
        self._driver("iteration-item", argo.DAG_DRIVER, inside, [])
        node = f"{inside}.iteration-item"
        dag = self.workflow.begin_retried(node, component_name, inside, [f"{node}-driver"])
        self._here.boundary, self._here.on_exit = dag, scope.on_exit
        outputs, outcome = original(**given)
        phase = Phase.succeeded if outcome is status.Status.SUCCESS else Phase.failed
        self.workflow.end_retried(node, phase)
        self.workflow.end_retried(item, phase)
        return outputs, outcome

    def run_step(self, original: Callable[..., Any], **given: Any) -> Any:
        """Run a container or an importer, retries and cache included."""
        name, specification = given["task_name"], given["task_spec"]
        component = given["components"][specification.component_ref.name]
        kind = given["executors"][component.executor_label].WhichOneof("spec")
        self._count()
        with self._entered(name) as entered:
            if entered is None:
                return {}, status.Status.FAILURE
            scope, boundary, after = entered
            node, workflow = f"{boundary}.{name}", self.workflow
            kept = self._outputs / f"{argo.fnv_1a(node)}.json"
            if kept.exists():
                # It succeeded before the workflow was retried.
                self._end(scope, name, "", status.Status.SUCCESS)
                return TaskCache._deserialize_outputs(json.loads(kept.read_text("utf-8"))), status.Status.SUCCESS
            if kind == "importer":
                pod = workflow.begin_retried(node, argo.IMPORTER, boundary, after, phase=Phase.pending)
                self._here.step = Step(node, boundary, component.executor_label, pod=pod)
                workflow.mark(pod, Phase.running)
            elif reason := self._unresolvable(scope, specification):
                self._driver(name, argo.CONTAINER_DRIVER, boundary, after, failure=reason)
                workflow.begin(node, argo.EXECUTOR, boundary, [f"{node}-driver"], phase=Phase.omitted)
                scope.phases[name] = Phase.failed
                return {}, status.Status.FAILURE
            else:
                self._driver(name, argo.CONTAINER_DRIVER, boundary, after)
                prefix = self.order.templates.get(component.executor_label, "")
                prefix += "retry-" if specification.HasField("retry_policy") else ""
                inside = workflow.begin_retried(node, prefix + argo.EXECUTOR, boundary, [f"{node}-driver"])
                executor = f"{inside}.executor"
                self._here.step = Step(executor, inside, component.executor_label, prefix=prefix)
            outputs, outcome = original(**given)
            if kind == "container" and self._here.step.pod:
                workflow.mark(self._here.step.executor, workflow.nodes[self._here.step.pod].phase)
            if outcome is status.Status.SUCCESS:
                kept.write_text(json.dumps(TaskCache._serialize_outputs(outputs)), "utf-8")
            self._end(scope, name, node, outcome)
            return outputs, outcome

    def run_pod(self, original: Callable[..., Any], **given: Any) -> Any:
        """Run one attempt of a step: a pod."""
        step: Step = self._here.step
        on_exit: bool = self._here.scope_stack[-1].on_exit
        if not on_exit:
            self._at_work += 1
        try:
            if self.terminating.is_set() and not on_exit:
                return {}, status.Status.FAILURE
            return self._run_pod(step, original, **given)
        finally:
            if not on_exit:
                self._at_work -= 1

    def _run_pod(self, step: Step, original: Callable[..., Any], **given: Any) -> Any:
        template = step.prefix + argo.IMPLEMENTATION
        if step.attempts == 0:
            step.pod = self.workflow.begin_retried(step.executor, template, step.boundary, phase=Phase.pending)
        else:
            step.pod = self.workflow.attempt(step.executor, step.attempts, step.boundary, Phase.pending)
        step.attempts += 1
        outputs, outcome = original(**given)
        self.workflow.mark(step.pod, Phase.succeeded if outcome is status.Status.SUCCESS else Phase.failed)
        return outputs, outcome

    def evaluate_condition(self, original: Callable[..., bool], condition: str, io_store: Any) -> bool:
        """Say that a task is skipped where its condition does not hold."""
        holds = original(condition, io_store)
        if not holds:
            scope: Scope = self._here.scope_stack[-1]
            name = next(
                task
                for task, specification in scope.tasks.items()
                if specification.trigger_policy.condition == condition and task not in scope.phases
            )
            self._driver(name, argo.DAG_DRIVER, scope.boundary, scope.before(name))
            self.workflow.begin(
                f"{scope.boundary}.{name}",
                scope.tasks[name].component_ref.name,
                scope.boundary,
                [f"{scope.boundary}.{name}-driver"],
                phase=Phase.skipped,
            )
            scope.phases[name] = Phase.skipped
        return holds

    def task_root(self, pipeline_root: str, pipeline_resource_name: str, task_resource_name: str) -> str:
        """The folder that a pod's outputs go to, named as the pod: the runner names its log by it."""
        step: Step = self._here.step
        task = step.pod.removesuffix(")").rpartition("(")[0].removesuffix(".executor").rpartition(".")[2]
        run = f"{self.specification.pipeline_info.name}/{self.order.run_id}"
        return f"{pipeline_root}/{run}/{task.partition('(')[0]}/{self.workflow.pod_of(step.pod)}"

    def importer_uri(self, original: Callable[..., str], importer_spec: Any, executor_input: Any) -> str:
        """Where what an importer names is kept here."""
        uri = place_of(original(importer_spec, executor_input), self.order.objects)
        if importer_spec.reimport:
            self._reimported.add(uri)
        return uri

    # What is told of steps.

    def pod_runs(self) -> None:
        """The process of the step at work is about to start."""
        self.workflow.mark(self._here.step.pod, Phase.running)

    def step_cached(self) -> None:
        """The step needs no pod: its executor is skipped."""
        step: Step = self._here.step
        template = step.prefix + argo.IMPLEMENTATION
        self.workflow.begin(step.executor, template, step.boundary, phase=Phase.skipped)

    def step_kept(self, fingerprint: str) -> None:
        """The cache keeps the outputs of the step."""
        started = self.workflow.nodes[self._here.step.pod].started_at
        record = {"id": str(uuid.uuid4()), "fingerprint": fingerprint}
        self.workflow.record_cache({**record, "started_at": started, "finished_at": self.workflow.now()})

    @property
    def step(self) -> Step:
        """The step at work in this thread."""
        step: Step = self._here.step
        return step

    def artifact_name(self, artifact: dsl.Artifact) -> str:
        """The name that metadata knows an artifact by: its place, and the run where it is imported anew in each."""
        return f"{artifact.uri}#{self.order.run_id}" if artifact.uri in self._reimported else str(artifact.uri)

    # Nodes.

    def _unresolvable(self, scope: Scope, task: Any) -> str:
        """What a task's driver does not find: an importer is filed under its display name, and looked for under its
        task's."""
        for source in task.inputs.artifacts.values():
            producer = source.task_output_artifact.producer_task
            if not producer or producer not in scope.tasks:
                continue
            label = self.specification.components[scope.tasks[producer].component_ref.name].executor_label
            executors = self.specification.deployment_spec["executors"]
            shown = scope.tasks[producer].task_info.name
            if label and "importer" in executors[label] and shown != producer:
                return f"failed to resolve inputs: cannot find producer task {producer!r} (there is {shown!r})"
        return ""

    def _driver(self, task: str, template: str, boundary: str, after: list[str], *, failure: str = "") -> None:
        name = f"{boundary}.{task}-driver"
        if name in self.workflow.nodes:
            return
        pod = self.workflow.begin_retried(name, template, boundary, after)
        if failure:
            (self._logs / f"{self.workflow.pod_of(pod)}.log").write_text(f"{failure}\n", "utf-8")
        self.workflow.end_retried(name, Phase.failed if failure else Phase.succeeded)

    def _end(self, scope: Scope, task: str, node: str, outcome: status.Status) -> None:
        phase = Phase.succeeded if outcome is status.Status.SUCCESS else Phase.failed
        if node:
            self.workflow.end_retried(node, phase)
        if self._is_exit(scope.tasks[task]):
            self.workflow.end_retried(self._exit_node(scope, task), phase)
        else:
            scope.phases[task] = phase

    @contextmanager
    def _entered(self, task: str) -> Iterator[tuple[Scope, str, list[str]] | None]:
        """Begin a task: its DAG, the full name of the node it belongs to, and what it waited for. None where the run
        is being terminated, or what it waits for did not do well."""
        scope: Scope = self._here.scope_stack[-1]
        if self._is_exit(scope.tasks[task]):
            watched = scope.phases.get(scope.tasks[task].dependent_tasks[0])
            if watched not in (Phase.succeeded, Phase.failed):
                yield None
                return
            node = self._exit_node(scope, task)
            template = f"exit-hook-{scope.boundary.rpartition('.')[2].partition('(')[0]}-{task}"
            hooked = node.removesuffix(".onExit")
            boundary = self.workflow.begin_retried(node, template, scope.boundary, hook_of=hooked)
            with self._scope(Scope(boundary, scope.tasks, on_exit=True)):
                yield scope, boundary, []
            return
        if self._cut(scope):
            yield None
            return
        yield scope, scope.boundary, scope.before(task)

    @staticmethod
    def _exit_node(scope: Scope, task: str) -> str:
        return f"{scope.boundary}.{scope.tasks[task].dependent_tasks[0]}.onExit"

    @staticmethod
    def _is_exit(task: Any) -> bool:
        return bool(task.trigger_policy.strategy == TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED)

    def _cut(self, scope: Scope) -> bool:
        return self.terminating.is_set() and not scope.on_exit

    def _omit(self, scope: Scope) -> None:
        """Add the nodes of tasks that could not begin, as what they wait for did not succeed."""
        waiting = [name for name in scope.tasks if name not in scope.phases and not self._is_exit(scope.tasks[name])]
        for _ in range(len(waiting)):
            for name in list(waiting):
                before = scope.tasks[name].dependent_tasks
                known = [scope.phases[other] for other in before if other in scope.phases]
                if any(phase is not Phase.succeeded for phase in known):
                    waiting.remove(name)
                    scope.phases[name] = Phase.omitted
                    component = self.specification.components[scope.tasks[name].component_ref.name]
                    is_dag = component.WhichOneof("implementation") == "dag"
                    node = f"{scope.boundary}.{name}"
                    after = [item for item in scope.before(name) if item in self.workflow.nodes]
                    driver = argo.DAG_DRIVER if is_dag else argo.CONTAINER_DRIVER
                    template = scope.tasks[name].component_ref.name if is_dag else argo.EXECUTOR
                    self.workflow.begin(f"{node}-driver", driver, scope.boundary, after, phase=Phase.omitted)
                    self.workflow.begin(node, template, scope.boundary, [f"{node}-driver"], phase=Phase.omitted)

    def _count(self) -> None:
        self._steps_begun += 1
        room = self.order.steps_that_fit
        if room is not None and self._steps_begun > room:
            raise WorkflowFull(
                "workflow is longer than maximum allowed size for sqldb. offload node status is not supported: "
                "compressed size > maxSize 1048576"
            )

    @contextmanager
    def _scope(self, scope: Scope) -> Iterator[Scope]:
        stack = self._here.__dict__.setdefault("scope_stack", [])
        stack.append(scope)
        try:
            yield scope
        finally:
            stack.pop()


class PodTaskHandler(kfp_runner.EnvironmentTaskHandler):
    """Runs a container's command as a process: images stand for the environments that are built here."""

    conductor: Conductor
    env_vars: dict[str, str]

    def validate_image(self, image: str) -> None:
        """Any image: its Python is one of the environments here."""

    def validate_not_container_component(self, full_command: list[str]) -> None:
        """Any command that takes kfp's executor input."""

    def validate_not_containerized_python_component(self, full_command: list[str]) -> None:
        """Its code may be imported here as well."""

    def run(self) -> status.Status:
        """Run the pod, with what secrets and Kubernetes tell it."""
        self.env_vars = {
            **self.conductor.order.variables.get(self.conductor.step.label, {}),
            **self.env_vars,
            "KFP_POD_NAME": self._pod(),
        }
        if "--executor_input" not in self.full_command:
            return self._refuse("only Python components run here: this container takes no --executor_input")
        try:
            outcome: status.Status = super().run()
        except kfp_runner.EnvironmentMissing as missing:
            return self._refuse(str(missing))
        return outcome

    def _refuse(self, reason: str) -> status.Status:
        (self.session.logs / f"{self._pod()}.log").write_text(f"{reason}\n", "utf-8")
        return status.Status.FAILURE

    def _pod(self) -> str:
        step, workflow = self.conductor.step, self.conductor.workflow
        return workflow.pod_of(step.pod)

    def _archive(self) -> Path | None:
        """The code archive that the command runs, if it runs one."""
        program = Path(self.full_command[1]) if len(self.full_command) > 1 else Path()
        is_archive = self.full_command[0] == "python3" and program.is_file() and zipfile.is_zipfile(program)
        return program if is_archive else None

    def _environment(self) -> tuple[str, str] | None:
        """Name and lock of the environment that the container needs: its image's, or its code archive's."""
        if image := OWN_IMAGE.search(self.image):
            return image["environment"], image["lock"]
        if archive := self._archive():
            with zipfile.ZipFile(archive) as packed:
                name, _, lock = packed.read("locks/ENVIRONMENT").decode().strip().rpartition("-")
            return name, lock
        if self.full_command[:2] == ["python3", "-c"]:
            # A component's own archive, which needs kfp alone.
            return "kfp", lock_digest("kfp")
        return None

    def _interpreter(self) -> Path:
        wanted = self._environment()
        if wanted is None:
            return Path(sys.executable)
        name, lock = wanted
        if name == "kfp":
            return interpreter("platform")
        if lock != lock_digest(name) or not is_built(name):
            raise kfp_runner.EnvironmentMissing(f"environment {name}-{lock} is not built here: run `make setup-tests`")
        return interpreter(name)

    def _command(self, executor_input: dict[str, Any], scratch: Path) -> list[str]:
        if any("ephemeral_component.py" in part for part in self.full_command) or EXECUTOR in self.full_command:
            return super()._command(executor_input, scratch)
        command = list(self.full_command)
        command[command.index("--executor_input") + 1] = json.dumps(self._with_failure(executor_input))
        return [str(self._interpreter()), *command[1:]] if command[0].startswith("python") else command

    def _with_failure(self, executor_input: dict[str, Any]) -> dict[str, Any]:
        """Tell an exit handler of the run's end as Kubeflow does: COMPLETE is its word for success, and of a failure it
        says neither which step's it is nor why."""
        parameters = executor_input.get("inputs", {}).get("parameterValues", {})
        for name, value in parameters.items():
            if isinstance(value, dict) and "pipeline_task_name" in value:
                parameters[name] = {
                    "state": "FAILED" if value["state"] == "FAILED" else "COMPLETE",
                    "pipelineJobResourceName": self.conductor.workflow.name,
                    "pipelineTaskName": value["pipeline_task_name"],
                    "error": {},
                }
        return executor_input

    def _variables(self) -> dict[str, str]:
        variables = {
            name: value
            for name, value in super()._variables().items()
            if name in self.env_vars or not (name.startswith("LIFECYCLE_") or name == "PYTHONPATH")
        }
        if wanted := self._environment():
            # The archive's own program finds its environment there, and installs nothing.
            variables["LIFECYCLE_ENVIRONMENT"] = "-".join(wanted)
        if OWN_IMAGE.search(self.image):
            variables["PYTHONPATH"] = str(ROOT / "src")
        return variables


class TaskCache(kfp_runner.ObservedCache):
    """Kubeflow's cache of steps: keyed by image, command, claims, inputs and what the outputs are; not by variables.

    An input artifact counts by its entry in the metadata store, not by its content: a step that was run again gives
    another one.
    """

    conductor: Conductor

    def compute_key(self, component_name: str, *args: Any, **kwargs: Any) -> str:
        """The fingerprint of a step."""
        conductor = self.conductor
        component = conductor.specification.components[component_name]
        arguments: Mapping[str, Any] = kwargs["arguments"]
        artifacts = {name: value for name, value in arguments.items() if name in component.input_definitions.artifacts}
        key = {
            "image": kwargs["image"],
            "command": kwargs["full_command"],
            "claims": sorted(set(conductor.order.claims.get(component.executor_label, []))),
            "parameters": {name: value for name, value in arguments.items() if name not in artifacts},
            "artifacts": {
                name: [
                    conductor.artifact_name(item) for item in (value if isinstance(value, list) else [value]) if item
                ]
                for name, value in artifacts.items()
            },
            "outputs": str(component.output_definitions),
        }
        fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        self._steps[fingerprint] = component_name
        return fingerprint

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keep the outputs of a step."""
        super().put(key, outputs)
        self.conductor.step_kept(key)


class PodObserver:
    """Tells the conductor what the local runner tells of steps."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def started(self, step: str, log: Path) -> None:
        self._conductor.pod_runs()

    def cached(self, step: str, outputs: kfp_runner.StepOutputs) -> None:
        self._conductor.step_cached()

    def done(self, step: str, outputs: kfp_runner.StepOutputs) -> None:
        pass

    def failed(self, step: str, reason: str, log: Path) -> None:
        pass

    def interrupted(self, step: str) -> None:
        pass


def conduct(conductor: Conductor) -> None:
    """Let the conductor take part in kfp's local runner, for the rest of this process."""

    def replace(module: Any, name: str, replacement: Callable[..., Any]) -> None:
        original = getattr(module, name)
        setattr(module, name, lambda *args, **given: replacement(original, *args, **given))

    replace(dag_orchestrator, "run_dag", conductor.run_dag)
    replace(enhanced_dag_orchestrator, "run_enhanced_dag", conductor.run_dag)
    replace(enhanced_dag_orchestrator, "execute_task", conductor.run_task)
    replace(enhanced_dag_orchestrator, "_run_parallel_for_task", conductor.run_loop)
    replace(task_executor, "execute_single_task", conductor.run_step)
    replace(task_dispatcher, "run_single_task_implementation", conductor.run_pod)
    replace(importer_handler, "get_importer_uri", conductor.importer_uri)
    evaluator = enhanced_dag_orchestrator.ConditionEvaluator
    evaluate = evaluator.evaluate_condition
    evaluator.evaluate_condition = staticmethod(lambda *given: conductor.evaluate_condition(evaluate, *given))
    executor_input_utils.construct_local_task_root = conductor.task_root
    executor_input_utils.get_local_pipeline_resource_name = lambda name: conductor.workflow.name
    # Kubeflow does not look whether what the cache names is still there.
    kfp_cache._is_remote_uri = lambda uri: True
    # A run that is terminated waits for no retry.
    task_executor.time = types.SimpleNamespace(sleep=conductor.terminating.wait, time=time.time)
    PodTaskHandler.conductor = TaskCache.conductor = conductor
    vars(kfp_runner).update(EnvironmentTaskHandler=PodTaskHandler, ObservedCache=TaskCache)


def main(folder: Path) -> None:
    """Run an order to its end."""
    order, status_file = Order.read(folder), folder / "workflow.json"
    specification = components.load_component_from_file(order.pipeline).pipeline_spec
    # There is one already where it is retried.
    is_retried = status_file.exists()
    workflow = Workflow.read(status_file) if is_retried else Workflow(order.workflow, status_file, order.clock_offset)
    logs, scratch = folder / "logs", folder / "scratch"
    for place in (logs, scratch, folder / "outputs"):
        place.mkdir(exist_ok=True)
    conductor = Conductor(order, specification, workflow, folder)
    conduct(conductor)
    # Held back until now, when there is something to terminate.
    signal.signal(signal.SIGTERM, lambda number, frame: conductor.terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    session = kfp_runner.Session(
        observer=PodObserver(conductor), logs=logs, scratch=scratch, code=folder / "code", variables={}
    )
    conductor.run(
        lambda: kfp_runner.run_pipeline(
            Path(order.pipeline),
            order.arguments,
            session=session,
            artifacts=Path(place_of(order.pipeline_root, order.objects)),
            cache_root=Path(order.cache),
            kfp_log=folder / "runner.log",
        )
    )
