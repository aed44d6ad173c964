"""Recurring runs, and the controller that begins their runs when they are due."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.control_planes.kubeflow.control_plane import (
    ControlPlane,
    new_id,
    refuse_unknown,
    seconds_of,
    timestamp,
    without_empty,
)
from tests.control_planes.kubeflow.errors import ApiError, internal, invalid, not_found
from tests.control_planes.kubeflow.execution import generated_name
from tests.control_planes.kubeflow.experiments import Experiments
from tests.control_planes.kubeflow.listing import page
from tests.control_planes.kubeflow.pipelines import Pipelines
from tests.control_planes.kubeflow.runs import Runs, arguments_of, source_of
from tests.control_planes.kubeflow.schedules import Cron, Trigger
from tests.control_planes.kubeflow.specification import Template
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.kubeflow.workflow import fnv_1a

FIELDS = {
    "id": "id",
    "recurring_run_id": "id",
    "name": "display_name",
    "display_name": "display_name",
    "created_at": "created",
    "updated_at": "updated",
    "description": "description",
}
KNOWN = {
    "recurring_run_id",
    "display_name",
    "description",
    "pipeline_version_id",
    "pipeline_spec",
    "pipeline_version_reference",
    "runtime_config",
    "service_account",
    "max_concurrency",
    "trigger",
    "mode",
    "created_at",
    "updated_at",
    "status",
    "error",
    "no_catchup",
    "namespace",
    "experiment_id",
    "plugins_input",
}
FAILED = "Failed to create a recurring run"


class RecurringRuns:
    """The service of recurring runs."""

    def __init__(self, plane: ControlPlane, experiments: Experiments, pipelines: Pipelines, runs: Runs) -> None:
        self._plane, self._state, self._experiments = plane, plane.state, experiments
        self._pipelines, self._runs = pipelines, runs

    def create(self, body: Mapping[str, Any]) -> Document:
        """A new recurring run. There is no limit to how many have one name."""
        refuse_unknown(body, KNOWN)
        conversion = "Failed to create a recurring run due to conversion error"
        name = body.get("display_name", "")
        if not name:
            raise internal(
                "Failed to convert a API recurring run to its internal representation",
                "Invalid input error: Recurring run's name cannot be empty",
            ).within(conversion)
        concurrency = int(body.get("max_concurrency") or 0)
        if not 1 <= concurrency <= 10:
            raise invalid(
                f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {concurrency}"
            ).within(conversion)
        trigger = _checked(body.get("trigger") or {}, conversion)
        experiment = self._runs.experiment_of(body.get("experiment_id", ""), FAILED, "a recurring run")
        namespace = body.get("namespace", "")
        if namespace and self._plane.settings.multi_user and namespace != experiment["namespace"]:
            raise invalid(
                f"Experiment {experiment['id']} belongs to namespace '{experiment['namespace']}' instead of "
                f"'{namespace}'"
            ).within(FAILED)
        self._plane.authorize("create", "jobs", experiment["namespace"], name)
        reference = body.get("pipeline_version_reference") or {}
        try:
            template, pipeline, version = source_of(self._plane, self._pipelines, body)
        except ApiError as error:
            raise internal(
                "Failed to create a recurring run with an invalid pipeline spec manifest", error.message
            ).within(FAILED) from error
        arguments = arguments_of(self._plane, body)
        try:
            template.check_arguments(arguments)
        except ApiError as error:
            raise error.within(
                FAILED,
                "Failed to create a recurring run during scheduled workflow creation",
                "invalid pipeline job inputs",
            ) from error
        now = self._plane.seconds()
        pinned = "pipeline_version_id" in reference or "pipeline_spec" in body
        recurring = {
            "id": new_id(),
            "display_name": name,
            "description": body.get("description", ""),
            "experiment_id": experiment["id"],
            "namespace": experiment["namespace"] or self._plane.settings.system_namespace,
            "pipeline_id": pipeline,
            # Without one, each run takes the pipeline's newest.
            "version_id": version if pinned else "",
            "text": template.text() if pinned else "",
            "arguments": arguments,
            "pipeline_root": (body.get("runtime_config") or {}).get("pipeline_root", ""),
            "service_account": body.get("service_account", "") or "pipeline-runner",
            "max_concurrency": concurrency,
            "no_catchup": bool(body.get("no_catchup")),
            "enabled": body.get("mode") == "ENABLE",
            "trigger": trigger,
            "created": now,
            "updated": now,
            "resource": generated_name(_resource_name(name)),
            "last": None,
            "index": 0,
        }
        self._state.save("recurring_runs", recurring)
        self.tick()
        return self._answer(recurring)

    def get(self, identity: str) -> Document:
        """A recurring run."""
        return self._answer(self._authorized("get", identity, "Failed to fetch a recurring run"))

    def listed(self, query: Mapping[str, str]) -> Document:
        """A page of the recurring runs of an experiment or a namespace."""
        experiment, namespace = query.get("experiment_id", ""), query.get("namespace", "")
        if experiment:
            namespace = self._experiments.find(experiment)["namespace"]
        self._plane.authorize("list", "jobs", self._plane.kept_namespace(namespace))
        known = [
            item
            for item in self._state.all("recurring_runs")
            if experiment in ("", item["experiment_id"])
            and (not self._plane.settings.multi_user or item["namespace"] == namespace)
        ]
        found, total, token = page("Job", known, "id", FIELDS, query)
        answers = [self._answer(item) for item in found]
        return without_empty({"recurringRuns": answers, "total_size": total, "next_page_token": token})

    def enable(self, identity: str, enabled: bool) -> Document:
        """Switch a recurring run on or off; what is under way goes on."""
        verb = "enable" if enabled else "disable"
        recurring = self._authorized(verb, identity, f"Failed to {verb} a recurring run")
        recurring["enabled"], recurring["updated"] = enabled, self._plane.seconds()
        self._state.save("recurring_runs", recurring)
        self.tick()
        return {}

    def delete(self, identity: str, query: Mapping[str, str]) -> Document:
        """Forget a recurring run. Its workflows go with it, those under way too, unless they are to be orphans."""
        self._authorized("delete", identity, "Failed to delete a recurring run")
        with self._state.lock:
            self._state.delete("recurring_runs", identity)
            if query.get("propagation_policy", "") != "ORPHAN":
                for run in self._state.all("runs"):
                    if run["recurring_run_id"] == identity:
                        self._runs.abandon(run)
        return {}

    def tick(self) -> None:
        """Begin every run that is due."""
        with self._state.lock:
            for recurring in self._state.all("recurring_runs"):
                while self._begin_due(recurring):
                    pass

    def _begin_due(self, recurring: Document) -> bool:
        now = self._plane.clock.now()
        due = _trigger(recurring).next(recurring["last"], recurring["created"], now)
        mine = [run for run in self._state.all("runs") if run["recurring_run_id"] == recurring["id"]]
        if not recurring["enabled"] or due > now:
            return False
        if sum(map(self._runs.is_active, mine)) >= recurring["max_concurrency"]:
            return False
        index = recurring["index"] + 1
        name = f"{recurring['resource']}-{index}"
        name = f"{name}-{fnv_1a(name)}"
        text, version = recurring["text"], recurring["version_id"]
        if not text:
            latest = self._pipelines.latest_version(recurring["pipeline_id"])
            text, version = latest["text"], latest["id"]
        self._runs.new(
            self._experiments.find(recurring["experiment_id"]),
            display_name=name,
            text=text,
            pipeline=(recurring["pipeline_id"], version),
            arguments=recurring["arguments"],
            pipeline_root=recurring["pipeline_root"],
            service_account=recurring["service_account"],
            recurring_run=recurring["id"],
            workflow=name,
            scheduled=due,
            index=index,
        )
        recurring["last"], recurring["index"] = due, index
        self._state.save("recurring_runs", recurring)
        return True

    def _authorized(self, verb: str, identity: str, doing: str) -> Document:
        recurring = self._state.get("recurring_runs", identity)
        if recurring is None:
            raise not_found("Job", identity).within(doing)
        try:
            self._plane.authorize(verb, "jobs", recurring["namespace"], recurring["resource"])
        except ApiError as error:
            raise error.within(doing, "Failed to authorize the request") from error
        return recurring

    @staticmethod
    def _answer(recurring: Document) -> Document:
        source: Document = {}
        if recurring["pipeline_id"]:
            source["pipeline_version_reference"] = without_empty(
                {"pipeline_id": recurring["pipeline_id"], "pipeline_version_id": recurring["version_id"]}
            )
        elif recurring["text"]:
            source["pipeline_spec"] = Template.parse(recurring["text"]).as_struct()
        written = recurring["trigger"]
        moments = {name: timestamp(written[name]) for name in ("start_time", "end_time") if name in written}
        if "cron" in written:
            trigger: Document = {"cron_schedule": {**moments, "cron": written["cron"]}}
        elif "interval_second" in written:
            trigger = {"periodic_schedule": {**moments, "interval_second": str(written["interval_second"])}}
        else:
            trigger = {}
        return without_empty(
            {
                "recurring_run_id": recurring["id"],
                "display_name": recurring["display_name"],
                "description": recurring["description"],
                **source,
                "runtime_config": without_empty(
                    {"parameters": recurring["arguments"], "pipeline_root": recurring["pipeline_root"]}
                ),
                "service_account": recurring["service_account"],
                "max_concurrency": str(recurring["max_concurrency"]),
                "trigger": trigger,
                "mode": "ENABLE" if recurring["enabled"] else "DISABLE",
                "created_at": timestamp(recurring["created"]),
                "updated_at": timestamp(recurring["updated"]),
                "status": "ENABLED" if recurring["enabled"] else "DISABLED",
                "no_catchup": recurring["no_catchup"],
                "namespace": recurring["namespace"],
                "experiment_id": recurring["experiment_id"],
            }
        )


def _checked(written: Mapping[str, Any], conversion: str) -> Document:
    """A trigger as it is kept."""
    schedule = written.get("cron_schedule") or written.get("periodic_schedule") or {}
    kept: Document = {name: seconds_of(schedule[name]) for name in ("start_time", "end_time") if schedule.get(name)}
    if "cron_schedule" in written:
        try:
            Cron.parse(schedule.get("cron", ""))
        except ValueError as error:
            raise invalid(
                f"Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: {error}"
            ).within(conversion) from error
        kept["cron"] = schedule["cron"]
    elif "periodic_schedule" in written:
        kept["interval_second"] = int(schedule.get("interval_second") or 0)
        if kept["interval_second"] < 1:
            raise invalid(
                f"Found invalid period schedule interval {kept['interval_second']}. Set at interval to least 1 second"
            ).within(conversion)
    return kept


def _trigger(recurring: Document) -> Trigger:
    written = recurring["trigger"]
    return Trigger(
        Cron.parse(written["cron"]) if "cron" in written else None,
        # A recurring run without a trigger happens once.
        written.get("interval_second", 0) or float("inf"),
        written.get("start_time"),
        written.get("end_time"),
        catch_up=not recurring["no_catchup"],
    )


def _resource_name(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "", name.lower())[:25] or "job-"
