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

VERSION = "kfp-lifecycle/version"
"""Annotation: the newest revision's version; absent where it was withdrawn."""
VERSION_BEFORE = "kfp-lifecycle/version-before"
"""Annotation: the version that had the traffic when the newest revision was made."""

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
        self._client = KServeClient(**connection)

    def state(self) -> State | None:
        """What is there now; None where there is no such service.

        Raises:
            ContractViolation: the cluster does not tell. As in all methods: it refuses.
        """
        try:
            found = self._client.api_instance.get_namespaced_custom_object(*self._path())
        except kubernetes.ApiException as error:
            if error.status == 404:
                return None
            raise self._refused(error) from error
        return state_of(found)

    def create(self, service: V1beta1InferenceService) -> None:
        """Make the service."""
        try:
            self._client.api_instance.create_namespaced_custom_object(*self._path()[:-1], service)
        except kubernetes.ApiException as error:
            raise self._refused(error) from error

    def patch(self, change: dict[str, Any]) -> None:
        """Merge a change into the service; what is None goes."""
        try:
            self._client.api_instance.patch_namespaced_custom_object(*self._path(), change)
        except kubernetes.ApiException as error:
            raise self._refused(error) from error

    def give(self, percent: int | None) -> None:
        """Set the newest revision's share; None is all, for good."""
        self.patch({"spec": {"predictor": {"canaryTrafficPercent": percent}}})

    def delete(self) -> None:
        """Take the service away, if it is there."""
        try:
            self._client.api_instance.delete_namespaced_custom_object(*self._path())
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
        return "serving.kserve.io", "v1beta1", self.namespace, "inferenceservices", self.name

    def _refused(self, error: kubernetes.ApiException) -> ContractViolation:
        try:
            said = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            said = error.reason
        return ContractViolation(
            f"the cluster refuses the step's request for the InferenceService {self.name} in {self.namespace} "
            f"({error.status}: {said}). The pipeline's service account needs "
            "get, create, patch and delete on inferenceservices.serving.kserve.io there."
        )


def state_of(service: dict[str, Any]) -> State:
    """The state in an InferenceService, as the cluster gives it."""
    annotations = service["metadata"].get("annotations") or {}
    status = service.get("status", {})
    predictor = status.get("components", {}).get("predictor", {})
    containers = service["spec"].get("predictor", {}).get("containers") or [{}]
    variables = containers[0].get("env") or []
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
        shadow_token=next((item.get("value", "") for item in variables if item["name"] == SHADOW_TOKEN_VARIABLE), ""),
        failure=status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message", ""),
    )
