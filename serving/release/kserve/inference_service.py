"""KServe traffic: an InferenceService whose canary share moves by `canaryTrafficPercent` (Knative mode)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from kserve import V1beta1InferenceService, V1beta1InferenceServiceSpec, V1beta1PredictorSpec
from kubernetes import client as kubernetes

from kfp_lifecycle.config.data import SECRET_REFERENCE
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import JSON, SHADOW_HEADER, SHADOW_TOKEN_VARIABLE, Answer, Client
from kfp_lifecycle.serving.container import USER, Container, serving_container
from kfp_lifecycle.serving.release.kserve.live_service import READY_SECONDS, VERSION, VERSION_BEFORE, LiveService
from kfp_lifecycle.serving.release.traffic import Counts, Return, Stage

RELEASED_AT = "kfp-lifecycle/released-at"
# KServe puts the model folder here.
MODEL_FOLDER = "/mnt/models"
ANNOTATIONS = {
    # Where KServe's default is another mode, it would pass over the canary's share without a word. By this older name
    # every version of it knows the mode.
    "serving.kserve.io/deploymentMode": "Serverless",
    # Tags of the newest revision and of the one before, by which each is reached whatever the split.
    "serving.kserve.io/enable-tag-routing": "true",
}


def storage_uri(uri: str) -> str:
    """A model's artifact URI as KServe's storage initializer reads it.

    Raises:
        ContractViolation: a pod cannot read from there.
    """
    # Kubeflow's own object store speaks S3 under another name.
    uri = uri.replace("minio://", "s3://", 1) if uri.startswith("minio://") else uri
    if not uri.startswith(("s3://", "gs://", "pvc://", "https://", "hdfs://")):
        raise ContractViolation(
            f"KServe cannot load a model from {uri}: it must be in an object store (s3://, gs://) or on a volume "
            "(pvc://). Run the pipeline on the cluster, so that its artifacts are kept there."
        )
    return uri


def inference_service(
    namespace: str,
    deployment: Deployment,
    locations: Locations,
    *,
    version: str,
    before: str | None,
    uri: str,
    container: Container,
    shadow_token: str,
) -> V1beta1InferenceService:
    """The manifest of a version, without a canary share.

    Args:
        namespace: Where it runs.
        deployment: Name and replicas.
        locations: Online store and prediction log of the cluster.
        version: The model's version.
        before: The version that has the traffic so far.
        uri: The model folder's artifact URI.
        container: What it runs on, with its volumes, service account and secrets; of these it gets those that the
            online store's location and the server's settings name. Code comes with the model.
        shadow_token: What marks the release's own requests, which nobody acts on. Whoever may read the service in its
            namespace can read it, and mark requests too.
    """
    settings = {
        "model_name": deployment.model,
        "version": version,
        "online_store": locations.online_store,
        "prediction_log": locations.prediction_log,
        "http_port": "8080",
        "grpc_port": "8081",
        **deployment.server_arguments(),
    }
    variables = {
        "STORAGE_URI": storage_uri(uri),
        "MODEL_FOLDER": MODEL_FOLDER,
        SHADOW_TOKEN_VARIABLE: shadow_token,
        **container.variables,
    }
    secrets = [*SECRET_REFERENCE.findall(locations.online_store), *deployment.server.variables()]
    mounts = [kubernetes.V1VolumeMount(name=claim, mount_path=place) for claim, place in container.volumes.items()]
    sources = [
        kubernetes.V1Volume(
            name=claim,
            persistent_volume_claim=kubernetes.V1PersistentVolumeClaimVolumeSource(claim_name=claim),
        )
        for claim in container.volumes
    ]
    if not any(Path(locations.prediction_log).is_relative_to(place) for place in container.volumes.values()):
        # The server's user may write nowhere else but to /tmp.
        mounts.append(kubernetes.V1VolumeMount(name="prediction-log", mount_path=locations.prediction_log))
        sources.append(kubernetes.V1Volume(name="prediction-log", empty_dir=kubernetes.V1EmptyDirVolumeSource()))
    probe = kubernetes.V1HTTPGetAction(path=f"/v2/models/{deployment.model}/ready", port=8080)
    server = kubernetes.V1Container(
        name="kserve-container",
        image=container.image,
        command=container.command,
        args=[f"--{name}={value}" for name, value in settings.items()],
        env=[
            *(kubernetes.V1EnvVar(name=name, value=value) for name, value in variables.items()),
            *_of_secrets(secrets, container.secrets),
        ],
        volume_mounts=mounts,
        ports=[kubernetes.V1ContainerPort(container_port=8080, protocol="TCP")],
        # Not answering is not failing: a container that installs its packages first takes a minute or two.
        readiness_probe=kubernetes.V1Probe(http_get=probe, period_seconds=5),
        resources=kubernetes.V1ResourceRequirements(
            requests={"cpu": "250m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"}
        ),
        # What the Restricted standard asks, all of it here: Knative takes no security context of a pod by default.
        security_context=kubernetes.V1SecurityContext(
            allow_privilege_escalation=False,
            run_as_non_root=True,
            # An image of our own has its user; a cluster may insist on choosing another.
            run_as_user=USER if container.is_stock else None,
            capabilities=kubernetes.V1Capabilities(drop=["ALL"]),
            seccomp_profile=kubernetes.V1SeccompProfile(type="RuntimeDefault"),
        ),
    )
    # The time makes each release a revision, be it of a version that was there before.
    release = {VERSION: version, VERSION_BEFORE: before, RELEASED_AT: datetime.now(UTC).isoformat()}
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=kubernetes.V1ObjectMeta(
            name=deployment.model, namespace=namespace, annotations={**ANNOTATIONS, **release}
        ),
        spec=V1beta1InferenceServiceSpec(
            predictor=V1beta1PredictorSpec(
                min_replicas=deployment.min_replicas,
                max_replicas=deployment.max_replicas,
                service_account_name=container.service_account or None,
                containers=[server],
                volumes=sources,
            )
        ),
    )


def _of_secrets(variables: Collection[str], secrets: Mapping[str, Mapping[str, str]]) -> Iterator[kubernetes.V1EnvVar]:
    for secret, keys in secrets.items():
        for key, variable in keys.items():
            if variable in variables:
                source = kubernetes.V1SecretKeySelector(name=secret, key=key)
                yield kubernetes.V1EnvVar(name=variable, value_from=kubernetes.V1EnvVarSource(secret_key_ref=source))


class InferenceServiceTraffic:
    """A release of one version to an InferenceService."""

    addressable = True
    champion_stays = False

    def __init__(
        self,
        namespace: str,
        deployment: Deployment,
        locations: Locations,
        version: str,
        uri: str,
        **connection: Any,
    ) -> None:
        """Find what is released now.

        Args:
            namespace: Where it runs.
            deployment: Name, strategy and replicas.
            locations: Online store and prediction log of the cluster.
            version: The model's version.
            uri: The model folder's artifact URI.
            connection: More for `KServeClient`, such as `config_file`.

        Raises:
            ContractViolation: no pod can read the model, the cluster does not answer, or a service of this name is
                somebody else's.
        """
        self.candidate = version
        self._live = LiveService(namespace, deployment.model, **connection)
        self._found = self._live.state()
        if self._found is not None and self._found.newest is None and self._found.before is None:
            raise ContractViolation(
                f"the InferenceService {deployment.model} in {namespace} was not made by a release of this pipeline, "
                "so it is left alone. Choose another deployment.model, or delete it."
            )
        self.champion = self._found.champion if self._found is not None else None
        # The champion's servers know the token that they were started with.
        self._shadow_token = (self._found.shadow_token if self._found is not None else "") or token_hex(16)
        self._service = inference_service(
            namespace,
            deployment,
            locations,
            version=version,
            before=self.champion,
            uri=uri,
            container=serving_container(),
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
            predictor = change["spec"]["predictor"]
            predictor["canaryTrafficPercent"] = 0 if self.champion is not None else None
            predictor.setdefault("serviceAccountName", None)
            self._live.patch(change)
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
        """KServe counts nothing for us: the release's own requests decide."""
        return Counts()

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
        """gRPC's host and port."""
        return grpc_of(self.url())


def return_traffic(namespace: str, model: str, **connection: Any) -> Return:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Args:
        namespace: Where the model is served.
        model: Its name.
        connection: More for `KServeClient`, such as `config_file`.

    Raises:
        ContractViolation: it is not served there, KServe has no version to return to, or the traffic does not move.
    """
    live = LiveService(namespace, model, **connection)
    state = live.state()
    if state is None:
        raise ContractViolation(
            f"{model} is not released in the namespace {namespace}. Look for it with "
            "`kubectl get inferenceservices --all-namespaces`."
        )
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
    url = url_of(live)
    return Return(url, grpc_of(url), version, leaving)


def host_of(live: LiveService, tag: str = "") -> str:
    """The host of a service inside the cluster; with a tag, that of one revision."""
    return f"{tag}{live.name}-predictor.{live.namespace}.svc.cluster.local"


def url_of(live: LiveService) -> str:
    """The address that people use, as the cluster says."""
    state = live.state()
    return state.url if state is not None else ""


def grpc_of(url: str) -> str:
    """gRPC's host and port: the same host through the cluster's gateway."""
    return f"{url.partition('://')[2]}:80"
