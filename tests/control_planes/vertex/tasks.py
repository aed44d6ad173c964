"""Task details of a run: what Vertex AI tells of it, made of the workflow that it ran as."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.control_planes.kubeflow.state import Document
from tests.control_planes.kubeflow.workflow import FINAL, Node, Phase, Workflow, fnv_1a
from tests.control_planes.vertex.run_process import TERMINATION

# What Argo has and Vertex AI has not.
_NOT_TASKS = re.compile(r"(.*-driver|executor|onExit|iteration|iteration-item|iteration-iterations)$")
_ATTEMPT = re.compile(r"\(\d+(:\d+)?\)")
# Of the end of a log that becomes a job's last words where it left none.
LAST_BYTES = 2048
STATES = {
    Phase.pending: "PENDING",
    Phase.running: "RUNNING",
    Phase.succeeded: "SUCCEEDED",
    Phase.failed: "FAILED",
    Phase.error: "FAILED",
    Phase.skipped: "NOT_TRIGGERED",
}


def task_details(run: Document, workflow: Workflow, folder: Path, objects: Path, parent: str) -> list[Document]:
    """A run's tasks: one for each that was begun or whose condition did not hold.

    Args:
        run: The run.
        workflow: As it ran.
        folder: Where the run keeps logs and outputs.
        objects: Folder that stands for Cloud Storage.
        parent: Project and location.
    """
    numbers = {path: fnv_1a(f"{run['id']}/{path}") for path, _, _ in _tasks(workflow)}
    return [_detail(run, workflow, folder, objects, parent, numbers, task) for task in _tasks(workflow)]


def failed_tasks(details: list[Document]) -> list[str]:
    """Names of the tasks that failed."""
    return [detail["taskName"] for detail in details if detail["state"] == "FAILED"]


def _tasks(workflow: Workflow) -> Iterator[tuple[str, str, Node]]:
    """Unique name of each task, the full name of its node, and the node."""
    beginning = f"{workflow.name}(0).root(0)."
    for name, node in list(workflow.nodes.items()):
        parts = name.removeprefix(beginning).split(".")
        if not name.startswith(beginning) or name.endswith(")") or node.phase is Phase.omitted:
            continue
        if _NOT_TASKS.match(parts[-1]):
            continue
        if "onExit(0)" in parts:
            # A hook of the group that it follows, for Argo; a task beside it for Vertex AI.
            del parts[parts.index("onExit(0)") - 1]
        above = [_ATTEMPT.sub("", part) for part in parts]
        yield ".".join(part for part in above if not _NOT_TASKS.match(part)), name, node


def _detail(
    run: Document,
    workflow: Workflow,
    folder: Path,
    objects: Path,
    parent: str,
    numbers: dict[str, int],
    task: tuple[str, str, Node],
) -> Document:
    path, name, node = task
    executor = workflow.nodes.get(f"{name}(0).executor")
    pods = _pods(workflow, f"{name}(0).executor")
    state = STATES[node.phase]
    if executor is not None and executor.phase is Phase.skipped and not pods:
        state = "SKIPPED"
    elif state == "RUNNING" and pods and workflow.nodes[pods[-1]].phase is Phase.pending:
        state = "PENDING"
    if state == "FAILED" and run["cancelled"] and node.finished_at >= run["cancelled"]:
        state = "CANCELLED"
    detail: Document = {
        "taskId": str(numbers[path]),
        "taskName": path.rpartition(".")[2],
        "taskUniqueName": path,
        "createTime": moment(node.started_at),
        "startTime": moment(node.started_at),
        "state": state,
        **({"endTime": moment(node.finished_at)} if node.phase in FINAL else {}),
    }
    if above := path.rpartition(".")[0]:
        detail["parentTaskId"] = str(numbers[above])
    if pods:
        jobs = [f"{parent}/customJobs/{job_number(run, pod)}" for pod in pods]
        detail["executorDetail"] = {"containerDetail": {"mainJob": jobs[-1], "failedMainJobs": jobs[:-1]}}
    if state == "FAILED":
        words = _last_words(folder, workflow.pod_of(pods[-1])) if pods else ""
        detail["error"] = {"code": 9, "message": _error(words, detail) if pods else "The DAG failed."}
    kept = folder / "outputs" / f"{fnv_1a(name)}.json"
    if kept.exists():
        outputs = json.loads(kept.read_text("utf-8"))
        artifacts = {key: _artifacts(value) for key, value in outputs.items()}
        detail["outputs"] = {
            key: {"artifacts": [_artifact(item, objects) for item in items]}
            for key, items in artifacts.items()
            if items
        }
        detail["execution"] = {
            "metadata": {f"output:{key}": value for key, value in outputs.items() if not artifacts[key]}
        }
    return detail


def _pods(workflow: Workflow, executor: str) -> list[str]:
    """Full names of the nodes of a step's attempts."""
    return [name for name in workflow.nodes if re.fullmatch(re.escape(executor) + r"\(\d+\)", name)]


def pods_of(workflow: Workflow) -> list[str]:
    """Full names of the nodes of all attempts of all steps."""
    return [name for name in workflow.nodes if re.fullmatch(r".*\.executor\(\d+\)", name)]


def job_number(run: Document, pod: str) -> int:
    """The number of the custom job that an attempt of a step runs as."""
    return 10**18 + fnv_1a(run["id"] + pod)


def _last_words(folder: Path, pod: str) -> str:
    left, log = folder / "logs" / f"{pod}.{TERMINATION}", folder / "logs" / f"{pod}.log"
    if left.exists():
        return left.read_text("utf-8", "replace")
    return log.read_bytes()[-LAST_BYTES:].decode("utf-8", "replace") if log.exists() else ""


def _error(words: str, detail: Document) -> str:
    job = detail["executorDetail"]["containerDetail"]["mainJob"].rpartition("/")[2]
    return (
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. "
        f"\n{words}\nTo find out more about why your job exited please check the logs: "
        f"https://console.cloud.google.com/logs/viewer?resource=ml_job%2Fjob_id%2F{job}"
    )


def _artifacts(value: Any) -> list[Document]:
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("artifacts"), list) and len(value) == 2:
        return list(value["artifacts"])
    return [value] if "schema_title" in value and "uri" in value else []


def _artifact(item: Document, objects: Path) -> Document:
    uri = str(item["uri"])
    return {
        "displayName": item["name"],
        "uri": f"gs://{uri.removeprefix(f'{objects}/')}" if uri.startswith(f"{objects}/") else uri,
        "schemaTitle": item["schema_title"],
        "schemaVersion": item["schema_version"],
        "metadata": item["metadata"],
    }


def moment(seconds: float) -> str:
    """A moment as answers write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
