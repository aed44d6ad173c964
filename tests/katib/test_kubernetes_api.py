"""An experiment in a real Kubernetes API server, worked on by an account with no more rights than the docs say.

The server knows experiments and trials by Katib's own definitions. What Katib's controllers make of them is the
stand-in's, written into the real server; there are no nodes, so trials run as processes here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow.katib import KatibClient
from kubernetes import client as kubernetes
from test_katib import CRDS, Place, manifest

from kfp_lifecycle.runtime.contract import ContractViolation
from tests.katib.cluster import NAMESPACE, Cluster
from tests.kubernetes_api import ACCOUNT, ADMIN, ApiServer, kubernetes_api, repeated, rights_of_the_docs
from tests.servers import running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CRDS.is_dir(), reason="../shared/crds is not there")]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"
EXPERIMENTS, TRIALS = (("kubeflow.org", "v1beta1", NAMESPACE, plural) for plural in ("experiments", "trials"))


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    for server in running(kubernetes_api()):
        for kind in ("experiments", "trials"):
            server.define(CRDS / f"kubeflow.org_{kind}.yaml")
        server.apply(*rights_of_the_docs(DOCS, NAMESPACE))
        yield server


class Controllers:
    """The stand-in's Katib, working on what the API server keeps."""

    def __init__(self, api: ApiServer, cluster: Cluster) -> None:
        self._objects, self._cluster = kubernetes.CustomObjectsApi(api.client(ADMIN)), cluster
        self._known: dict[str, str] = {}

    def reconcile(self) -> None:
        """One look at all that there is."""
        there = self._names(EXPERIMENTS)
        with self._cluster.lock:
            for name in set(self._cluster.experiments) - set(there):
                self._cluster.delete(name)
            for name, experiment in there.items():
                if name not in self._cluster.experiments:
                    status, answer = self._cluster.create(experiment)
                    assert status == 201, answer
            written = json.loads(json.dumps([self._cluster.experiments, self._cluster.trials]))
        trials = self._names(TRIALS)
        # No garbage collector takes what a deleted experiment owned.
        for name in set(trials) - set(written[1]):
            self._objects.delete_namespaced_custom_object(*TRIALS, name)
        for place, objects in zip((EXPERIMENTS, TRIALS), written, strict=True):
            for name, item in objects.items():
                status = json.dumps(item["status"])
                if place is TRIALS and name not in trials:
                    self._objects.create_namespaced_custom_object(*place, item)
                if self._known.get(name) != status:
                    self._write(place, name, item["status"])
                    self._known[name] = status

    def _names(self, place: tuple[str, str, str, str]) -> dict[str, dict[str, Any]]:
        return {item["metadata"]["name"]: item for item in self._objects.list_namespaced_custom_object(*place)["items"]}

    def _write(self, place: tuple[str, str, str, str], name: str, status: dict[str, Any]) -> None:
        try:
            self._objects.patch_namespaced_custom_object_status(*place, name, {"status": status})
        except kubernetes.ApiException as error:
            # Deleted meanwhile.
            if error.status != 404:
                raise


class RealPlace(Place):
    """A step that works with the real API server."""

    def __init__(self, folder: Path, api: ApiServer) -> None:
        super().__init__(folder)
        self._api = api

    def client(self) -> KatibClient:
        configuration = self._api.client(ACCOUNT).configuration
        return KatibClient(client_configuration=configuration, namespace=NAMESPACE)


@pytest.fixture
def place(api: ApiServer, tmp_path: Path) -> Iterator[RealPlace]:
    made = RealPlace(tmp_path, api)
    with repeated(Controllers(api, made.cluster).reconcile, pause=0.05):
        yield made
    made.cluster.close()
    made.server.shutdown()


def test_the_job_of_a_trial_is_one_that_kubernetes_admits_without_dropping_a_field(api: ApiServer) -> None:
    template = manifest()["spec"]["trialTemplate"]
    job = json.loads(re.sub(r"\$\{trialParameters\.\w+\}", "1", json.dumps(template["trialSpec"])))
    job["metadata"] = {**job.get("metadata", {}), "name": "trial"}
    jobs = kubernetes.BatchV1Api(api.client(ADMIN))
    jobs.create_namespaced_job(NAMESPACE, job, field_validation="Strict", dry_run="All")
    job["spec"]["template"]["spec"]["containers"][0]["imagee"] = "a misspelt key"
    with pytest.raises(kubernetes.ApiException, match="imagee"):
        jobs.create_namespaced_job(NAMESPACE, job, field_validation="Strict", dry_run="All")


def test_a_search_works_with_the_rights_of_the_docs_and_leaves_no_experiment(api: ApiServer, place: RealPlace) -> None:
    metadata = place.search()
    assert place.parameters["trials"] == metadata["trials"] == 7
    assert place.parameters["parameters"]["quality"] == pytest.approx(place.parameters["best_value"])
    objects = kubernetes.CustomObjectsApi(api.client(ADMIN))
    assert objects.list_namespaced_custom_object(*EXPERIMENTS)["items"] == []


def test_an_account_without_the_rights_is_told_what_it_may_not(api: ApiServer, place: RealPlace) -> None:
    kubernetes.RbacAuthorizationV1Api(api.client(ADMIN)).delete_namespaced_role_binding("tuning", NAMESPACE)
    try:
        with pytest.raises(ContractViolation, match=r"experiments.kubeflow.org is forbidden.*\(403\).*service account"):
            place.search()
    finally:
        api.apply(rights_of_the_docs(DOCS, NAMESPACE)[1])
