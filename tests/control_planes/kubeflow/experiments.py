"""Experiments: groups of runs, one of a name in each namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.control_planes.kubeflow.control_plane import (
    ControlPlane,
    new_id,
    refuse_unknown,
    timestamp,
    without_empty,
)
from tests.control_planes.kubeflow.errors import ApiError, Code, internal, not_found
from tests.control_planes.kubeflow.listing import page
from tests.control_planes.kubeflow.specification import check_length
from tests.control_planes.kubeflow.state import Document

DEFAULT = "Default"
FIELDS = {
    "id": "id",
    "experiment_id": "id",
    "name": "name",
    "display_name": "name",
    "created_at": "created",
    "last_run_created_at": "last_run",
    "description": "description",
    "namespace": "namespace",
    "storage_state": "storage_state",
}
KNOWN = {
    "experiment_id",
    "display_name",
    "description",
    "created_at",
    "namespace",
    "storage_state",
    "last_run_created_at",
}


class Experiments:
    """The service of experiments."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._state = plane, plane.state

    def create(self, body: Mapping[str, Any]) -> Document:
        """A new experiment; a name that is taken is refused."""
        refuse_unknown(body, KNOWN)
        name, namespace = body.get("display_name", ""), self._plane.kept_namespace(body.get("namespace", ""))
        if not name:
            raise internal(
                "Failed to convert API experiment to model experiment",
                "Invalid input error: Experiment must have a non-empty name",
            ).within("[ExperimentServer]: Failed to create a experiment due to conversion error")
        for field, value in (("Experiment.Name", name), ("Experiment.Namespace", namespace)):
            try:
                check_length(field, value)
            except ApiError as error:
                raise internal("Failed to convert API experiment to model experiment", error.message).within(
                    "[ExperimentServer]: Failed to create a experiment due to conversion error"
                ) from error
        self._plane.authorize("create", "experiments", namespace, name)
        return self._answer(self._create(name, namespace, body.get("description", "")))

    def _create(self, name: str, namespace: str, description: str = "") -> Document:
        with self._state.lock:
            if self._named(name, namespace):
                raise ApiError(
                    Code.already_exists,
                    f"Failed to create a new experiment. The name {name} already exists. Please specify a new name",
                ).within("Failed to create a experiment")
            experiment = {
                "id": new_id(),
                "name": name,
                "namespace": namespace,
                "description": description,
                "created": self._plane.seconds(),
                "last_run": 0,
                "storage_state": "AVAILABLE",
            }
            self._state.save("experiments", experiment)
            return experiment

    def default(self, namespace: str) -> Document:
        """The experiment of runs that name none."""
        with self._state.lock:
            return self._named(DEFAULT, namespace) or self._create(
                DEFAULT, namespace, "All runs created without specifying an experiment will be grouped here."
            )

    def find(self, identity: str) -> Document:
        """An experiment by its ID."""
        experiment = self._state.get("experiments", identity)
        if experiment is None:
            raise not_found("Experiment", identity)
        return experiment

    def get(self, identity: str) -> Document:
        """An experiment, for who may see it."""
        return self._answer(self._authorized("get", identity))

    def listed(self, query: Mapping[str, str]) -> Document:
        """A page of the experiments of a namespace."""
        namespace = self._plane.kept_namespace(query.get("namespace", ""))
        self._plane.authorize("list", "experiments", namespace)
        known = [item for item in self._state.all("experiments") if item["namespace"] == namespace]
        found, total, token = page("Experiment", known, "id", FIELDS, query)
        return without_empty(
            {
                "experiments": [self._answer(item) for item in found],
                "total_size": total,
                "next_page_token": token,
            }
        )

    def archive(self, identity: str) -> Document:
        """Put an experiment away, with its runs; its recurring runs are switched off."""
        experiment = self._authorized("archive", identity)
        with self._state.lock:
            experiment["storage_state"] = "ARCHIVED"
            self._state.save("experiments", experiment)
            for run in self._state.all("runs"):
                if run["experiment_id"] == identity:
                    run["storage_state"] = "ARCHIVED"
                    self._state.save("runs", run)
            for recurring in self._state.all("recurring_runs"):
                if recurring["experiment_id"] == identity:
                    recurring["enabled"] = False
                    self._state.save("recurring_runs", recurring)
        return {}

    def unarchive(self, identity: str) -> Document:
        """Bring an experiment back; its runs stay where they are."""
        experiment = self._authorized("unarchive", identity)
        experiment["storage_state"] = "AVAILABLE"
        self._state.save("experiments", experiment)
        return {}

    def delete(self, identity: str) -> Document:
        """Forget an experiment."""
        self._authorized("delete", identity)
        self._state.delete("experiments", identity)
        return {}

    def _named(self, name: str, namespace: str) -> Document | None:
        every = self._state.all("experiments")
        return next((item for item in every if (item["name"], item["namespace"]) == (name, namespace)), None)

    def _authorized(self, verb: str, identity: str) -> Document:
        experiment = self.find(identity)
        self._plane.authorize(verb, "experiments", experiment["namespace"], experiment["name"])
        return experiment

    @staticmethod
    def _answer(experiment: Document) -> Document:
        return without_empty(
            {
                "experiment_id": experiment["id"],
                "display_name": experiment["name"],
                "description": experiment["description"],
                "created_at": timestamp(experiment["created"]),
                "namespace": experiment["namespace"],
                "storage_state": experiment["storage_state"],
                "last_run_created_at": timestamp(experiment["last_run"]),
            }
        )
