"""Vertex AI traffic: each version one of a model in the Model Registry, one endpoint whose traffic split moves."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from google.cloud import aiplatform
from google.cloud.aiplatform.explain import ExplanationMetadata, ExplanationParameters
from google.cloud.aiplatform_v1.types import DeployedModel

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_VARIABLE, Answer
from kfp_lifecycle.serving.container import serving_container
from kfp_lifecycle.serving.release.traffic import Counts, Return, Stage
from kfp_lifecycle.serving.release.vertex.registry import crown, newest_variable, remove_old, upload_version
from kfp_lifecycle.serving.server_secrets import server_variables

HTTP_PORT = 8080
# Where steps find every bucket as a folder. Nothing is mounted into what serves: there a bucket is reached by its API.
MOUNTED_BUCKETS = "/gcs/"
# At 10% of the traffic a version is missed by so many requests in a row once in 40,000 times.
TRIES = 100


class VertexTraffic:
    """A release of one version to an endpoint, which is made when there is none of the model's name."""

    addressable = False
    champion_stays = False
    counts_come_late = False

    def __init__(
        self,
        project: str,
        location: str,
        deployment: Deployment,
        locations: Locations,
        version: str,
        uri: str,
        inputs: Sequence[Feature] = (),
        **connection: Any,
    ) -> None:
        """Find what is released now.

        Args:
            project: Google Cloud project.
            location: Its region.
            deployment: Name, strategy and replicas.
            locations: Online store and prediction log.
            version: The model's version.
            uri: The model folder in Cloud Storage.
            inputs: What its explanations are about.
            connection: More for `aiplatform.init`, such as credentials.

        Raises:
            ContractViolation: the model's place cannot be had on Vertex AI.
        """
        if not uri.startswith("gs://"):
            raise ContractViolation(
                f"Vertex AI cannot load a model from {uri}: it must be in Cloud Storage (gs://). "
                "Run the pipeline on Vertex AI, so that its artifacts are kept there."
            )
        self.model = deployment.model
        self.candidate = version
        self._deployment, self._locations, self._uri, self._inputs = deployment, locations, uri, inputs
        self._container = serving_container()
        self._endpoint = find_endpoint(project, location, self.model, **connection)
        self._deployed = deployed_models(self._endpoint)
        self._champion, self._before = champion_and_before(self._endpoint)
        self._new: DeployedModel | None = None
        # The champion's servers know the token that they were started with.
        self._shadow_token = newest_variable(self.model, SHADOW_TOKEN_VARIABLE) or token_hex(16)
        self.champion = version_of(self._champion, self.model)

    def keep_champion(self) -> str | None:
        """Leave the champion all traffic.

        Returns:
            The version that it can be returned to.
        """
        assert self._champion is not None
        self._split({self._champion.id: 100})
        return version_of(self._before, self.model)

    def start_candidate(self) -> None:
        """Upload and deploy, with no traffic beside a champion."""
        servers = self._container.vertex
        if self._endpoint is None:
            self._endpoint = self._new_endpoint()
        uploaded = upload_version(
            self.model,
            self.candidate,
            self.container(),
            labels=servers.labels,
            encryption_key=servers.encryption_key,
        )
        known = {item.id for item in self._deployed}
        accelerator = servers.accelerator
        self._endpoint.deploy(
            uploaded,
            deployed_model_display_name=f"{self.model}-{self.candidate}",
            traffic_percentage=0 if self.champion is not None else 100,
            machine_type=servers.machine_type,
            accelerator_type=accelerator.type if accelerator else None,
            accelerator_count=accelerator.count if accelerator else None,
            service_account=servers.service_account or None,
            min_replica_count=max(1, self._deployment.min_replicas),
            max_replica_count=self._deployment.max_replicas,
        )
        (self._new,) = (item for item in deployed_models(self._endpoint) if item.id not in known)

    def _new_endpoint(self) -> aiplatform.Endpoint:
        servers = self._container.vertex
        logged: dict[str, Any] = {
            "enable_request_response_logging": True,
            "request_response_logging_sampling_rate": servers.request_log_share,
            "request_response_logging_bq_destination_table": servers.request_log,
        }
        return aiplatform.Endpoint.create(
            display_name=self.model,
            labels=dict(servers.labels),
            encryption_spec_key_name=servers.encryption_key or None,
            **(logged if servers.request_log else {}),
        )

    def container(self) -> dict[str, Any]:
        """How Vertex AI runs the server: the container fetches model and code, and installs what its image lacks."""
        settings = {
            "model_name": self.model,
            "version": self.candidate,
            "online_store": self._locations.online_store,
            "prediction_log": log_location(self._locations.prediction_log),
            "http_port": str(HTTP_PORT),
            **self._deployment.server_arguments(),
        }
        return {
            "artifact_uri": self._uri,
            "serving_container_image_uri": self._container.image,
            "serving_container_command": self._container.command,
            "serving_container_environment_variables": {
                SHADOW_TOKEN_VARIABLE: self._shadow_token,
                **self._container.variables,
                **{name: self._container.references[name] for name in self._secrets()},
            },
            "serving_container_args": [f"--{name}={value}" for name, value in settings.items()],
            "serving_container_predict_route": f"/v1/models/{self.model}:predict",
            "serving_container_health_route": f"/v2/models/{self.model}/ready",
            "serving_container_ports": [HTTP_PORT],
            **self._explanations(),
        }

    def _explanations(self) -> dict[str, Any]:
        """What Vertex AI has to know of the model to explain its scores; nothing where it is not to."""
        paths = self._container.vertex.explanation_paths
        if paths is None:
            return {}
        return {
            "explanation_metadata": ExplanationMetadata(
                inputs={item.name: {} for item in self._inputs}, outputs={"score": {}}
            ),
            "explanation_parameters": ExplanationParameters({"sampled_shapley_attribution": {"path_count": paths}}),
        }

    def _secrets(self) -> list[str]:
        """Variables that the server needs for its stores, of those that are references to secrets."""
        wanted = server_variables(self._deployment, self._locations.online_store, self._locations.prediction_log)
        return [name for name in wanted if name in self._container.references]

    def shift(self, stage: Stage) -> None:
        """Change the endpoint's split."""
        if self._champion is not None:
            self._split({self._candidate_id(): stage.percent, self._champion.id: 100 - stage.percent})

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """A v1 request. Vertex AI chooses who answers, by the split, so it is asked until the right version does."""
        assert self._endpoint is not None
        columns = {item["name"]: item["data"] for item in request["inputs"]}
        instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        champion = self._champion.id if self._champion is not None else None
        wanted = self._candidate_id() if version == self.candidate else champion
        for _ in range(TRIES):
            started = time.perf_counter()
            try:
                answer = self._endpoint.predict(instances, parameters={"shadow": self._shadow_token})
            except Exception as error:  # the client's errors share no base class with those of its transport
                return Answer(0, f"{type(error).__name__}: {error}", time.perf_counter() - started, {})
            if answer.deployed_model_id == wanted:
                scores = [float(item["score"]) for item in answer.predictions]
                body = json.dumps({"outputs": [{"name": "score", "data": scores}]})
                return Answer(200, body, time.perf_counter() - started, {})
        return Answer(0, f"version {version} was not reached in {TRIES} requests", 0.0, {})

    def counts(self, version: str) -> Counts:
        """Vertex AI's counts arrive minutes late: the release's own requests decide."""
        return Counts()

    def promote(self) -> None:
        """All traffic, and the registry's alias; the champion stays deployed for a return, others go, and of versions
        those that are too many."""
        assert self._endpoint is not None
        self._split({self._candidate_id(): 100})
        for item in self._deployed:
            if self._champion is None or item.id != self._champion.id:
                self._endpoint.undeploy(item.id)
        assert self._new is not None
        crown(self.model, self._new.model_version_id)
        released = [item.model_version_id for item in deployed_models(self._endpoint)]
        remove_old(self.model, self._container.vertex.keep_versions, released)

    def withdraw(self) -> None:
        """All traffic to the champion; the candidate is undeployed."""
        if self._endpoint is None:
            return
        if self._champion is not None:
            self._split({self._champion.id: 100})
        if self._new is not None:
            self._endpoint.undeploy(self._new.id)

    def url(self) -> str:
        """Where people ask."""
        assert self._endpoint is not None
        return url_of(self._endpoint)

    def _candidate_id(self) -> str:
        assert self._new is not None
        return str(self._new.id)

    def _split(self, percentages: dict[str, int]) -> None:
        assert self._endpoint is not None
        give_traffic(self._endpoint, percentages)


