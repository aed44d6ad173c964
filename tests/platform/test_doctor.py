"""What `lifecycle doctor` finds on a Kubeflow: by its API, by a real Kubernetes API server, and from a pod."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client as kubernetes

from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.kubeflow.doctor import examine_from_a_pod, examine_kubeflow, rooms_of
from kfp_lifecycle.backends.kubeflow.namespace import StepRoom, examine_namespace
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.components.operations.check_stores.reachability import check
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.targets import KubeflowTarget
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.kubeflow import Fault, KubeflowStandIn
from tests.kubernetes_api import ACCOUNT, ADMIN, ApiServer, kubernetes_api
from tests.servers import redis, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
NAMESPACE = "team"
STEPS = [
    StepRoom("ingest-data", {"cpu": "500m", "memory": "1Gi"}, {}),
    StepRoom("train-model", {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}, {"memory": "8Gi"}),
]
NEEDS = [
    f"targets.kubeflow.namespace={NAMESPACE}",
    "targets.kubeflow.service_account=runs",
    "targets.kubeflow.secrets={s3: {id: AWS_ACCESS_KEY_ID, key: AWS_SECRET_ACCESS_KEY}}",
    "targets.kubeflow.config_maps={proxy: {url: HTTPS_PROXY}}",
    "targets.kubeflow.pull_secrets=[registry]",
    "targets.kubeflow.volumes={data: /data}",
]


def configuration(*overrides: str) -> Configuration:
    return load_configuration(ROOT, overrides)


def target(*overrides: str) -> KubeflowTarget:
    found = configuration(*overrides).targets.kubeflow
    assert found is not None
    return found


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    for server in running(kubernetes_api()):
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        wait_until_everybody_may_ask(server)
        yield server


def wait_until_everybody_may_ask(server: ApiServer, seconds: float = 30) -> None:
    """What they may themselves: a role that the server makes when it has started."""
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": NAMESPACE}}}
    api, end = kubernetes.AuthorizationV1Api(server.client(ACCOUNT)), time.monotonic() + seconds
    while True:
        try:
            api.create_self_subject_access_review(review)
        except kubernetes.ApiException:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def found(api: ApiServer) -> Iterator[Any]:
    """Looks at the namespace as a user; what a test put there is gone afterwards."""

    def examine(user: str = ADMIN, *, steps: list[StepRoom] = STEPS, katib: bool = False) -> dict[str, Finding]:
        findings = examine_namespace(api.client(user), target(*NEEDS), steps, katib=katib)
        return {finding.what: finding for finding in findings}

    yield examine
    core = kubernetes.CoreV1Api(api.client(ADMIN))
    core.delete_collection_namespaced_resource_quota(NAMESPACE)
    core.delete_collection_namespaced_limit_range(NAMESPACE)
    core.delete_collection_namespaced_secret(NAMESPACE)


def manifest(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


class TestNamespace:
    def test_what_is_not_there_is_told_with_the_command_that_makes_it(self, found: Any) -> None:
        findings = found(katib=True)
        missing = {what: finding.remedy for what, finding in findings.items() if finding.found is Found.bad}
        assert missing["secret s3"].startswith("kubectl -n team create secret generic s3 --from-literal=id=…")
        assert missing["config map proxy"].startswith("kubectl -n team create configmap proxy")
        assert missing["pull secret registry"].startswith("kubectl -n team create secret docker-registry registry")
        assert missing["volume claim data"].startswith("make a PersistentVolumeClaim data in team")
        assert missing["service account runs"].startswith("kubectl -n team create serviceaccount runs")
        assert missing["Katib"] == "install Katib, and let this account list experiments in team"
        assert missing["KServe"].startswith("install KServe")
        assert findings["Kubernetes answers"].detail.startswith("version 1.")

    def test_a_secret_that_lacks_a_key_is_told_with_the_key(self, api: ApiServer, found: Any) -> None:
        api.apply(manifest("Secret", "s3", stringData={"id": "x"}))
        assert found()["secret s3"].detail == "it lacks key"
        kubernetes.CoreV1Api(api.client(ADMIN)).patch_namespaced_secret("s3", NAMESPACE, {"stringData": {"key": "y"}})
        assert found()["secret s3"].found is Found.good

    def test_a_quota_that_a_step_does_not_fit_in_is_told_with_what_is_left(self, api: ApiServer, found: Any) -> None:
        hard = {"requests.memory": "4Gi", "limits.cpu": "8", "requests.nvidia.com/gpu": "0"}
        api.apply(manifest("ResourceQuota", "small", spec={"hard": hard}))
        (room,) = (finding for what, finding in found().items() if what.startswith("quotas of team"))
        assert room.found is Found.bad
        assert "train-model asks for 8Gi memory, and small has 4294967296 of 4Gi left" in room.detail
        assert "train-model asks for 1 nvidia.com/gpu, and small has 0 of 0 left" in room.detail
        assert "ingest-data has no cpu limit, which small asks of every pod" in room.detail
        assert "targets.kubeflow.steps.STEP" in room.remedy

    def test_a_limit_range_that_forbids_a_step_is_told(self, api: ApiServer, found: Any) -> None:
        limits = [{"type": "Container", "max": {"memory": "2Gi"}, "min": {"cpu": "1"}, "default": {"cpu": "2"}}]
        api.apply(manifest("LimitRange", "range", spec={"limits": limits}))
        (room,) = (finding for what, finding in found().items() if what.startswith("quotas of team"))
        assert "train-model asks for 8Gi memory, and a container may have 2Gi" in room.detail
        assert "ingest-data asks for 500m cpu, and a container has to ask for 1" in room.detail

    def test_without_quotas_there_is_room(self, found: Any) -> None:
        (room,) = (finding for what, finding in found().items() if what.startswith("quotas of team"))
        assert (room.found, room.detail) == (Found.good, "0 quotas, 0 limit ranges")

    def test_who_may_not_submit_is_given_the_role_and_after_it_may(self, api: ApiServer, found: Any) -> None:
        what = "this account may submit, watch and schedule"
        refused = found(ACCOUNT)[what]
        assert refused.found is Found.bad
        assert "it may not get, list, create, terminate, retry, readArtifact runs" in refused.detail
        printed = refused.remedy.replace("name: YOU", f"name: {ACCOUNT}").split("<<'YAML'\n")[1].removesuffix("\nYAML")
        api.apply(*yaml.safe_load_all(printed))
        assert found(ACCOUNT)[what].found is Found.good

    def test_what_may_not_be_looked_at_is_unknown_and_not_missing(self, found: Any) -> None:
        findings = found(ACCOUNT)
        assert findings["secret s3"].found is Found.unknown
        assert findings["secret s3"].detail == "Kubernetes says 403: Forbidden"
        assert findings["the account runs may release"].remedy.startswith("ask somebody who may make SubjectAccess")


def test_each_step_of_the_pipelines_is_held_against_the_quotas_once(tmp_path: Path) -> None:
    files = [tmp_path / "monitoring.yaml", tmp_path / "batch_scoring.yaml"]
    steps = "targets.kubeflow.steps={score_batch: {memory: 8Gi, accelerator: {type: nvidia.com/gpu, count: 2}}}"
    for file in files:
        compile_pipeline(file.stem, "kubeflow", ROOT, file, overrides=[steps])
    rooms = {room.step: room for room in rooms_of(files)}
    assert rooms["notify"] == StepRoom("notify", {"cpu": "100m", "memory": "256Mi"}, {})
    assert rooms["score-batch"].requests == {"cpu": "500m", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert rooms["score-batch"].limits == {"memory": "8Gi", "nvidia.com/gpu": "2"}


class TestKubeflow:
    def findings(self, server: KubeflowStandIn) -> list[Finding]:
        settings = configuration(f"targets.kubeflow.endpoint={server.url}")
        assert settings.targets.kubeflow is not None
        return list(examine_kubeflow(settings, settings.targets.kubeflow, []))

    def test_an_api_that_refuses_is_told_and_nothing_else_is_asked(self, tmp_path: Path) -> None:
        with KubeflowStandIn(tmp_path / "kubeflow") as server:
            server.order(Fault(path="/experiments", status=403, times=10))
            answers, listed = self.findings(server)
        assert (answers.found, listed.found) == (Found.good, Found.bad)
        assert "(403)" in listed.detail

    def test_without_a_kubeconfig_the_rest_is_unknown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
        with KubeflowStandIn(tmp_path / "kubeflow") as server:
            *_, rest = self.findings(server)
        assert (rest.found, rest.what) == (Found.unknown, "secrets, volumes, quotas and rights in the cluster")


def test_a_store_is_asked_in_its_own_words(tmp_path: Path) -> None:
    for url in running(redis()):
        assert check("online_store", f"{url}/0", {}).detail.endswith("answers PONG")
        refused = check("online_store", url.replace("redis://", "redis://:${PASSWORD}@"), {"PASSWORD": "secret"})
        assert (refused.reached, "AUTH" in refused.detail) == (False, True)
        assert "secret" not in refused.detail
    away = check("tracking_uri", "http://127.0.0.1:9", {})
    assert away.detail.startswith("http://127.0.0.1:9 does not answer: [Errno 111]")
    (tmp_path / "file").touch()
    assert not check("prediction_log", f"{tmp_path}/file/log", {}).reached
    assert check("dataset_remote", "s3://bucket/path", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).reached is False


def test_stores_are_asked_from_a_pod_with_what_a_step_is_told(tmp_path: Path) -> None:
    with KubeflowStandIn(tmp_path / "kubeflow") as server, socket.create_server(("127.0.0.1", 0)) as listening:
        settings = configuration(
            f"targets.kubeflow.endpoint={server.url}",
            f"targets.kubeflow.tracking_uri={server.url}",
            f"targets.kubeflow.dataset_remote=ssh://127.0.0.1:{listening.getsockname()[1]}/datasets",
            "targets.kubeflow.online_store=redis://:${REDIS_PASSWORD}@127.0.0.1:9",
            f"targets.kubeflow.prediction_log={tmp_path}/predictions",
        )
        # The check compiles the project itself, as `lifecycle doctor` does.
        project = tmp_path / "project"
        for name in ("feature_repo", "expectations"):
            shutil.copytree(ROOT / name, project / name)
        values = settings.model_dump(mode="json", exclude_unset=True)
        (project / "pipeline.yaml").write_text(yaml.safe_dump(values), "utf-8")
        assert settings.targets.kubeflow is not None
        findings = list(
            examine_from_a_pod(settings, settings.targets.kubeflow, project, tmp_path, lambda line: None, pause=0.1)
        )
    found = {finding.what: finding for finding in findings}
    assert found["a pod starts and ends"].found is Found.good
    assert {what: finding.found for what, finding in found.items()} == {
        "a pod starts and ends": Found.good,
        "tracking_uri answers from a pod": Found.good,
        "dataset_remote answers from a pod": Found.good,
        "online_store answers from a pod": Found.bad,
        "prediction_log answers from a pod": Found.good,
    }
    online = found["online_store answers from a pod"]
    assert "the variable REDIS_PASSWORD is not set" in online.detail
    assert "see targets.kubeflow.online_store" in online.remedy
