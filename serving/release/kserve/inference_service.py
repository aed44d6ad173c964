"""KServe traffic: an InferenceService whose canary share moves by `canaryTrafficPercent` (Knative mode)."""

from __future__ import annotations

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from kserve import V1beta1InferenceService, V1beta1InferenceServiceSpec
from kubernetes import client as kubernetes

from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import JSON, SHADOW_HEADER, Answer, Client
from kfp_lifecycle.serving.container import Container, serving_container
from kfp_lifecycle.serving.payload_logger import LoggedModel
from kfp_lifecycle.serving.release.kserve.live_service import (
    KNATIVE,
    MODE,
    READY_SECONDS,
    VERSION,
    VERSION_BEFORE,
    LiveService,
)
from kfp_lifecycle.serving.release.kserve.predictor import disruption_budget, labels, predictor
from kfp_lifecycle.serving.release.prometheus import Prometheus
from kfp_lifecycle.serving.release.traffic import Counts, Return, Stage

RELEASED_AT = "kfp-lifecycle/released-at"
ANNOTATIONS = {
    # Where KServe's default is another mode, it would pass over the canary's share without a word.
    MODE: KNATIVE,
    # Tags of the newest revision and of the one before, by which each is reached whatever the split.
    "serving.kserve.io/enable-tag-routing": "true",
}


def inference_service(
    namespace: str,
    deployment: Deployment,
    locations: Locations,
    *,
    version: str,
    before: str | None,
    uri: str,
    logged: LoggedModel,
    container: Container,
    shadow_token: str,
) -> V1beta1InferenceService:
    """The manifest of a version, without a canary share.

    Args:
        namespace: Where it runs.
        deployment: Name, replicas and what is logged.
        locations: Online store and prediction log of the cluster.
        version: The model's version.
        before: The version that has the traffic so far.
        uri: The model folder's artifact URI.
        logged: The model, for who writes the prediction log.
        container: What it runs on.
        shadow_token: What marks the release's own requests.
    """
    pods = predictor(
        deployment,
        locations,
        version=version,
        uri=uri,
        logged=logged,
        container=container,
        shadow_token=shadow_token,
    )
    # The time makes each release a revision, be it of a version that was there before.
    release = {VERSION: version, VERSION_BEFORE: before, RELEASED_AT: datetime.now(UTC).isoformat()}
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=kubernetes.V1ObjectMeta(
            name=deployment.model,
            namespace=namespace,
            labels=labels(deployment.model),
            annotations={**ANNOTATIONS, **release},
        ),
        spec=V1beta1InferenceServiceSpec(predictor=pods),
    )


