"""KServe traffic in Standard mode: canaries beside a stable predictor, shares by the Gateway API, a mirror by our own
HTTPRoute."""

from __future__ import annotations

from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlsplit

from kserve import V1beta1InferenceService, V1beta1InferenceServiceSpec
from kubernetes import client as kubernetes

from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import JSON, SHADOW_HEADER, Answer, Client
from kfp_lifecycle.serving.container import serving_container
from kfp_lifecycle.serving.payload_logger import LoggedModel
from kfp_lifecycle.serving.release.kserve.live_service import MODE, STANDARD, LiveService
from kfp_lifecycle.serving.release.kserve.predictor import SHADOW_PORT, disruption_budget, labels, predictor
from kfp_lifecycle.serving.release.kserve.standard_service import (
    PODS_OF_THE_VERSION_BEFORE,
    ROUTES,
    Pods,
    StandardService,
    StandardState,
    predictor_name,
    service_name,
)
from kfp_lifecycle.serving.release.prometheus import Prometheus
from kfp_lifecycle.serving.release.traffic import Counts, Return, Stage

# With KEDA KServe gives a canary a ScaledObject without a trigger, which KEDA refuses.
ANNOTATIONS = {MODE: STANDARD, "serving.kserve.io/autoscalerClass": "hpa"}


class StandardTraffic:
    """A release of one version to an InferenceService in Standard mode."""

    addressable = True
    champion_stays = True

    def __init__(
        self,
        namespace: str,
        deployment: Deployment,
        locations: Locations,
        version: str,
        uri: str,
        logged: LoggedModel,
        **connection: Any,
    ) -> None:
        """Find what is released now.

        Args:
            namespace: Where it runs.
            deployment: Name, strategy and replicas.
            locations: Online store and prediction log of the cluster.
            version: The model's version.
            uri: The model folder's artifact URI.
            logged: The model, for who writes the prediction log.
            connection: More for `KServeClient`, such as `config_file`.

        Raises:
            ContractViolation: no pod can read the model, the cluster does not answer, or a service of this name is
                somebody else's.
        """
        self.candidate = version
        self.model, self.namespace = deployment.model, namespace
        container = serving_container()
        self.counts_come_late = container.kserve.prometheus != ""
        self._prometheus = Prometheus(container.kserve.prometheus, namespace, deployment.model)
        self._replicas = max(1, deployment.min_replicas)
        self._name = predictor_name(self.model, version)
        self._live = LiveService(namespace, self.model, **connection)
        self._live.expect_mode(STANDARD)
        self._service = StandardService(self._live)
        self._found = self._service.state()
        self.champion = self._found.stable.version if self._found is not None else None
        # The champion's servers know the token that they were started with.
        self._shadow_token = (self._found.shadow_token if self._found is not None else "") or token_hex(16)
        pods = predictor(
            deployment,
            locations,
            version=version,
            uri=uri,
            logged=logged,
            container=container,
            shadow_token=self._shadow_token,
        )
        pods.name = self._name
        self._pods: dict[str, Any] = kubernetes.ApiClient().sanitize_for_serialization(pods)
        self._budget = disruption_budget(namespace, self.model, container.kserve.max_unavailable)

    def keep_champion(self) -> str | None:
        """Leave the champion all traffic.

        Returns:
            The version that it can be returned to.
        """
        found = self._released()
        if found.candidate is not None:
            # An earlier release was cut off.
            _remove_candidate(self._service, found)
        return found.before

    def start_candidate(self) -> None:
        """Create the service, or add a predictor without traffic."""
        if self._found is None:
            self._live.create(
                V1beta1InferenceService(
                    api_version="serving.kserve.io/v1beta1",
                    kind="InferenceService",
                    metadata=kubernetes.V1ObjectMeta(
                        name=self.model,
                        namespace=self.namespace,
                        labels=labels(self.model),
                        annotations=ANNOTATIONS,
                    ),
                    spec=V1beta1InferenceServiceSpec(predictor={**self._pods, "minReplicas": self._replicas}),
                )
            )
            self._service.note_before(self._budget, None)
        else:
            if self._found.candidate is not None:
                _remove_candidate(self._service, self._found)
            # What is returned to is not what is tried.
            self._service.note_before(self._budget, self._before.version if self._before is not None else None)
            self._give(0)
        self._service.wait_for_pods(self._name)
        if self._found is None:
            self._service.wait_for_shares({self._name: 100})

    def shift(self, stage: Stage) -> None:
        """Change the candidate's share, or mirror the champion's requests to it."""
        if self._found is None:
            return
        stable = self._found.stable.name
        if stage.mirror:
            self._live.keep(ROUTES[2], self._mirror(stable))
            return
        self._live.remove(ROUTES, self._mirror_name)
        self._give(stage.percent)
        self._service.wait_for_shares({stable: 100 - stage.percent, self._name: stage.percent})

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """Inside the cluster, to the version's own Service."""
        name = self._name if version == self.candidate else self._released().stable.name
        with Client(80, host_of(self._live, name), timeout=30) as client:
            return client.post(f"/v2/models/{self.model}/infer", request, {**JSON, SHADOW_HEADER: self._shadow_token})

    def counts(self, version: str) -> Counts:
        """What Prometheus counted; KServe counts nothing for us."""
        return self._prometheus.counts(version)

    def promote(self) -> None:
        """Champion and candidate change places; the pods of both stay, and the champion is what can be returned to."""
        if self._found is None:
            return
        self._live.remove(ROUTES, self._mirror_name)
        stable = self._found.stable
        self._service.note_before(self._budget, stable.version)
        self._service.write(self._pods, [(stable.spec, 0, PODS_OF_THE_VERSION_BEFORE)], self._replicas)
        self._service.wait_for_shares({self._name: 100})

    def withdraw(self) -> None:
        """All traffic to the champion, and no pods for the candidate; or no service at all."""
        if self._found is None:
            self._live.delete()
            return
        self._live.remove(ROUTES, self._mirror_name)
        now = self._service.state()
        if now is not None and now.candidate is not None:
            _remove_candidate(self._service, now)

    def url(self) -> str:
        """Where people ask."""
        state = self._service.state()
        return state.url if state is not None else ""

    def grpc(self) -> str:
        """gRPC's host and port: the same through the cluster's gateway, which knows it by its content type."""
        return grpc_of(self.url())

    @property
    def _before(self) -> Pods | None:
        """What can be returned to, unless it is released again."""
        found = self._released()
        return found.canary(found.before) if found.before != self.candidate else None

    @property
    def _mirror_name(self) -> str:
        return f"{self.model}-shadow"

    def _released(self) -> StandardState:
        assert self._found is not None
        return self._found

    def _give(self, percent: int) -> None:
        found = self._released()
        canaries = [(self._pods, percent, self._replicas)]
        if self._before is not None:
            canaries.append((self._before.spec, 0, PODS_OF_THE_VERSION_BEFORE))
        # KServe takes no canary of more pods than the stable predictor is to have.
        self._service.write(found.stable.spec, canaries, max(found.replicas, 1))

    def _mirror(self, stable: str) -> dict[str, Any]:
        """A route for predictions alone, whose more exact path goes before that of KServe's own route."""
        route = self._live.read(ROUTES)
        if route is None:
            raise ContractViolation(
                f"{self.model} has no HTTPRoute in {self.namespace}, so its requests cannot be mirrored: shadow needs "
                "KServe with the Gateway API (ingress.enableGatewayApi in the config map inferenceservice-config)."
            )
        name = quote(self.model, safe="")
        paths = (f"/v2/models/{name}/infer", f"/v1/models/{name}:predict")
        copy = {"name": service_name(self.model, self._name), "port": SHADOW_PORT}
        return {
            "apiVersion": "/".join(ROUTES[:2]),
            "kind": "HTTPRoute",
            "metadata": {"name": self._mirror_name, "namespace": self.namespace, "labels": labels(self.model)},
            "spec": {
                "parentRefs": route["spec"]["parentRefs"],
                "hostnames": route["spec"]["hostnames"],
                "rules": [
                    {
                        "matches": [{"path": {"type": "Exact", "value": path}, "method": "POST"} for path in paths],
                        "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": copy}}],
                        "backendRefs": [{"name": service_name(self.model, stable), "port": 80}],
                    }
                ],
            },
        }


