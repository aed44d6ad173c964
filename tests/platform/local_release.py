"""What the tests of local releases share: small models, projects that release them, and load on an endpoint."""

from __future__ import annotations

import collections
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.deployment.release_model.component import release_model
from kfp_lifecycle.components.deployment.release_model.targets import release_to_target
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.client import Answer, Client, v2_request

# What a server's log takes to be written.
FLUSH_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "entity": {"name": "device", "key": "device_id"},
    # A busy machine is slow, and a first version has nobody that is as slow.
    "deployment": {"model": "devices", "requests_per_step": 20, "max_latency_p99_ms": 30_000},
}
INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]
REQUEST = v2_request(INPUTS, [{"temperature": 30.0, "site": "north"}])


def make_model(folder: Path, version: str, slope: float = 1.0) -> Path:
    """A servable model, written in the environment that can."""
    subprocess.run(
        [str(interpreter("modelling")), str(ROOT / "tests" / "tiny_model.py"), str(folder), version, str(slope)],
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    return folder


class Place:
    """A serving folder of its own, and releases to it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.serving = folder / "serving"
        self.predictions = folder / "predictions"
        self.online_store = ""

    def settings(self, **deployment: Any) -> Configuration:
        """What a release is given, with settings of the deployment."""
        values = {**SETTINGS, "deployment": {**SETTINGS["deployment"], "http_port": self.port, **deployment}}
        return given_settings(values, release_model.reads, "release_model")

    def locations(self) -> Locations:
        """Where a release leads."""
        return Locations(
            tracking_uri="sqlite://",
            dataset_remote=str(self.folder),
            online_store=self.online_store,
            prediction_log=str(self.predictions),
            serving=f"local:{self.serving}",
        )

    def release(self, model: Path, **deployment: Any) -> dict[str, Any]:
        """Release a model and read the record."""
        destination = self.folder / f"{model.name}.json"
        destination.parent.mkdir(parents=True, exist_ok=True)
        release_to_target(self.settings(**deployment), self.locations(), model, model.as_uri(), destination)
        record: dict[str, Any] = json.loads(destination.read_text())
        return record

    def ask(self, request: object = REQUEST, headers: dict[str, str] | None = None) -> Answer:
        """One request to the endpoint."""
        with Client(self.port) as client:
            return client.post(
                "/v2/models/devices/infer", request, {"content-type": "application/json"} | (headers or {})
            )

    def logged(self) -> list[dict[str, Any]]:
        """Every prediction of the log, those of a second ago included."""
        time.sleep(2 * FLUSH_SECONDS)
        read = (
            "import json, pathlib, sys; from tests.prediction_logs import read_log; "
            "json.dump(read_log(pathlib.Path(sys.argv[1])), sys.stdout, default=str)"
        )
        done = subprocess.run(
            [str(interpreter("serving")), "-c", read, str(self.predictions)],
            check=True,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows


class Load:
    """Requests from several clients until the block ends; what they got is counted by status and version."""

    def __init__(self, port: int, clients: int = 2) -> None:
        self.port = port
        self.answers: collections.Counter[tuple[int, str]] = collections.Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with Client(self.port) as client:
            while not self._stop.wait(0.005):
                answer = client.post("/v2/models/devices/infer", REQUEST)
                self.answers[answer.status, answer.headers.get("x-model-version", "")] += 1
