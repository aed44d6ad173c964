"""An InferenceService as it stands on the cluster: whose its revisions are, who has the traffic, and how to move it.

KServe's Knative mode keeps one revision to return to. `canaryTrafficPercent` is the share of the newest revision; the
rest has the one that last had all traffic, and where that is the newest itself, the one that had it before
(`previousRolledoutRevision`). Annotations of the service are part of each revision, so that changing one makes another
revision: a release therefore writes its own together with the model, and none when it is done.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kserve import KServeClient, V1beta1InferenceService
from kubernetes import client as kubernetes

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_VARIABLE

MODE = "serving.kserve.io/deploymentMode"
"""Annotation: what KServe makes of a service."""
# By this older name every version of KServe knows Knative's mode.
KNATIVE, STANDARD = "Serverless", "Standard"
VERSION = "kfp-lifecycle/version"
"""Annotation: the newest revision's version; absent where it was withdrawn."""
VERSION_BEFORE = "kfp-lifecycle/version-before"
"""Annotation: the version that had the traffic when the newest revision was made."""

KIND = ("serving.kserve.io", "v1beta1", "inferenceservices")
READY_SECONDS = 600.0
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class State:
    """What an InferenceService says of itself."""

    newest: str | None
    """Version of the newest revision."""
    before: str | None
    """The version that had the traffic when the newest revision was made."""
    created: str
    """Name of the newest revision."""
    ready: str
    """Name of the newest revision that answers."""
    rolled_out: str
    """Name of the revision that had all traffic last."""
    rolled_out_before: str
    """Name of the one that had it before; the same one where traffic came back to it."""
    shares: dict[str, int]
    """Percent of the traffic by revision."""
    url: str
    shadow_token: str
    """What its servers believe that a request is nobody's; empty where the newest has none."""
    failure: str
    """Why the newest revision does not come up, in KServe's words."""

    @property
    def share(self) -> int:
        """Percent of the traffic that the newest revision has."""
        return self.shares.get(self.created, 0)

    @property
    def champion(self) -> str | None:
        """The version with the traffic; during a release, the one that had all of it."""
        return self.newest if self.share == 100 else self.before

    @property
    def champion_revision(self) -> str:
        """The revision of the champion."""
        return self.created if self.share == 100 else self.rolled_out

    @property
    def returnable(self) -> str | None:
        """The version that all traffic can go back to: the one before, or, after a return, the newest again."""
        if self.share == 100:
            return self.before if self.rolled_out_before else None
        if self.share > 0:
            # A release that was cut off.
            return self.before
        return self.newest if self.rolled_out == self.rolled_out_before else None


