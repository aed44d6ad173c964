"""Execution of runs: a process for each, found again by whoever has the state next."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from kfp_lifecycle.compilation.workflow_size import stored_bytes, submitted_bytes
from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.errors import internal
from tests.control_planes.kubeflow.fork_server import RUN_PROCESS, fork_server
from tests.control_planes.kubeflow.order import Order
from tests.control_planes.kubeflow.specification import Template
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.kubeflow.workflow import FINAL, Phase, Workflow

# Of which Kubernetes makes the ends of names.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def generated_name(beginning: str) -> str:
    """A name that Kubernetes makes up."""
    return f"{beginning}-{''.join(random.choices(ALPHABET, k=5))}"


class Execution:
    """Starts, finds and ends the processes of runs.

    Args:
        plane: What all parts of the control plane share.
        module: Whose `main` a run's process is.
    """

    def __init__(self, plane: ControlPlane, module: str = RUN_PROCESS) -> None:
        self._plane, self._module = plane, module

    def start(self, run: Document) -> None:
        """Begin a run that was created, or go on with one whose workflow was made ready for it.

        Raises:
            ApiError: its workflow is larger than what Kubernetes takes.
        """
        template, folder = Template.parse(run["text"]), self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        pipeline = folder / "pipeline.yaml"
        pipeline.write_text(template.text(), "utf-8")
        containers = _kubernetes_of(template)
        Order(
            run_id=run["id"],
            workflow=run["workflow"],
            pipeline=str(pipeline),
            arguments=run["arguments"],
            pipeline_root=run["pipeline_root"] or self._plane.settings.pipeline_root,
            objects=str(self._plane.objects),
            cache=str(self._plane.folder / "cache" / (run["namespace"] or "kubeflow") / template.name),
            claims={label: _claims(settings) for label, settings in containers.items()},
            variables={label: self._variables(settings) for label, settings in containers.items()},
            templates={label: _template_prefix(settings) for label, settings in containers.items()},
            steps_that_fit=self._room(template),
            clock_offset=self._plane.clock.offset,
        ).write(folder)
        number = fork_server(self._module).start(folder)
        run["process"] = [number, psutil.Process(number).create_time()]

    def workflow(self, run: Document) -> Workflow | None:
        """A run's workflow as it stands; None before it has any node. One whose process is gone ends in Error."""
        if run["abandoned"]:
            return None
        file = self._folder(run) / "workflow.json"
        alive = self._process(run) is not None
        if not file.exists() and alive:
            return None
        workflow = Workflow.read(file) if file.exists() else Workflow(run["workflow"], file)
        if workflow.phase is Phase.running and not alive:
            for name, node in workflow.nodes.items():
                if node.phase not in FINAL:
                    workflow.mark(name, Phase.error)
            workflow.end(Phase.error, "pod deleted")
        return workflow

    def make_ready_to_retry(self, run: Document) -> None:
        """Take what failed out of a workflow; what succeeded stays, an exit handler that ran too."""
        workflow = self.workflow(run)
        assert workflow is not None
        failed = {name for name, node in workflow.nodes.items() if node.phase not in (Phase.succeeded, Phase.skipped)}
        groups = {name for name in failed if any(f"{name}." in other or f"{name}(0)." in other for other in failed)}
        groups |= {name for name in failed if any(other.startswith(f"{name}.") for other in workflow.nodes)}
        groups |= {name.removesuffix("(0)") for name in groups}
        workflow.drop(failed - groups)
        for name in groups & failed:
            workflow.nodes[name].phase, workflow.nodes[name].finished_at = Phase.running, 0.0
        workflow.phase, workflow.message, workflow.finished_at = Phase.running, "", 0.0
        workflow.write()

    def log(self, run: Document, pod: str) -> Path | None:
        """The log of a pod of a run; None where it has no such pod."""
        workflow = self.workflow(run)
        if workflow is None or pod not in {workflow.pod_of(name) for name in workflow.nodes}:
            return None
        return self._folder(run) / "logs" / f"{pod}.log"

    def terminate(self, run: Document) -> None:
        """Let a run end: its exit handlers run, nothing else is begun."""
        process = self._process(run)
        if process is not None:
            process.terminate()

    def kill(self, run: Document) -> None:
        """End a run's process and its steps at once, as Kubernetes does with the pods of a workflow that is deleted."""
        process = self._process(run)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for step in process.children():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(step.pid, signal.SIGKILL)
                process.kill()
                process.wait(10)

    def _process(self, run: Document) -> psutil.Process | None:
        """A run's process, None where it is gone."""
        number, started = run["process"]
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _folder(self, run: Document) -> Path:
        return self._plane.folder / "runs" / str(run["id"])

    def _room(self, template: Template) -> int | None:
        """How many steps the workflow has room for, None for all."""
        limit = self._plane.settings.max_workflow_bytes
        pods = _kubernetes_of(template)
        submitted, stored = submitted_bytes(template.pipeline, pods), stored_bytes(template.pipeline, pods)
        if submitted > limit:
            raise internal(
                f"Failed to create a workflow for ({template.name}-)", f"etcdserver: request is too large: {submitted}"
            )
        if stored <= limit:
            return None
        components = template.pipeline["components"]
        dags = [part["dag"] for part in (template.pipeline["root"], *components.values()) if "dag" in part]
        steps = sum(
            "dag" not in components[task["componentRef"]["name"]] for dag in dags for task in dag["tasks"].values()
        )
        return int(steps * (limit - submitted) / (stored - submitted))

    def _variables(self, settings: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for use in settings.get("secretAsEnv", []):
            name = use.get("secretName") or use["secretNameParameter"]["runtimeValue"]["constant"]
            for pair in use["keyToEnv"]:
                found[pair["envVar"]] = self._plane.settings.secrets.get(name, {}).get(pair["secretKey"], "")
        return found


def _kubernetes_of(template: Template) -> dict[str, dict[str, Any]]:
    """What a template says of the pods of each executor."""
    kubernetes = template.platform.get("platforms", {}).get("kubernetes", {})
    executors: dict[str, dict[str, Any]] = kubernetes.get("deploymentSpec", {}).get("executors", {})
    return executors


def _template_prefix(settings: Mapping[str, Any]) -> str:
    """Kubeflow's compiler has templates of their own for each number of annotations and labels."""
    metadata = settings.get("podMetadata")
    if metadata is None:
        return ""
    return f"metadata-{len(metadata.get('annotations', {}))}-{len(metadata.get('labels', {}))}-"


def _claims(settings: Mapping[str, Any]) -> list[str]:
    mounts = settings.get("pvcMount", [])
    return [mount.get("constant") or mount["pvcNameParameter"]["runtimeValue"]["constant"] for mount in mounts]
