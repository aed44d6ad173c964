"""An InferenceService in Standard mode as it stands on the cluster: its predictors, and the shares of its HTTPRoute.

The stable predictor has what the canaries leave of the traffic. Each predictor is a Deployment and a Service of its
own, named by the predictor, so that a canary that changes places with the stable one keeps its pods. What was stable
before stays as a canary of 0%, to return to. Which one that is stands in an annotation of the disruption budget: one
of the service itself would be one of every pod, and renew them all.

KServe writes shares into the route when a canary is ready, and only after version 0.20: so the route, not the service,
says who has which.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.release.kserve import live_service
from kfp_lifecycle.serving.release.kserve.live_service import VERSION_BEFORE, LiveService, token_of

ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")
BUDGETS = ("policy", "v1", "poddisruptionbudgets")
LONGEST_NAME = 63
# A canary has as many pods as are said, and these words are the stable predictor's alone.
OF_THE_STABLE = ("minReplicas", "maxReplicas", "autoScaling")
PODS_OF_THE_VERSION_BEFORE = 1


def predictor_name(model: str, version: str) -> str:
    """The predictor of a version: `v3`. Its Deployment and Service are named `<model>-v3-predictor`.

    Raises:
        ContractViolation: that is longer than Kubernetes takes.
    """
    name = f"v{re.sub(r'[^a-z0-9-]', '-', version.lower())}".rstrip("-")
    if len(service_name(model, name)) > LONGEST_NAME:
        raise ContractViolation(
            f"{service_name(model, name)} is longer than the {LONGEST_NAME} letters that Kubernetes takes of a "
            "Service's name: choose a shorter deployment.model."
        )
    return name


def service_name(model: str, predictor: str) -> str:
    """The Service that KServe makes of a predictor."""
    return f"{model}-{predictor}-predictor"


@dataclass(frozen=True)
class Pods:
    """One predictor."""

    name: str
    version: str
    percent: int
    ready: bool
    spec: dict[str, Any]
    """As the service has it."""


@dataclass(frozen=True)
class StandardState:
    """What there is."""

    stable: Pods
    canaries: tuple[Pods, ...]
    before: str | None
    """The version that was stable before, if it is still there."""
    replicas: int
    """Pods of the stable predictor at the least."""
    url: str
    failure: str

    @property
    def candidate(self) -> Pods | None:
        """What a release that was cut off left."""
        return next((item for item in self.canaries if item.version != self.before), None)

    def canary(self, version: str | None) -> Pods | None:
        """The canary of a version."""
        return next((item for item in self.canaries if item.version == version), None)

    @property
    def shadow_token(self) -> str:
        """What the champion's servers believe."""
        return token_of(self.stable.spec["containers"][0])


