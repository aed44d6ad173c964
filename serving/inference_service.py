"""Release to KServe: an InferenceService whose canary share moves by `canaryTrafficPercent` (Knative mode)."""

from __future__ import annotations

import os
import time
from typing import Any

from kserve import KServeClient, V1beta1InferenceService, V1beta1InferenceServiceSpec, V1beta1PredictorSpec
from kubernetes import client as kubernetes

from components.contract import ContractViolation
from project.production import Deployment, Store, Strategy
from serving.client import JSON, SHADOW_HEADER, Answer, Client
from serving.traffic import Counts, Stage

IMAGE_VARIABLE = "LIFECYCLE_SERVING_IMAGE"
CHAMPION = "kfp-lifecycle/champion"
# KServe puts the model folder here.
MODEL_FOLDER = "/mnt/models"
READY_SECONDS = 600.0
# Tags of the newest revision and of the one before, by which each is reached whatever the split.
TAGS = {"serving.kserve.io/enable-tag-routing": "true"}


def serving_image() -> str:
    """The image of the serving environment, as the target tells its steps.

    Raises:
        ContractViolation: the pipeline was compiled without one.
    """
    image = os.environ.get(IMAGE_VARIABLE, "")
    if not image:
        raise ContractViolation(
            f"a cluster serves from the image of the serving environment, and {IMAGE_VARIABLE} names none. "
            "Build it and compile with --image-registry."
        )
    return image


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
    namespace: str, deployment: Deployment, stores: Store, *, version: str, uri: str, image: str
) -> V1beta1InferenceService:
    """The manifest of a version, without a canary share.

    Args:
        namespace: Where it runs.
        deployment: Name and replicas.
        stores: Online store and prediction log of the cluster.
        version: The model's version.
        uri: The model folder's artifact URI.
        image: The serving environment's image, which holds dependencies only: code comes with the model.
    """
    settings = {
        "model_dir": MODEL_FOLDER,
        "model_name": deployment.model,
        "version": version,
        "online_store": stores.online_store,
        "prediction_log": stores.prediction_log,
        "http_port": "8080",
        "grpc_port": "8081",
    }
    probe = kubernetes.V1HTTPGetAction(path=f"/v2/models/{deployment.model}/ready", port=8080)
    container = kubernetes.V1Container(
        name="kserve-container",
        image=image,
        command=["python", "-s", "-m", "serving.server"],
        args=[f"--{name}={value}" for name, value in settings.items()],
        working_dir=f"{MODEL_FOLDER}/code",
        env=[kubernetes.V1EnvVar(name="STORAGE_URI", value=storage_uri(uri))],
        ports=[kubernetes.V1ContainerPort(container_port=8080, protocol="TCP")],
        readiness_probe=kubernetes.V1Probe(http_get=probe, period_seconds=5),
        resources=kubernetes.V1ResourceRequirements(
            requests={"cpu": "250m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"}
        ),
        security_context=kubernetes.V1SecurityContext(
            allow_privilege_escalation=False,
            run_as_non_root=True,
            capabilities=kubernetes.V1Capabilities(drop=["ALL"]),
        ),
    )
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=kubernetes.V1ObjectMeta(name=deployment.model, namespace=namespace, annotations=dict(TAGS)),
        spec=V1beta1InferenceServiceSpec(
            predictor=V1beta1PredictorSpec(
                min_replicas=deployment.min_replicas, max_replicas=deployment.max_replicas, containers=[container]
            )
        ),
    )


