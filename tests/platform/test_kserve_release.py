"""Whole releases to KServe and the way back, by its own client, against a stand-in for the cluster."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kserve_cluster import Cluster, InferenceService, serve
from kubernetes.config import kube_config
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.serving import Example, Latency, ServerStart, ServingTrial
from kfp_lifecycle.components.deployment.release_model.component import release_model
from kfp_lifecycle.components.deployment.release_model.targets import release_to_target
from kfp_lifecycle.components.deployment.rollback_model.reversal import roll_back
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.container import IMAGE_VARIABLE, KSERVE_VARIABLE
from kfp_lifecycle.serving.ports import free_ports
from kfp_lifecycle.serving.release.kserve import live_service
from kfp_lifecycle.serving.server.metrics import ModelMetrics

LOCATIONS = Locations(
    tracking_uri="http://mlflow",
    dataset_remote="s3://datasets",
    online_store="redis://redis:6379",
    prediction_log="/predictions",
    serving="kserve:models",
)


class Place:
    """A place whose models are released to the stand-in."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder

    @property
    def service(self) -> InferenceService:
        return self.cluster.services["models", "devices"]

    def settings(self, **deployment: Any) -> Configuration:
        # A busy machine is slow, and a first version has nobody that is as slow.
        usual = {"model": "devices", "requests_per_step": 5, "steps": [20, 100], "max_latency_p99_ms": 60_000}
        values = {"entity": {"name": "device", "key": "device_id"}, "deployment": {**usual, **deployment}}
        return given_settings(values, release_model.reads, "release_model")

    def release(self, version: str, served: float = 0.5, **deployment: Any) -> dict[str, Any]:
        """Release a version that was registered with the score 0.5."""
        self.cluster.scores[version] = served
        model = self.folder / f"model-{version}"
        model.mkdir(exist_ok=True)
        inputs = [Feature("temperature", "numeric")]
        Model(model="devices", version=version, inputs=inputs, threshold=0.5).write(model)
        latency = Latency(p50_ms=1, p95_ms=1, p99_ms=1, requests=1, clients=1)
        ServingTrial(
            latency=latency,
            concurrent_latency=latency,
            server=ServerStart(ready_seconds=1, peak_memory_mb=None),
            examples=[Example(features={"temperature": 1}, score=0.5)],
        ).write(model)
        record = self.folder / "deployment.json"
        release_to_target(self.settings(**deployment), LOCATIONS, model, f"s3://bucket/model-{version}", record)
        found: dict[str, Any] = json.loads(record.read_text())
        return found

    def back(self) -> dict[str, Any]:
        """Run the rollback step."""
        record = self.folder / "rollback.json"
        roll_back(self.settings(), LOCATIONS, record)
        found: dict[str, Any] = json.loads(record.read_text())
        return found