class LiveService:
    """One InferenceService, by namespace and name."""

    def __init__(self, namespace: str, name: str, **connection: Any) -> None:
        """Connect to the cluster.

        Args:
            namespace: The service's namespace.
            name: Its name.
            connection: More for `KServeClient`; without, the pod's own service account is used.
        """
        self.namespace, self.name = namespace, name
        self._objects: kubernetes.CustomObjectsApi = KServeClient(**connection).api_instance

    def read(self, kind: tuple[str, str, str] | None = None, name: str = "") -> dict[str, Any] | None:
        """The service, or another object of the namespace, as the cluster has it; None where there is none.

        Args:
            kind: Group, version and plural of another one.
            name: Of it.

        Raises:
            ContractViolation: the cluster does not tell. As in all methods: it refuses.
        """
        group, version, plural = kind or KIND
        try:
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                group, version, self.namespace, plural, name or self.name
            )
        except kubernetes.ApiException as error:
            if error.status == 404:
                return None
            raise self._refused(error, plural) from error
        return found

    def state(self) -> State | None:
        """What there is in Knative mode; None where there is no such service."""
        found = self.read()
        return state_of(found) if found is not None else None

    def expect_mode(self, mode: str) -> None:
        """Refuse a service of the other mode: KServe would leave the pods of both.

        Raises:
            ContractViolation: it has the other one.
        """
        found = self.read()
        there = mode_of(found) if found is not None else mode
        if there != mode:
            raise ContractViolation(
                f"the InferenceService {self.name} in {self.namespace} is of the mode {there}, and "
                f"targets.kubeflow.servers.mode asks for {mode}. A service keeps its mode: set it back, delete the "
                "service, or release under another deployment.model."
            )

    def create(self, service: V1beta1InferenceService) -> None:
        """Make the service."""
        try:
            self._objects.create_namespaced_custom_object(*self._path()[:-1], service)
        except kubernetes.ApiException as error:
            raise self._refused(error) from error

    def patch(self, change: dict[str, Any]) -> None:
        """Merge a change into the service; what is None goes."""
        try:
            self._objects.patch_namespaced_custom_object(*self._path(), change)
        except kubernetes.ApiException as error:
            raise self._refused(error) from error

    def keep(self, plural: str, body: dict[str, Any]) -> None:
        """Make an object beside the service, or bring it to what is wanted; it goes with the service.

        Args:
            plural: Its kind, as the API calls it.
            body: What is wanted; annotations that are None go.
        """
        service = self.read()
        assert service is not None
        owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": self.name}
        body["metadata"]["ownerReferences"] = [{**owner, "uid": service["metadata"].get("uid", "")}]
        group, _, version = body["apiVersion"].rpartition("/")
        place = group, version, self.namespace, plural
        try:
            try:
                self._objects.patch_namespaced_custom_object(*place, body["metadata"]["name"], body)
            except kubernetes.ApiException as error:
                if error.status != 404:
                    raise
                noted = {key: note for key, note in body["metadata"].get("annotations", {}).items() if note is not None}
                self._objects.create_namespaced_custom_object(
                    *place, {**body, "metadata": {**body["metadata"], "annotations": noted}}
                )
        except kubernetes.ApiException as error:
            raise self._refused(error, plural) from error

    def remove(self, kind: tuple[str, str, str], name: str) -> None:
        """Take an object beside the service away, if it is there.

        Args:
            kind: Its group, version and plural.
            name: Its own.
        """
        group, version, plural = kind
        try:
            self._objects.delete_namespaced_custom_object(group, version, self.namespace, plural, name)
        except kubernetes.ApiException as error:
            if error.status != 404:
                raise self._refused(error, plural) from error

    def give(self, percent: int | None) -> None:
        """Set the newest revision's share; None is all, for good."""
        self.patch({"spec": {"predictor": {"canaryTrafficPercent": percent}}})

    def delete(self) -> None:
        """Take the service away, if it is there."""
        try:
            self._objects.delete_namespaced_custom_object(*self._path())
        except kubernetes.ApiException as error:
            if error.status != 404:
                raise self._refused(error) from error

    def wait(self, until: Callable[[State], bool]) -> State:
        """Wait until the service's state is as wanted.

        Raises:
            ContractViolation: it is not after READY_SECONDS.
        """
        deadline, why = time.monotonic() + READY_SECONDS, ""
        while time.monotonic() < deadline:
            state = self.state()
            if state is not None and until(state):
                return state
            why = state.failure if state is not None else ""
            time.sleep(POLL_SECONDS)
        raise ContractViolation(
            f"the InferenceService {self.name} in {self.namespace} is not ready after {READY_SECONDS:.0f} s"
            f"{': ' + why if why else ''}. See `kubectl describe inferenceservice {self.name} -n {self.namespace}`."
        )

    def _path(self) -> tuple[str, str, str, str, str]:
        group, version, plural = KIND
        return group, version, self.namespace, plural, self.name

    def _refused(self, error: kubernetes.ApiException, plural: str = KIND[2]) -> ContractViolation:
        try:
            said = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            said = error.reason
        return ContractViolation(
            f"the cluster refuses the step's request for the {plural} of {self.name} in {self.namespace} "
            f"({error.status}: {said}). The pipeline's service account needs "
            "get, create, patch and delete on inferenceservices.serving.kserve.io there, and the rest of the role in "
            "docs/cluster-releases.md."
        )


def mode_of(service: dict[str, Any]) -> str:
    """What KServe makes of a service."""
    return str((service["metadata"].get("annotations") or {}).get(MODE, KNATIVE))


def token_of(container: dict[str, Any]) -> str:
    """What a server believes that a request is nobody's by; empty where it has none."""
    variables = container.get("env") or []
    return next((item.get("value", "") for item in variables if item["name"] == SHADOW_TOKEN_VARIABLE), "")


def state_of(service: dict[str, Any]) -> State:
    """The state in an InferenceService, as the cluster gives it."""
    annotations = service["metadata"].get("annotations") or {}
    status = service.get("status", {})
    predictor = status.get("components", {}).get("predictor", {})
    containers = service["spec"].get("predictor", {}).get("containers") or [{}]
    shares: Counter[str] = Counter()
    for target in predictor.get("traffic", []):
        shares[target.get("revisionName", "")] += int(target.get("percent", 0))
    return State(
        newest=annotations.get(VERSION),
        before=annotations.get(VERSION_BEFORE),
        created=predictor.get("latestCreatedRevision", ""),
        ready=predictor.get("latestReadyRevision", ""),
        rolled_out=predictor.get("latestRolledoutRevision", ""),
        rolled_out_before=predictor.get("previousRolledoutRevision", ""),
        shares=dict(shares),
        url=status.get("url", ""),
        shadow_token=token_of(containers[0]),
        failure=status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message", ""),
    )