class InferenceServiceTraffic:
    """A release of one version to an InferenceService."""

    addressable = True

    def __init__(self, namespace: str, deployment: Deployment, stores: Store, version: str, uri: str) -> None:
        """Find what is released now.

        Raises:
            ContractViolation: the strategy or the model's place cannot be had on KServe.
        """
        if deployment.strategy is Strategy.shadow:
            raise ContractViolation(
                "KServe cannot mirror requests: choose deployment.strategy canary or blue_green for this target."
            )
        self.namespace = namespace
        self.model = deployment.model
        self.candidate = version
        self._service = inference_service(
            namespace, deployment, stores, version=version, uri=uri, image=serving_image()
        )
        self._client = KServeClient()
        self._found = self._get()
        annotations = (self._found or {}).get("metadata", {}).get("annotations", {})
        self.champion: str | None = annotations.get(CHAMPION)
        self._revision_before = self._status().get("latestReadyRevision") if self._found else None

    def start_candidate(self) -> None:
        """Create the service, or add a revision without traffic."""
        if self._found is None:
            self._client.create(self._service, namespace=self.namespace)
        else:
            self._service.spec.predictor.canary_traffic_percent = 0 if self.champion else None
            self._patch(self._client.api_instance.api_client.sanitize_for_serialization(self._service))
        self._wait(lambda status: status.get("latestReadyRevision") not in (None, self._revision_before))

    def shift(self, stage: Stage) -> None:
        """Change the candidate's share."""
        if self.champion is not None:
            self._patch({"spec": {"predictor": {"canaryTrafficPercent": stage.percent}}})
            self._wait(lambda status: share_of(status, status.get("latestReadyRevision")) == stage.percent)

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """Inside the cluster, to the revision's tag."""
        tag = "latest" if version == self.candidate else "prev"
        host = f"{tag}-{self.model}-predictor.{self.namespace}.svc.cluster.local"
        if self.champion is None:
            host = host.removeprefix(f"{tag}-")
        with Client(80, host, timeout=30) as client:
            return client.post(f"/v2/models/{self.model}/infer", request, {**JSON, SHADOW_HEADER: "true"})

    def counts(self, version: str) -> Counts:
        """KServe counts nothing for us: the release's own requests decide."""
        return Counts()

    def promote(self) -> None:
        """All traffic, and no canary any more."""
        self._patch(
            {
                "metadata": {"annotations": {CHAMPION: self.candidate}},
                "spec": {"predictor": {"canaryTrafficPercent": None}},
            }
        )

    def withdraw(self) -> None:
        """All traffic to the revision before, or no service at all."""
        if self.champion is not None:
            self._patch({"spec": {"predictor": {"canaryTrafficPercent": 0}}})
        elif self._get() is not None:
            self._client.delete(self.model, namespace=self.namespace)

    def url(self) -> str:
        """Where people ask."""
        return str((self._get() or {}).get("status", {}).get("url", ""))

    def grpc(self) -> str:
        """gRPC's host and port: the same host through the cluster's gateway."""
        return f"{self.url().partition('://')[2]}:80"

    def _get(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.api_instance.get_namespaced_custom_object(*self._path())
        except kubernetes.ApiException as error:
            if error.status == 404:
                return None
            raise ContractViolation(
                f"the cluster does not show the InferenceService {self.model} in {self.namespace} ({error.reason}). "
                "The pipeline's service account needs get, create, patch and delete on it."
            ) from error
        return found

    def _patch(self, body: dict[str, Any]) -> None:
        self._client.api_instance.patch_namespaced_custom_object(*self._path(), body)

    def _path(self) -> tuple[str, str, str, str, str]:
        return "serving.kserve.io", "v1beta1", self.namespace, "inferenceservices", self.model

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = (self._get() or {}).get("status", {}).get("components", {}).get("predictor", {})
        return status

    def _wait(self, done: Any) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if done(self._status()):
                return
            time.sleep(1)
        raise ContractViolation(
            f"the InferenceService {self.model} in {self.namespace} is not ready after {READY_SECONDS:.0f} s. "
            f"See `kubectl describe inferenceservice {self.model} -n {self.namespace}`."
        )


def share_of(status: dict[str, Any], revision: str | None) -> int:
    """Percent of the traffic that a predictor's status says a revision has."""
    return sum(int(t.get("percent", 0)) for t in status.get("traffic", []) if t.get("revisionName") == revision)