def resolving(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the names inside a cluster lead to a port of this machine."""
    connect = socket.create_connection

    def resolve(address: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
        inside = address[0].endswith(".svc.cluster.local")
        return connect(("127.0.0.1", port) if inside else address, *rest, **more)

    monkeypatch.setattr(socket, "create_connection", resolve)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    cluster = Cluster()
    server = serve(cluster)
    access = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(access))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(live_service, "POLL_SECONDS", 0.0)
    monkeypatch.setenv(IMAGE_VARIABLE, "registry/serving:1")
    resolving(server.server_port, monkeypatch)
    yield Place(cluster, tmp_path)
    server.shutdown()
    server.server_close()


class People:
    """What people ask of two versions, as their servers would count it, and a Prometheus that scrapes them."""

    def __init__(self, folder: Path, broken: str = "") -> None:
        """Scrape versions 1 and 2.

        Args:
            folder: Prometheus's.
            broken: The version that fails for every other request.
        """
        (self.port,) = free_ports(1)
        self._folder = folder
        self._broken = broken
        self._registries = {version: CollectorRegistry() for version in "12"}
        self._metrics = {version: ModelMetrics("devices", version) for version in "12"}
        for version, metrics in self._metrics.items():
            self._registries[version].register(metrics)

    def scraped(self, version: str) -> bytes:
        """The version's metrics; at each look people have asked 40 times more, and a release as often."""
        for number in range(40):
            fails = version == self._broken and number % 2
            self._metrics[version].observe_request("v2", "500" if fails else "200", 0.004, shadow=False)
            self._metrics[version].observe_request("v2", "500", 9.0, shadow=True)
        return generate_latest(self._registries[version])

    def _both_are_seen(self, client: Client) -> bool:
        asked = client.get("/api/v1/query?query=count(count+by+(model_version)+(inference_requests_total))")
        return asked.status == 200 and '"2"]' in asked.body

    @contextlib.contextmanager
    def counted(self) -> Iterator[str]:
        """The address of a real Prometheus."""
        people = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = people.scraped(self.path.rpartition("/")[2])
                self.send_response(200)
                self.send_header("content-type", CONTENT_TYPE_LATEST)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=servers.serve_forever, args=(0.01,), daemon=True).start()
        target = {"targets": [f"127.0.0.1:{servers.server_port}"], "labels": {"namespace": "models"}}
        jobs = [
            {"job_name": version, "metrics_path": f"/{version}", "static_configs": [target]}
            for version in self._metrics
        ]
        # A look that is not answered in time would take the version's counts away, on a busy machine.
        told = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": jobs}
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
        command = ["prometheus", f"--config.file={self._folder / 'prometheus.yaml'}", "--log.level=error"]
        command += [f"--storage.tsdb.path={self._folder / 'series'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        running = subprocess.Popen(command, cwd=self._folder)
        try:
            deadline = time.monotonic() + 60
            with Client(self.port) as client:
                while not self._both_are_seen(client):
                    assert time.monotonic() < deadline, "Prometheus sees no counts of both versions"
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{self.port}"
        finally:
            running.terminate()
            running.wait()
            servers.shutdown()
            servers.server_close()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus")
@pytest.mark.parametrize("broken", ["", "2"])
def test_what_prometheus_counts_of_people_s_requests_decides_too(
    place: Place, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    place.release("1")
    with People(place.folder, broken).counted() as address:
        monkeypatch.setenv(KSERVE_VARIABLE, json.dumps({"prometheus": address}))
        if broken:
            with pytest.raises(ContractViolation, match=r"(?s)with 20% .* more server errors than the champion's"):
                place.release("2", min_real_requests=80)
            assert place.service.shares() == {"1": 100}
        else:
            steps = place.release("2", min_real_requests=80)["steps"]
            assert steps[0]["real_requests"] >= 80
            assert steps[0]["errors"] == 0


def test_a_prometheus_that_does_not_answer_ends_the_release_and_the_champion_keeps_all_traffic(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.release("1")
    (nobody,) = free_ports(1)
    monkeypatch.setenv(KSERVE_VARIABLE, json.dumps({"prometheus": f"http://127.0.0.1:{nobody}"}))
    with pytest.raises(ContractViolation, match=r"leave targets\.kubeflow\.servers\.prometheus out"):
        place.release("2")
    assert place.service.shares() == {"1": 100}


def test_a_first_version_gets_all_traffic_and_a_second_one_by_steps(place: Place) -> None:
    first = place.release("1")
    assert (first["version"], first["previous_version"]) == ("1", None)
    assert [step["percent"] for step in first["steps"]] == [100]
    # Knative takes one port, so that no address of gRPC is promised.
    assert (first["url"], first["grpc"]) == ("http://devices.models.example.com", "")
    assert place.cluster.budgets["devices-servers"]["spec"]["maxUnavailable"] == 1
    second = place.release("2")
    assert (second["version"], second["previous_version"]) == ("2", "1")
    assert [step["percent"] for step in second["steps"]] == [20, 100]
    assert place.service.shares() == {"2": 100}
    # Promotion is no change of the template: the champion's pods are those that were watched.
    assert len(place.service.revisions) == 2
    # At the first step both were asked; at the last there is no way to a champion without traffic.
    assert place.cluster.asked.count("1") == 5 + 1 + 5


def test_every_version_believes_a_release_that_its_own_requests_are_nobodys(place: Place) -> None:
    for version in ("1", "2", "3"):
        place.release(version)
    assert set(place.cluster.asked) == {"1", "2", "3"}
    assert all(place.cluster.believed)


@pytest.mark.parametrize("strategy", ["canary", "blue_green"])
def test_a_breach_gives_all_traffic_back(place: Place, strategy: str) -> None:
    place.release("1")
    with pytest.raises(ContractViolation, match="All traffic is back with the champion, version 1"):
        place.release("2", served=0.9, strategy=strategy)
    assert place.service.shares() == {"1": 100}
    assert place.service.body["spec"]["predictor"]["minReplicas"] == 0
    with pytest.raises(ContractViolation, match="no version to return to"):
        place.back()
    # The next candidate starts from the champion.
    third = place.release("3")
    assert (third["version"], third["previous_version"]) == ("3", "1")
    assert place.service.body["spec"]["predictor"]["minReplicas"] == 2


def test_a_breach_with_all_traffic_gives_it_back_too(place: Place) -> None:
    place.release("1")

    with pytest.raises(ContractViolation, match="with 100% of the traffic"):
        place.release("2", served=0.9, steps=[100])
    assert place.service.shares() == {"1": 100}
    with pytest.raises(ContractViolation, match="no version to return to"):
        place.back()


def test_a_first_version_that_fails_leaves_nothing_behind(place: Place) -> None:
    with pytest.raises(ContractViolation, match="no champion to return to"):
        place.release("1", served=0.9)
    assert place.cluster.services == {}


def test_a_version_that_does_not_come_up_is_told_with_the_cluster_s_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.release("1")
    monkeypatch.setattr(live_service, "READY_SECONDS", 0.2)
    place.cluster.broken.add("2")
    with pytest.raises(ContractViolation, match="not ready after 0 s: no module named serving"):
        place.release("2")
    assert place.service.shares() == {"1": 100}


def test_a_release_that_is_done_again_changes_nothing(place: Place) -> None:
    place.release("1")
    place.release("2")
    again = place.release("2")
    assert (again["version"], again["previous_version"], again["steps"]) == ("2", "1", [])
    assert len(place.service.revisions) == 2


def test_a_rollback_returns_to_the_version_before_and_a_second_one_undoes_it(place: Place) -> None:
    place.release("1")
    place.release("2")
    back = place.back()
    assert (back["version"], back["previous_version"], back["strategy"]) == ("1", "2", "rollback")
    assert back["url"] == "http://devices.models.example.com"
    assert place.service.shares() == {"1": 100}
    again = place.back()
    assert (again["version"], again["previous_version"]) == ("2", "1")
    assert place.service.shares() == {"2": 100}
    assert place.back()["version"] == "1"


def test_after_a_rollback_the_next_release_starts_from_the_version_that_serves(place: Place) -> None:
    place.release("1")
    place.release("2")
    place.back()
    third = place.release("3")
    assert (third["version"], third["previous_version"]) == ("3", "1")
    assert place.back()["version"] == "1"
    # The version that was left, released once more, is another revision.
    assert place.release("3")["previous_version"] == "1"
    assert place.service.shares() == {"3": 100}


def test_a_release_that_was_cut_off_is_rolled_back_to_its_champion(place: Place) -> None:
    place.release("1")
    place.release("2")
    place.cluster.scores["3"] = 0.5
    place.service.body["spec"]["predictor"]["canaryTrafficPercent"] = 50
    annotations = place.service.body["metadata"]["annotations"]
    annotations.update({live_service.VERSION: "3", live_service.VERSION_BEFORE: "2"})
    arguments = place.service.body["spec"]["predictor"]["containers"][0]["args"]
    arguments[:] = [item.replace("--version=2", "--version=3") for item in arguments]
    for _ in range(2):
        place.service.reconcile()
    assert place.service.shares() == {"2": 50, "3": 50}
    back = place.back()
    assert (back["version"], back["previous_version"]) == ("2", "3")
    assert place.service.shares() == {"2": 100}


def test_without_a_version_before_a_rollback_says_what_to_do(place: Place) -> None:
    with pytest.raises(ContractViolation, match="not released in the namespace models"):
        place.back()
    place.release("1")
    with pytest.raises(ContractViolation, match="Release the version you want again"):
        place.back()
    assert not (place.folder / "rollback.json").exists()
    assert place.service.shares() == {"1": 100}


def test_a_service_that_no_release_made_is_left_alone(place: Place) -> None:
    place.release("1")
    annotations = place.service.body["metadata"]["annotations"]
    del annotations[live_service.VERSION]
    with pytest.raises(ContractViolation, match="not made by a release"):
        place.release("2")
    assert place.service.shares() == {"1": 100}


def test_an_account_that_may_not_is_told_which_rights_it_needs(place: Place) -> None:
    place.release("1")
    place.cluster.forbidden.add("PATCH")
    with pytest.raises(ContractViolation, match="needs get, create, patch and delete"):
        place.release("2")
    place.cluster.forbidden.add("GET")
    with pytest.raises(ContractViolation, match="403: GET is forbidden"):
        place.back()