def return_traffic(project: str, location: str, model: str, **connection: Any) -> Return:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Args:
        project: Google Cloud project.
        location: Its region.
        model: The model's name.
        connection: More for `aiplatform.init`, such as credentials.

    Raises:
        ContractViolation: the model is not released there, or no other version of it is deployed.
    """
    endpoint = find_endpoint(project, location, model, **connection)
    if endpoint is None:
        raise ContractViolation(
            f"{model} is not released in {project}/{location}. Look for it with "
            f"`gcloud ai endpoints list --project={project} --region={location}`."
        )
    champion, before = champion_and_before(endpoint)
    interrupted = len(with_traffic(endpoint)) > 1
    # A release that was cut off leaves its champion a part of the traffic: that is the version to return to.
    target, leaving = (champion, with_traffic(endpoint)[-1]) if interrupted else (before, champion)
    version, left = version_of(target, model), version_of(leaving, model)
    if target is None or version is None or left is None:
        raise ContractViolation(
            f"{model} has no version to return to in {project}/{location}: no other one is deployed to its endpoint. "
            "Release the version you want again: traffic moves by the same stages."
        )
    give_traffic(endpoint, {target.id: 100})
    crown(model, target.model_version_id)
    return Return(url_of(endpoint), "", version, left)


def log_location(location: str) -> str:
    """The prediction log as a server finds it."""
    inside = location.removeprefix(MOUNTED_BUCKETS)
    return f"gs://{inside}" if inside != location else location


def find_endpoint(project: str, location: str, model: str, **connection: Any) -> aiplatform.Endpoint | None:
    """The endpoint of a model's name."""
    aiplatform.init(project=project, location=location, **connection)
    found = aiplatform.Endpoint.list(filter=f'display_name="{model}"')
    return found[0] if found else None


