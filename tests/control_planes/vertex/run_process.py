"""Process of one run: as that of a run on the Kubeflow stand-in, where Vertex AI is not otherwise.

Its workflow is Argo's there too: `tasks.py` makes of it what Vertex AI tells.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

from kfp.local import status

from tests.control_planes.kubeflow import run_process as kubeflow

RESOURCE, TERMINATION = "resource", "termination"


class VertexConductor(kubeflow.Conductor):
    """Leads the local runner through a pipeline."""

    def _unresolvable(self, scope: kubeflow.Scope, task: Any) -> str:
        """Nothing: an importer is looked for under the name that it is filed under."""
        return ""


class JobTaskHandler(kubeflow.PodTaskHandler):
    """Runs a container's command as a custom job's process."""

    resource: ClassVar[str]
    """The run's resource name."""

    def run(self) -> status.Status:
        """Run the job, with a place for its last words."""
        words = self.session.logs / f"{self._pod()}.{TERMINATION}"
        self.env_vars = {**self.env_vars, "TERMINATION_LOG": str(words)}
        outcome: status.Status = super().run()
        return outcome

    def _with_failure(self, executor_input: dict[str, Any]) -> dict[str, Any]:
        """Tell an exit handler of the run's end as Vertex AI does: with the tasks that failed."""
        parameters = executor_input.get("inputs", {}).get("parameterValues", {})
        for name, value in parameters.items():
            if isinstance(value, dict) and "pipeline_task_name" in value:
                failed = value["state"] == "FAILED"
                words = "The DAG failed because some tasks failed."
                parameters[name] = {
                    "state": "FAILED" if failed else "SUCCEEDED",
                    "pipelineJobResourceName": self.resource,
                    "pipelineTaskName": value["pipeline_task_name"],
                    "error": {"code": 9, "message": words} if failed else {},
                }
        return executor_input


class VariableCache(kubeflow.TaskCache):
    """Vertex AI's cache of steps, which counts the variables of a container too."""

    def compute_key(self, component_name: str, *args: Any, **kwargs: Any) -> str:
        """The fingerprint of a step."""
        key = super().compute_key(component_name, *args, **kwargs)
        label = self.conductor.specification.components[component_name].executor_label
        container = self.conductor.specification.deployment_spec["executors"][label]["container"]
        variables = [dict(item) for item in container["env"]] if "env" in container else []
        fingerprint = hashlib.sha256(json.dumps([key, variables], sort_keys=True).encode()).hexdigest()
        self._steps[fingerprint] = component_name
        return fingerprint


def main(folder: Path) -> None:
    """Run an order to its end."""
    JobTaskHandler.resource = (folder / RESOURCE).read_text("utf-8")
    vars(kubeflow).update(Conductor=VertexConductor, PodTaskHandler=JobTaskHandler, TaskCache=VariableCache)
    kubeflow.main(folder)