class StandardService:
    """One InferenceService in Standard mode."""

    def __init__(self, live: LiveService) -> None:
        """Look at a service of the cluster."""
        self.live = live

    def state(self) -> StandardState | None:
        """What there is now; None where there is no such service.

        Raises:
            ContractViolation: the cluster does not tell, or a service of this name is somebody else's.
        """
        found = self.live.read()
        if found is None:
            return None
        labels = found["metadata"].get("labels") or {}
        if labels.get("app.kubernetes.io/managed-by") != "kfp-lifecycle":
            raise ContractViolation(
                f"the InferenceService {self.live.name} in {self.live.namespace} was not made by a release of this "
                "pipeline, so it is left alone. Choose another deployment.model, or delete it."
            )
        budget = self.live.read(BUDGETS, f"{self.live.name}-servers") or {"metadata": {}}
        before = (budget["metadata"].get("annotations") or {}).get(VERSION_BEFORE)
        return _state(found, before)

    def write(self, stable: dict[str, Any], canaries: Sequence[tuple[dict[str, Any], int, int]], replicas: int) -> None:
        """Give the service these predictors.

        Args:
            stable: The stable one.
            canaries: Each with its percent of the traffic and its number of pods.
            replicas: Pods of the stable one at the least; KServe takes those of ready canaries off, so they are added.
        """
        least = replicas + sum(pods for _, _, pods in canaries)
        most = max(stable.get("maxReplicas") or 0, least)
        entries = [
            {
                "trafficPercent": percent,
                "predictor": {
                    **{key: value for key, value in spec.items() if key not in OF_THE_STABLE},
                    "minReplicas": pods,
                },
            }
            for spec, percent, pods in canaries
        ]
        left_out = {key: None for key in (*OF_THE_STABLE, "serviceAccountName") if key not in stable}
        predictor = {**left_out, **stable, "minReplicas": least, "maxReplicas": most}
        self.live.patch({"spec": {"predictor": predictor, "canary": entries or None}})

    def note_before(self, budget: dict[str, Any], before: str | None) -> None:
        """Keep the disruption budget, and in it which version was stable before."""
        self.live.keep(
            BUDGETS[2], {**budget, "metadata": {**budget["metadata"], "annotations": {VERSION_BEFORE: before}}}
        )

    def wait_for_pods(self, name: str) -> None:
        """Wait until a predictor is ready.

        Raises:
            ContractViolation: it does not come up.
        """
        self._wait(lambda: self._is_ready(name), f"the pods of {service_name(self.live.name, name)} are not ready")

    def wait_for_shares(self, shares: dict[str, int]) -> None:
        """Wait until the gateway has these shares, in percent by predictor.

        Raises:
            ContractViolation: it does not get them.
        """
        wanted = {service_name(self.live.name, name): share for name, share in shares.items() if share}
        self._wait(
            lambda: shares_of(self.live.read(ROUTES)) == wanted,
            f"the HTTPRoute does not divide the traffic as {wanted} (KServe 0.20 does not, later versions do)",
        )

    def _is_ready(self, name: str) -> bool:
        state = self.state()
        return state is not None and any(item.ready for item in (state.stable, *state.canaries) if item.name == name)

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + live_service.READY_SECONDS
        while not holds():
            if time.monotonic() >= deadline:
                state = self.state()
                why = f": {state.failure}" if state is not None and state.failure else ""
                raise ContractViolation(
                    f"the InferenceService {self.live.name} in {self.live.namespace} is not as wanted after "
                    f"{live_service.READY_SECONDS:.0f} s: {what}{why}. See `kubectl describe inferenceservice "
                    f"{self.live.name} -n {self.live.namespace}`."
                )
            time.sleep(live_service.POLL_SECONDS)


def shares_of(route: dict[str, Any] | None) -> dict[str, int]:
    """Percent by Service of an HTTPRoute that its gateway has taken as it is now; none before."""
    if route is None:
        return {}
    conditions = [
        condition
        for parent in route.get("status", {}).get("parents") or []
        for condition in parent.get("conditions") or []
    ]
    generation = route["metadata"].get("generation")
    taken = [
        item["status"] == "True" and item.get("observedGeneration", generation) == generation for item in conditions
    ]
    if not all(taken) or not taken:
        return {}
    found = [
        {item["name"]: int(item.get("weight", 1)) for item in rule.get("backendRefs") or []}
        for rule in route["spec"]["rules"]
    ]
    if any(shares != found[0] for shares in found):
        return {}
    total = sum(found[0].values())
    return {name: round(100 * weight / total) for name, weight in found[0].items() if weight}


def _state(service: dict[str, Any], before: str | None) -> StandardState:
    status = service.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    reported = {item["name"]: item for item in status.get("canaryStatuses") or []}
    canaries = tuple(
        Pods(
            name=item["predictor"]["name"],
            version=_version(item["predictor"]),
            percent=item["trafficPercent"],
            ready=reported.get(item["predictor"]["name"], {}).get("ready", False),
            spec=item["predictor"],
        )
        for item in service["spec"].get("canary") or []
    )
    predictor = service["spec"]["predictor"]
    stable = Pods(
        name=predictor.get("name", ""),
        version=_version(predictor),
        percent=100 - sum(item.percent for item in canaries),
        ready=conditions.get("PredictorReady") == "True",
        spec=predictor,
    )
    return StandardState(
        stable=stable,
        canaries=canaries,
        before=before if any(item.version == before for item in canaries) else None,
        replicas=predictor["minReplicas"] - sum(item.spec["minReplicas"] for item in canaries),
        url=status.get("url", ""),
        failure=status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message", ""),
    )


def _version(predictor: dict[str, Any]) -> str:
    arguments = predictor["containers"][0].get("args") or []
    return next((item.partition("=")[2] for item in arguments if item.startswith("--version=")), "")
