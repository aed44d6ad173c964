"""Schedules: created, read, listed, paused, resumed, deleted, and the jobs that they start when they are due."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.cloud import aiplatform_v1beta1
from google.protobuf import json_format

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.errors import Code
from tests.control_planes.kubeflow.schedules import NEVER, Cron, Trigger
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import GoogleError, invalid, not_found
from tests.control_planes.vertex.filters import page
from tests.control_planes.vertex.jobs import Jobs, checked
from tests.control_planes.vertex.tasks import moment

KIND = "recurring_runs"
FIELDS = {
    "display_name": lambda schedule: schedule["displayName"],
    "state": lambda schedule: schedule["state"],
}


class Schedules:
    """The service of schedules."""

    def __init__(self, plane: ControlPlane, jobs: Jobs) -> None:
        self._plane, self._state, self._jobs = plane, plane.state, jobs

    def create(self, parent: str, body: Mapping[str, Any]) -> Document:
        """A new schedule. There is no limit to how many have one name."""
        written = _checked(parent, body)
        identity = str(random.randrange(10**18, 10**19))
        schedule = {
            "id": identity,
            "name": f"{parent}/schedules/{identity}",
            "parent": parent,
            "schedule": written,
            "state": "ACTIVE",
            "created": self._plane.clock.now(),
            "last": None,
            "started": 0,
        }
        self._state.save(KIND, schedule)
        return self._answer(schedule)

    def get(self, identity: str) -> Document:
        """A schedule."""
        return self._answer(self._find(identity))

    def listed(self, parent: str, query: Mapping[str, str]) -> Document:
        """A page of the schedules of a location."""
        found = [self._answer(item) for item in self._state.all(KIND) if item["parent"] == parent]
        return page("schedules", found, query, FIELDS)

    def update(self, identity: str, body: Mapping[str, Any], query: Mapping[str, str]) -> Document:
        """Change the fields that the mask names. None becomes empty; what was missed until now stays missed."""
        schedule = self._find(identity)
        paths = [_camel(path) for path in query.get("updateMask", "").split(",") if path]
        if not paths:
            raise invalid("update_mask is required")
        given = _checked(schedule["parent"], {**schedule["schedule"], **body})
        for path in paths:
            if path in schedule["schedule"] and path not in body:
                raise invalid(f"{path} cannot be unset")
        job = given["createPipelineJobRequest"]["pipelineJob"]
        emptied = set(schedule["schedule"]["createPipelineJobRequest"]["pipelineJob"]) - set(job)
        if "createPipelineJobRequest" in paths and emptied:
            raise invalid(f"{', '.join(sorted(emptied))} cannot be unset")
        with self._state.lock:
            schedule["schedule"] |= {path: given[path] for path in paths if path in given}
            schedule["last"] = self._plane.clock.now()
            self._state.save(KIND, schedule)
        return self._answer(schedule)

    def pause(self, identity: str) -> Document:
        """Start nothing more; what is under way goes on."""
        return self._become(identity, "ACTIVE", "PAUSED")

    def resume(self, identity: str, body: Mapping[str, Any]) -> Document:
        """Start jobs again; what was missed only where it is asked for."""
        schedule = self._find(identity)
        answer = self._become(identity, "PAUSED", "ACTIVE")
        if not body.get("catchUp"):
            schedule["last"] = self._plane.clock.now()
            self._state.save(KIND, schedule)
        return answer

    def delete(self, identity: str) -> Document:
        """Forget a schedule; what it started goes on."""
        self._find(identity)
        self._state.delete(KIND, identity)
        return {}

    def tick(self) -> None:
        """Start every job that is due."""
        with self._state.lock:
            for schedule in self._state.all(KIND):
                self._start_due(schedule)

    def _start_due(self, schedule: Document) -> None:
        now, wanted = self._plane.clock.now(), schedule["schedule"]
        due = self._due(schedule)
        if schedule["state"] != "ACTIVE" or due > now:
            return
        # What has no place among those that run is left out, unless it may wait.
        schedule["last"] = due
        limit = int(wanted.get("maxConcurrentActiveRunCount", 0))
        running = sum(map(self._jobs.is_active, self._jobs.of_schedule(schedule["name"])))
        if not limit or running < limit:
            job = wanted["createPipelineJobRequest"]["pipelineJob"]
            self._jobs.create_scheduled(schedule["parent"], job, schedule["name"])
            schedule["started"] += 1
        elif wanted.get("allowQueueing"):
            return
        self._state.save(KIND, schedule)

    def _due(self, schedule: Document) -> float:
        wanted = schedule["schedule"]
        start, end = (
            datetime.fromisoformat(wanted[name]).timestamp() if name in wanted else None
            for name in ("startTime", "endTime")
        )
        trigger = Trigger(_cron(wanted["cron"]), 0.0, start, end, catch_up=False)
        return trigger.next(schedule["last"], schedule["created"], self._plane.clock.now())

    def _become(self, identity: str, before: str, after: str) -> Document:
        schedule = self._find(identity)
        if schedule["state"] != before:
            raise GoogleError(Code.failed_precondition, f"The schedule is {schedule['state']}, and not {before}.")
        schedule["state"] = after
        self._state.save(KIND, schedule)
        return {}

    def _find(self, identity: str) -> Document:
        schedule = self._state.get(KIND, identity)
        if schedule is None:
            raise not_found("Schedule", identity)
        return schedule

    def _answer(self, schedule: Document) -> Document:
        due = self._due(schedule) if schedule["state"] == "ACTIVE" else NEVER
        return {
            **schedule["schedule"],
            "name": schedule["name"],
            "state": schedule["state"],
            "createTime": moment(schedule["created"]),
            "startedRunCount": str(schedule["started"]),
            **({"nextRunTime": moment(due)} if due != NEVER else {}),
        }


def _checked(parent: str, body: Mapping[str, Any]) -> Document:
    """A schedule that can be.

    Raises:
        GoogleError: it cannot.
    """
    message = aiplatform_v1beta1.Schedule.pb(aiplatform_v1beta1.Schedule())
    try:
        json_format.ParseDict(dict(body), message)
    except json_format.ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not 1 <= len(message.display_name) <= 128:
        raise invalid("display_name is required, of no more than 128 characters")
    if message.max_concurrent_run_count < 1:
        raise invalid("max_concurrent_run_count is required")
    if message.create_pipeline_job_request.parent != parent:
        raise invalid("create_pipeline_job_request.parent has to be the schedule's own")
    _cron(message.cron)
    written: Document = json_format.MessageToDict(message)
    checked(written["createPipelineJobRequest"]["pipelineJob"])
    return written


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda match: match[1].upper(), name)


def _cron(written: str) -> Cron:
    """The cron expression of a schedule: five fields, behind a time zone where there is one."""
    expression = written.removeprefix("CRON_")
    zone, fields = "", expression
    if expression.startswith("TZ="):
        zone, _, fields = expression.partition(" ")
    if len(fields.split()) != 5:
        raise invalid(f"Invalid cron: {written}")
    try:
        return Cron.parse(f"{zone} 0 {fields}".strip())
    except ValueError as error:
        raise invalid(f"Invalid cron: {written}. {error}") from error
