"""A version's pods, as both of KServe's modes take them: one container, what it may do, how its health is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kserve import V1beta1LoggerSpec, V1beta1PredictorSpec
from kubernetes import client as kubernetes

from kfp_lifecycle.config.deployment import Deployment, LogSettings
from kfp_lifecycle.config.kserve_servers import KServeServers, Mode
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.connections.object_store import is_object_store
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_VARIABLE, digest
from kfp_lifecycle.serving.container import USER, Container
from kfp_lifecycle.serving.payload_logger import ANNOTATION, HEADERS, LoggedModel
from kfp_lifecycle.serving.server_secrets import server_variables

# KServe puts the model folder here.
MODEL_FOLDER = "/mnt/models"
HTTP_PORT, GRPC_PORT, SHADOW_PORT = 8080, 8081, 8082
# Where a server may write: Python packages of a stock image (870 MB), and the spool of the prediction log.
SCRATCH, SCRATCH_SIZE = "/tmp", "2Gi"
# A container that installs its packages first takes a minute or two.
INSTALL_SECONDS = 600
PERIOD_SECONDS = 5
# How long a pod that is to end goes on answering, until no gateway sends it anything more.
DRAIN_SECONDS = 5
# Where nothing is written.
NO_LOG = f"{SCRATCH}/predictions"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"


def labels(model: str) -> dict[str, str]:
    """Kubernetes' standard labels of what serves a model."""
    return {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/managed-by": "kfp-lifecycle",
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


def predictor(
    deployment: Deployment,
    locations: Locations,
    *,
    version: str,
    uri: str,
    logged: LoggedModel,
    container: Container,
    shadow_token: str,
) -> V1beta1PredictorSpec:
    """The pods of a version, without a share of the traffic.

    Args:
        deployment: Name, replicas and what is logged.
        locations: Online store and prediction log of the cluster.
        version: The model's version.
        uri: The model folder's artifact URI.
        logged: The model, for whoever writes the prediction log instead of its servers.
        container: What it runs on, with its volumes, service account and secrets; of these it gets those that the
            online store's location and the server's settings name, and those that the prediction log needs. Code comes
            with the model.
        shadow_token: What marks the release's own requests, which nobody acts on. Whoever may read the service in its
            namespace can read it, and mark requests too.
    """
    servers = container.kserve
    standard = servers.mode is Mode.standard
    logger, annotation = _logger(deployment, servers, logged, shadow_token)
    claims = container.volumes
    if logger is not None:
        claims = {claim: place for claim, place in claims.items() if not _is_below(locations.prediction_log, place)}
        deployment = deployment.model_copy(update={"prediction_log": LogSettings(enabled=False)})
        locations = locations.model_copy(update={"prediction_log": NO_LOG})
    mounts, sources = _volumes(locations.prediction_log, claims)
    server = kubernetes.V1Container(
        name="kserve-container",
        image=container.image,
        command=container.command,
        args=[f"--{name}={value}" for name, value in _settings(deployment, locations, version, standard).items()],
        env=_variables(deployment, locations, uri, container, shadow_token),
        volume_mounts=mounts,
        ports=_ports(standard),
        **_probes(deployment.model, container, standard),
        resources=kubernetes.V1ResourceRequirements(
            requests={"cpu": servers.cpu, "memory": servers.memory},
            limits={
                **({"cpu": servers.cpu_limit} if servers.cpu_limit else {}),
                "memory": servers.memory_limit,
            },
        ),
        # What the Restricted standard asks, all of it here: Knative takes no security context of a pod by default.
        security_context=kubernetes.V1SecurityContext(
            allow_privilege_escalation=False,
            privileged=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            # An image of our own has its user; a cluster may insist on choosing another.
            run_as_user=USER if container.is_stock else None,
            capabilities=kubernetes.V1Capabilities(drop=["ALL"]),
            seccomp_profile=kubernetes.V1SeccompProfile(type="RuntimeDefault"),
        ),
    )
    if standard:
        server.lifecycle = {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}
    return V1beta1PredictorSpec(
        labels={"app.kubernetes.io/version": version[:63].rstrip("._-")},
        annotations={
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(HTTP_PORT),
            "prometheus.io/path": "/metrics",
            **annotation,
        },
        min_replicas=deployment.min_replicas,
        max_replicas=deployment.max_replicas,
        **_scaled(servers),
        container_concurrency=servers.concurrency,
        timeout=servers.timeout_seconds,
        logger=logger,
        service_account_name=servers.service_account or None,
        containers=[server],
        volumes=sources,
        **(_spread(deployment.model) if standard else {}),
    )


def _settings(deployment: Deployment, locations: Locations, version: str, standard: bool) -> dict[str, str]:
    return {
        "model_name": deployment.model,
        "version": version,
        "online_store": locations.online_store,
        "prediction_log": locations.prediction_log,
        "http_port": str(HTTP_PORT),
        "grpc_port": str(GRPC_PORT),
        **({"shadow_port": str(SHADOW_PORT)} if standard else {}),
        **deployment.server_arguments(),
    }


def _variables(
    deployment: Deployment, locations: Locations, uri: str, container: Container, shadow_token: str
) -> list[kubernetes.V1EnvVar]:
    said = {
        "STORAGE_URI": storage_uri(uri),
        "MODEL_FOLDER": MODEL_FOLDER,
        SHADOW_TOKEN_VARIABLE: shadow_token,
        **container.variables,
    }
    wanted = server_variables(deployment, locations.online_store, locations.prediction_log)
    return [
        *(kubernetes.V1EnvVar(name=name, value=value) for name, value in said.items()),
        *_of_secrets(wanted, container.secrets),
    ]


def _of_secrets(variables: Collection[str], secrets: Mapping[str, Mapping[str, str]]) -> Iterator[kubernetes.V1EnvVar]:
    for secret, keys in secrets.items():
        for key, variable in keys.items():
            if variable in variables:
                source = kubernetes.V1SecretKeySelector(name=secret, key=key)
                yield kubernetes.V1EnvVar(name=variable, value_from=kubernetes.V1EnvVarSource(secret_key_ref=source))


def _volumes(
    prediction_log: str, claims: Mapping[str, str]
) -> tuple[list[kubernetes.V1VolumeMount], list[kubernetes.V1Volume]]:
    mounts = [kubernetes.V1VolumeMount(name=claim, mount_path=place) for claim, place in claims.items()]
    sources = [
        kubernetes.V1Volume(
            name=claim,
            persistent_volume_claim=kubernetes.V1PersistentVolumeClaimVolumeSource(claim_name=claim),
        )
        for claim in claims
    ]
    # All else is read-only.
    scratch = {"scratch": SCRATCH}
    kept = any(_is_below(prediction_log, place) for place in (*claims.values(), SCRATCH))
    if not kept and not is_object_store(prediction_log):
        scratch["prediction-log"] = prediction_log
    for name, place in scratch.items():
        mounts.append(kubernetes.V1VolumeMount(name=name, mount_path=place))
        size = kubernetes.V1EmptyDirVolumeSource(size_limit=SCRATCH_SIZE)
        sources.append(kubernetes.V1Volume(name=name, empty_dir=size))
    return mounts, sources


def _logger(
    deployment: Deployment, servers: KServeServers, logged: LoggedModel, shadow_token: str
) -> tuple[V1beta1LoggerSpec | None, dict[str, str]]:
    """KServe's payload logger where it is wanted, and the annotation by which its events are understood."""
    if not servers.log_collector or not deployment.prediction_log.enabled:
        return None, {}
    told = logged.model_copy(
        update={
            "settings": deployment.prediction_log,
            "shadow": digest(shadow_token),
            **deployment.server.model_dump(include={"hold_out", "trusted_proxies"}),
        }
    )
    logger = V1beta1LoggerSpec(
        mode=told.mode, url=servers.log_collector, metadata_headers=list(HEADERS), metadata_annotations=[ANNOTATION]
    )
    return logger, {ANNOTATION: told.written()}


def _is_below(place: str, folder: str) -> bool:
    return Path(place).is_relative_to(folder)


def _ports(standard: bool) -> list[kubernetes.V1ContainerPort]:
    rest = kubernetes.V1ContainerPort(container_port=HTTP_PORT, name="http1", protocol="TCP")
    if not standard:
        # Knative takes one.
        return [rest]
    return [
        rest,
        # By its name KServe tells the gateway to speak HTTP/2 there.
        kubernetes.V1ContainerPort(container_port=GRPC_PORT, name="h2c-grpc", protocol="TCP"),
        kubernetes.V1ContainerPort(container_port=SHADOW_PORT, name="http1-shadow", protocol="TCP"),
    ]


def _probes(model: str, container: Container, standard: bool) -> dict[str, kubernetes.V1Probe]:
    """Readiness, life and, where the mode has it, the start."""
    ready = kubernetes.V1HTTPGetAction(path=f"/v2/models/{model}/ready", port=HTTP_PORT)
    live = kubernetes.V1HTTPGetAction(path="/v2/health/live", port=HTTP_PORT)
    probes = {
        "readiness_probe": kubernetes.V1Probe(http_get=ready, period_seconds=PERIOD_SECONDS, timeout_seconds=2),
        "liveness_probe": kubernetes.V1Probe(http_get=live, period_seconds=10, timeout_seconds=5, failure_threshold=6),
    }
    if standard:
        patience = INSTALL_SECONDS // PERIOD_SECONDS
        probes["startup_probe"] = kubernetes.V1Probe(
            http_get=live, period_seconds=PERIOD_SECONDS, timeout_seconds=2, failure_threshold=patience
        )
    else:
        # Knative does not take a startup probe in every version: what installs packages first is left alone meanwhile.
        probes["liveness_probe"].initial_delay_seconds = INSTALL_SECONDS if container.is_stock else 30
    return probes


def _scaled(servers: KServeServers) -> dict[str, Any]:
    scaling = servers.scaling
    if scaling is None:
        return {}
    if servers.mode is Mode.knative:
        return {"scale_metric": scaling.metric, "scale_target": scaling.target}
    target = {"type": "Utilization", "averageUtilization": scaling.target}
    resource = {"type": "Resource", "resource": {"name": scaling.metric, "target": target}}
    return {"auto_scaling": {"metrics": [resource]}}


def _spread(model: str) -> dict[str, Any]:
    """Pods on different nodes and zones where there are some, and one more before one goes."""
    selector = {"matchLabels": {SERVICE_LABEL: model}}
    return {
        "topology_spread_constraints": [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "deployment_strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "termination_grace_period_seconds": DRAIN_SECONDS + 40,
    }


def disruption_budget(namespace: str, model: str, most_away: int) -> dict[str, Any]:
    """How many pods of a model may be away at once while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"{model}-servers", "namespace": namespace, "labels": labels(model)},
        "spec": {
            "maxUnavailable": most_away,
            # One that does not answer anyway keeps no node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {SERVICE_LABEL: model}},
        },
    }