class InferenceServiceTraffic:
    """A release of one version to an InferenceService in Knative mode."""

    addressable = True
    champion_stays = False

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
        self._live = LiveService(namespace, deployment.model, **connection)
        self._live.expect_mode(KNATIVE)
        self._found = self._live.state()
        if self._found is not None and self._found.newest is None and self._found.before is None:
            raise ContractViolation(
                f"the InferenceService {deployment.model} in {namespace} was not made by a release of this pipeline, "
                "so it is left alone. Choose another deployment.model, or delete it."
            )
        self.champion = self._found.champion if self._found is not None else None
        # The champion's servers know the token that they were started with.
        self._shadow_token = (self._found.shadow_token if self._found is not None else "") or token_hex(16)
        container = serving_container()
        self.counts_come_late = container.kserve.prometheus != ""
        self._prometheus = Prometheus(container.kserve.prometheus, namespace, deployment.model)
        self._budget = disruption_budget(namespace, deployment.model, container.kserve.max_unavailable)
        self._service = inference_service(
            namespace,
            deployment,
            locations,
            version=version,
            before=self.champion,
            uri=uri,
            logged=logged,
            container=container,
            shadow_token=self._shadow_token,
        )
        self._revision = ""

    def keep_champion(self) -> str | None:
        """Leave the champion all traffic.

        Returns:
            The version that it can be returned to.
        """
        assert self._found is not None
        state = self._found
        if state.share not in (0, 100):
            # An earlier release was cut off.
            self._live.give(0)
            state = self._live.wait(lambda now: now.shares.get(state.champion_revision) == 100)
        return state.returnable

    def start_candidate(self) -> None:
        """Create the service, or add a revision without traffic."""
        if self._found is None:
            self._live.create(self._service)
        else:
            change = kubernetes.ApiClient().sanitize_for_serialization(self._service)
            # What is left out stays as it was, so what has to go is said.
            change["metadata"]["annotations"][VERSION_BEFORE] = self.champion
            pods = change["spec"]["predictor"]
            pods["canaryTrafficPercent"] = 0 if self.champion is not None else None
            for name in ("serviceAccountName", "containerConcurrency", "scaleMetric", "scaleTarget"):
                pods.setdefault(name, None)
            self._live.patch(change)
        self._live.keep("poddisruptionbudgets", self._budget)
        before = self._found.created if self._found is not None else ""
        self._revision = self._live.wait(lambda now: now.created not in ("", before) and now.ready == now.created).ready

    def shift(self, stage: Stage) -> None:
        """Change the candidate's share."""
        if self.champion is not None:
            self._live.give(stage.percent)
            self._live.wait(lambda now: now.shares.get(self._revision, 0) == stage.percent)

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """Inside the cluster, to the revision's tag."""
        tag = "latest-" if version == self.candidate else "prev-"
        with Client(80, host_of(self._live, tag if self.champion is not None else ""), timeout=30) as client:
            return client.post(
                f"/v2/models/{self._live.name}/infer", request, {**JSON, SHADOW_HEADER: self._shadow_token}
            )

    def counts(self, version: str) -> Counts:
        """What Prometheus counted; KServe counts nothing for us."""
        return self._prometheus.counts(version)

    def promote(self) -> None:
        """All traffic, and no canary any more."""
        self._live.give(None)
        self._live.wait(lambda now: now.share == 100)

    def withdraw(self) -> None:
        """All traffic to the champion, and no pods for the candidate; or no service at all."""
        if self._found is None or self.champion is None:
            self._live.delete()
            return
        champion = self._found.champion_revision
        self._live.give(0)
        self._live.wait(lambda now: now.shares.get(champion) == 100)
        # Only now: with another revision on its way KServe would leave the traffic where it is.
        self._live.patch({"metadata": {"annotations": {VERSION: None}}, "spec": {"predictor": {"minReplicas": 0}}})

    def url(self) -> str:
        """Where people ask."""
        return url_of(self._live)

    def grpc(self) -> str:
        """Knative takes one port of a container, and that is REST's."""
        return ""


def return_traffic(live: LiveService) -> Return:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Raises:
        ContractViolation: KServe has no version to return to, or the traffic does not move.
    """
    model, namespace = live.name, live.namespace
    state = live.state()
    assert state is not None
    version, leaving = state.returnable, state.champion if state.share in (0, 100) else state.newest
    if version is None or leaving is None:
        raise ContractViolation(
            f"{model} has no version to return to in {namespace}: KServe keeps one revision beside the newest, and "
            "that is gone with the first release, or with a candidate that was withdrawn. Release the version you "
            "want again: traffic moves by the same stages."
        )
    if state.share > 0:
        revision = state.rolled_out_before if state.share == 100 else state.rolled_out
        live.give(0)
    else:
        revision = state.created
        live.give(None)
    live.wait(lambda now: now.shares.get(revision) == 100)
    # A revision without traffic may have no pods: people get answers when the first one is up.
    with Client(80, host_of(live), timeout=READY_SECONDS) as client:
        answer = client.get(f"/v2/models/{model}/ready")
    if answer.status != 200:
        raise ContractViolation(
            f"all traffic of {model} is with version {version} again, but it does not answer ({answer.status}: "
            f"{answer.body[:200]}). See `kubectl logs -n {namespace} -l serving.knative.dev/revision={revision} "
            "-c kserve-container`."
        )
    return Return(url_of(live), "", version, leaving)


def host_of(live: LiveService, tag: str = "") -> str:
    """The host of a service inside the cluster; with a tag, that of one revision."""
    return f"{tag}{live.name}-predictor.{live.namespace}.svc.cluster.local"


def url_of(live: LiveService) -> str:
    """The address that people use, as the cluster says."""
    state = live.state()
    return state.url if state is not None else ""