def return_traffic(live: LiveService) -> Return:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Of a release that was cut off all traffic goes back to its champion.

    Raises:
        ContractViolation: there is no version to return to, or it does not come up.
    """
    service = StandardService(live)
    state = service.state()
    assert state is not None
    stable, candidate = state.stable, state.candidate
    live.remove(ROUTES, f"{live.name}-shadow")
    if candidate is not None:
        _remove_candidate(service, state)
        return Return(state.url, grpc_of(state.url), stable.version, candidate.version)
    before = state.canary(state.before)
    if before is None:
        raise ContractViolation(
            f"{live.name} has no version to return to in {live.namespace}: this is its first release. Release the "
            "version you want: traffic moves by the same stages."
        )
    service.wait_for_pods(before.name)
    # The traffic first, as fast as can be, while more pods start; then the two change places.
    service.write(stable.spec, [(before.spec, 100, state.replicas)], state.replicas)
    service.wait_for_shares({before.name: 100})
    scaling: dict[str, Any] = {key: stable.spec[key] for key in ("maxReplicas", "autoScaling") if key in stable.spec}
    service.write({**before.spec, **scaling}, [(stable.spec, 0, PODS_OF_THE_VERSION_BEFORE)], state.replicas)
    # Only now: were this cut off before, the next rollback would go back to the version that was left.
    service.note_before({"apiVersion": "policy/v1", "metadata": {"name": f"{live.name}-servers"}}, stable.version)
    service.wait_for_shares({before.name: 100})
    return Return(state.url, grpc_of(state.url), before.version, stable.version)


def host_of(live: LiveService, predictor: str) -> str:
    """The host of a predictor inside the cluster."""
    return f"{service_name(live.name, predictor)}.{live.namespace}.svc.cluster.local"


def grpc_of(url: str) -> str:
    """gRPC's host and port behind the gateway of a URL; empty while there is none."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}" if parts.hostname else ""


def _remove_candidate(service: StandardService, state: StandardState) -> None:
    """Take the traffic off it first: its Service goes with its entry."""
    candidate, before = state.candidate, state.canary(state.before)
    assert candidate is not None
    kept = [(before.spec, 0, PODS_OF_THE_VERSION_BEFORE)] if before is not None else []
    if candidate.percent:
        pods = candidate.spec["minReplicas"]
        service.write(state.stable.spec, [(candidate.spec, 0, pods), *kept], state.replicas)
        service.wait_for_shares({state.stable.name: 100})
    service.write(state.stable.spec, kept, state.replicas)
    service.wait_for_shares({state.stable.name: 100})
