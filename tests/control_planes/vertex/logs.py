"""Cloud Logging, as far as the logs of jobs need it: each line that a step has written is an entry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import invalid
from tests.control_planes.vertex.jobs import Jobs
from tests.control_planes.vertex.tasks import job_number, moment, pods_of

_COMPARISON = re.compile(r'(?P<field>[a-zA-Z._]+)(?P<operator>>=|=)"(?P<value>[^"]*)"')


class Entries:
    """The service of log entries."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.most = 1000
        """The entries that an answer has at most."""

    def listed(self, body: Mapping[str, Any]) -> Document:
        """A page of the entries that a filter lets through."""
        if not body.get("resourceNames"):
            raise invalid("At least one resource name is required.")
        if body.get("orderBy", "timestamp asc") != "timestamp asc":
            raise invalid(f"Unknown order_by: {body['orderBy']}")
        found = [entry for entry in self._all() if _holds(entry, str(body.get("filter", "")))]
        found.sort(key=lambda entry: (entry["timestamp"], entry["insertId"]))
        begin, size = int(body.get("pageToken") or 0), min(int(body.get("pageSize", 50)), self.most)
        answer: Document = {"entries": found[begin : begin + size]}
        return {**answer, "nextPageToken": str(begin + size)} if begin + size < len(found) else answer

    def _all(self) -> Iterator[Document]:
        for run, workflow, folder in self._jobs.executed():
            for pod in pods_of(workflow):
                log: Path = folder / "logs" / f"{workflow.pod_of(pod)}.log"
                lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
                for number, line in enumerate(lines):
                    yield {
                        "logName": f"{run['parent'].rpartition('/locations')[0]}/logs/workerpool0-0",
                        "resource": {"type": "ml_job", "labels": {"job_id": str(job_number(run, pod))}},
                        "insertId": f"{job_number(run, pod)}-{number:06d}",
                        "timestamp": moment(workflow.nodes[pod].started_at + number / 1000),
                        "severity": "INFO",
                        # What a container writes comes as text or, where it is structured, as JSON.
                        **({"textPayload": line} if number % 2 else {"jsonPayload": {"message": line}}),
                    }


def _holds(entry: Document, text: str) -> bool:
    for part in filter(None, re.split(r"\s+AND\s+", text)):
        found = _COMPARISON.fullmatch(part)
        if found is None:
            raise invalid(f"Unparseable filter: {part}")
        value: Any = entry
        for name in found["field"].split("."):
            value = value.get(name, {})
        if value != found["value"] and not (found["operator"] == ">=" and value >= found["value"]):
            return False
    return True