def deployed_models(endpoint: aiplatform.Endpoint | None) -> list[DeployedModel]:
    """What is deployed to an endpoint, the oldest first."""
    return sorted(endpoint.list_models(), key=lambda item: item.create_time) if endpoint is not None else []


def with_traffic(endpoint: aiplatform.Endpoint | None) -> list[DeployedModel]:
    """What has a part of an endpoint's traffic, the oldest first."""
    split = dict(endpoint.traffic_split) if endpoint is not None else {}
    return [item for item in deployed_models(endpoint) if split.get(item.id, 0) > 0]


def champion_and_before(endpoint: aiplatform.Endpoint | None) -> tuple[DeployedModel | None, DeployedModel | None]:
    """The deployed model with the traffic, in a release that was cut off the older one, and the newest without any."""
    serving = with_traffic(endpoint)
    idle = [item for item in deployed_models(endpoint) if item.id not in {other.id for other in serving}]
    return serving[0] if serving else None, idle[-1] if idle else None


def version_of(item: DeployedModel | None, model: str) -> str | None:
    """The version that a deployed model's name tells."""
    return str(item.display_name).removeprefix(f"{model}-") if item is not None else None


def give_traffic(endpoint: aiplatform.Endpoint, percentages: dict[str, int]) -> None:
    """Change an endpoint's split; returns when the endpoint has it.

    Raises:
        ContractViolation: it has another one.
    """
    wanted = {identifier: percent for identifier, percent in percentages.items() if percent > 0}
    endpoint.update(traffic_split=wanted)
    split = {identifier: percent for identifier, percent in dict(endpoint.traffic_split).items() if percent > 0}
    if split != wanted:
        raise ContractViolation(
            f"the endpoint {endpoint.resource_name} divides its traffic as {split} although it was told {wanted}: "
            "somebody else changes it too. Let one release end before the next one."
        )


def url_of(endpoint: aiplatform.Endpoint) -> str:
    """Where people ask."""
    return f"https://{endpoint.location}-aiplatform.googleapis.com/v1/{endpoint.resource_name}:predict"
