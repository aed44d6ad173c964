"""Release to Vertex AI: each version an uploaded model, one endpoint whose traffic split moves."""

from __future__ import annotations

import inspect
import json
import time
from typing import Any

from google.cloud import aiplatform

from components.contract import ContractViolation
from project.production import Deployment, Store, Strategy
from serving import fetch_model
from serving.client import Answer
from serving.inference_service import serving_image
from serving.traffic import Counts, Stage

MACHINE = "n1-standard-2"
HTTP_PORT = 8080
# At 10% of the traffic a version is missed by so many requests in a row once in 40,000 times.
TRIES = 100


class VertexTraffic:
    """A release of one version to an endpoint, which is made when there is none of the model's name."""

    addressable = False

    def __init__(
        self,
        project: str,
        location: str,
        deployment: Deployment,
        stores: Store,
        version: str,
        uri: str,
        **connection: Any,
    ) -> None:
        """Find what is released now.

        Args:
            project: Google Cloud project.
            location: Its region.
            deployment: Name, strategy and replicas.
            stores: Online store and prediction log.
            version: The model's version.
            uri: The model folder in Cloud Storage.
            connection: More for `aiplatform.init`, such as credentials.

        Raises:
            ContractViolation: the strategy or the model's place cannot be had on Vertex AI.
        """
        if deployment.strategy is Strategy.shadow:
            raise ContractViolation(
                "Vertex AI cannot mirror requests: choose deployment.strategy canary or blue_green for this target."
            )
        if not uri.startswith("gs://"):
            raise ContractViolation(
                f"Vertex AI cannot load a model from {uri}: it must be in Cloud Storage (gs://). "
                "Run the pipeline on Vertex AI, so that its artifacts are kept there."
            )
        self.model = deployment.model
        self.candidate = version
        self._deployment, self._stores, self._uri = deployment, stores, uri
        self._image = serving_image()
        aiplatform.init(project=project, location=location, **connection)
        found = aiplatform.Endpoint.list(filter=f'display_name="{self.model}"')
        self._endpoint = found[0] if found else None
        split = dict(self._endpoint.traffic_split) if self._endpoint is not None else {}
        self._ids = {item.display_name: item.id for item in self._endpoint.list_models()} if self._endpoint else {}
        self._champion_id = max(split, key=lambda name: split[name]) if split else None
        self.champion: str | None = next(
            (name.removeprefix(f"{self.model}-") for name, i in self._ids.items() if i == self._champion_id), None
        )

    def start_candidate(self) -> None:
        """Upload and deploy, with no traffic beside a champion."""
        if self._endpoint is None:
            self._endpoint = aiplatform.Endpoint.create(display_name=self.model)
        name = f"{self.model}-{self.candidate}"
        uploaded = aiplatform.Model.upload(display_name=name, **self.container())
        self._endpoint.deploy(
            uploaded,
            deployed_model_display_name=name,
            traffic_percentage=0 if self.champion is not None else 100,
            machine_type=MACHINE,
            min_replica_count=max(1, self._deployment.min_replicas),
            max_replica_count=self._deployment.max_replicas,
        )
        self._ids = {item.display_name: item.id for item in self._endpoint.list_models()}

    def container(self) -> dict[str, Any]:
        """How Vertex AI runs the server: the image holds dependencies, so the container fetches model and code."""
        settings = {
            "model_name": self.model,
            "version": self.candidate,
            "online_store": self._stores.online_store,
            "prediction_log": self._stores.prediction_log,
            "http_port": str(HTTP_PORT),
        }
        return {
            "artifact_uri": self._uri,
            "serving_container_image_uri": self._image,
            "serving_container_command": ["python", "-s", "-c", inspect.getsource(fetch_model)],
            "serving_container_args": [f"--{name}={value}" for name, value in settings.items()],
            "serving_container_predict_route": f"/v1/models/{self.model}:predict",
            "serving_container_health_route": f"/v2/models/{self.model}/ready",
            "serving_container_ports": [HTTP_PORT],
        }

    def shift(self, stage: Stage) -> None:
        """Change the endpoint's split."""
        if self._champion_id is not None:
            self._split({self._id(): stage.percent, self._champion_id: 100 - stage.percent})

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """A v1 request. Vertex AI chooses who answers, by the split, so it is asked until the right version does."""
        assert self._endpoint is not None
        columns = {item["name"]: item["data"] for item in request["inputs"]}
        instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        wanted = self._ids.get(f"{self.model}-{version}")
        for _ in range(TRIES):
            started = time.perf_counter()
            try:
                answer = self._endpoint.predict(instances, parameters={"shadow": True})
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
        """All traffic; the champion stays deployed for a return, older ones go."""
        assert self._endpoint is not None
        self._split({self._id(): 100})
        for identifier in self._ids.values():
            if identifier not in (self._id(), self._champion_id):
                self._endpoint.undeploy(identifier)

    def withdraw(self) -> None:
        """All traffic to the champion; the candidate is undeployed."""
        if self._endpoint is None:
            return
        if self._champion_id is not None:
            self._split({self._champion_id: 100})
        if f"{self.model}-{self.candidate}" in self._ids:
            self._endpoint.undeploy(self._id())

    def url(self) -> str:
        """Where people ask."""
        assert self._endpoint is not None
        location = self._endpoint.location
        return f"https://{location}-aiplatform.googleapis.com/v1/{self._endpoint.resource_name}:predict"

    def _id(self) -> str:
        return str(self._ids[f"{self.model}-{self.candidate}"])

    def _split(self, percentages: dict[str, int]) -> None:
        assert self._endpoint is not None
        named = {identifier: percent for identifier, percent in percentages.items() if percent > 0}
        self._endpoint.update(traffic_split=named)
