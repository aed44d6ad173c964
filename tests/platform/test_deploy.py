"""What `deploy/` brings to a namespace: built by kustomize, judged by a real API server, started as far as it can be.

No pod runs here. MLflow, its buckets' script and Redis are started from packages, by the words of their manifests.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client as kubernetes
from test_recurring_runs import FILES, PIPELINE, Source

from kfp_lifecycle.backends.backend import RunStatus, RunSummary
from kfp_lifecycle.backends.kubeflow.namespace import role_to_release
from kfp_lifecycle.cli.runs import status_as_json
from kfp_lifecycle.config.targets import KubeflowTarget, VertexTarget
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.local.runs import RunState
from kfp_lifecycle.runtime.states import State
from kfp_lifecycle.serving.ports import free_ports
from tests.control_planes.kubeflow import KubeflowStandIn, Settings, User
from tests.control_planes.object_store import object_store as kubeflow_objects
from tests.kubernetes_api import ADMIN, ApiServer, kubernetes_api
from tests.projects import targets_of_the_docs
from tests.servers import (
    GO_PROGRAMS,
    PASSWORD,
    VENV,
    Server,
    _folder,
    _running,
    _wait,
    object_store,
    postgresql,
    running,
)

ROOT = Path(__file__).resolve().parents[2]
DEPLOY, DOCS = ROOT / "deploy", ROOT / "docs" / "deploy.md"
WORKFLOW = DEPLOY / "github" / "train.yaml"
NAMESPACE = "churn-team"
STORES = ("mlflow", "objects", "postgresql", "redis")
SERVICES = (*STORES, "prediction-log")
# On an image of the project.
OF_THE_PROJECT = ("new-data", "dashboard")
KUBECTL = shutil.which("kubectl")
OPERATOR = [GO_PROGRAMS / f"monitoring.coreos.com_{name}.yaml" for name in ("podmonitors", "prometheusrules")]

needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl on this machine, which holds kustomize")


@dataclass(frozen=True)
class Deployment:
    """The example with everything in it, and what kustomize makes of it."""

    folder: Path
    objects: list[dict[str, Any]]

    def get(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] == kind]

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """The template of each workload's pods, by the workload's name."""
        templates = {}
        for each in self.objects:
            spec = each.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template:
                templates[each["metadata"]["name"]] = template
        return templates

    def container(self, workload: str) -> dict[str, Any]:
        (container,) = self.pods[workload]["spec"]["containers"]
        return container


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    assert KUBECTL is not None
    folder = tmp_path_factory.mktemp("deploy") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("*.env"))
    example = folder / "overlays" / "example"
    for file in example.glob("*.env.example"):
        file.with_suffix("").write_text(file.read_text("utf-8").replace("…", PASSWORD), "utf-8")
    wanted = example / "kustomization.yaml"
    wanted.write_text(wanted.read_text("utf-8").replace("# - ../../components", "  - ../../components"), "utf-8")
    built = subprocess.run([KUBECTL, "kustomize", example], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Deployment(example, list(yaml.safe_load_all(built.stdout)))


# What kustomize makes of it


@needs_kubectl
def test_it_holds_the_stores_and_everything_is_in_the_namespace(deployment: Deployment) -> None:
    assert set(deployment.pods) == {*SERVICES, *OF_THE_PROJECT}
    assert {each["metadata"]["name"] for each in deployment.all("Service")} == set(SERVICES)
    assert {each["metadata"]["namespace"] for each in deployment.objects} == {NAMESPACE}


@needs_kubectl
@pytest.mark.parametrize("workload", [*SERVICES, *OF_THE_PROJECT])
def test_a_container_says_what_it_needs_and_how_it_is_judged(deployment: Deployment, workload: str) -> None:
    spec = deployment.pods[workload]["spec"]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}, "a limit of processor time makes nothing safer"
        assert container["securityContext"]["readOnlyRootFilesystem"]
        if container["image"] not in ("project", "serving"):
            assert re.fullmatch(r"[a-z./-]+:v?\d[\w.-]*(@sha256:[0-9a-f]{64})?", container["image"])
    if workload in SERVICES:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(deployment.container(workload))
        assert spec["automountServiceAccountToken"] is False


@needs_kubectl
def test_no_secret_lies_in_the_repository_and_what_pods_ask_for_is_in_the_example(deployment: Deployment) -> None:
    kept = {(each["metadata"]["name"], key) for each in deployment.all("Secret") for key in {**each["data"]}}
    asked = {
        (variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
        for template in deployment.pods.values()
        for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    of_kubeflow = {("mlpipeline-minio-artifact", "accesskey"), ("mlpipeline-minio-artifact", "secretkey")}
    assert asked == kept | of_kubeflow
    for file in DEPLOY.rglob("*.env.example"):
        secret = [line for line in file.read_text("utf-8").splitlines() if re.search("PASSWORD|SECRET", line)]
        assert all(line.endswith("=…") for line in secret)
    ignored = ["git", "check-ignore", "--quiet", "deploy/overlays/example/stores.env"]
    if (ROOT / ".git").exists():
        assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


@needs_kubectl
def test_the_role_for_releases_is_the_one_that_doctor_prints(deployment: Deployment) -> None:
    printed = role_to_release(NAMESPACE, "lifecycle-runs", NAMESPACE)
    (text,) = re.findall(r"<<'YAML'\n(.*)\nYAML", printed, re.DOTALL)
    for wanted in yaml.safe_load_all(text):
        found = deployment.get(wanted["kind"], wanted["metadata"]["name"])
        del found["metadata"]["labels"]
        assert found == wanted


def test_the_docs_give_releases_the_rights_that_doctor_prints() -> None:
    (text,) = re.findall(r"<<'YAML'\n(.*)\nYAML", role_to_release("churn", "default-editor", "churn"), re.DOTALL)
    (printed,) = (item["rules"] for item in yaml.safe_load_all(text) if item["kind"] == "Role")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "cluster-releases.md").read_text("utf-8"), re.DOTALL)
    documented = [item for block in blocks for item in yaml.safe_load_all(block) if item.get("kind") == "Role"]
    assert [item["rules"] for item in documented] == [printed]


# What is written in pipeline.yaml


@needs_kubectl
def test_the_target_of_the_docs_names_what_is_deployed(deployment: Deployment) -> None:
    target = KubeflowTarget.model_validate(targets_of_the_docs()["kubeflow"])
    assert target.namespace == NAMESPACE
    deployment.get("ServiceAccount", target.service_account)
    for claim in target.volumes:
        assert deployment.get("PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteMany"]
    for name, keys in target.secrets.items():
        assert set(keys) == set(deployment.get("Secret", name)["data"])
    endpoint = kept_in(deployment, "stores", "AWS_ENDPOINT_URL_S3")
    for address in (target.tracking_uri, target.online_store, endpoint):
        host, port = address.rpartition("@")[2].rpartition("//")[2].split(":")
        service = deployment.get("Service", host.removesuffix(f".{NAMESPACE}"))
        assert [each["port"] for each in service["spec"]["ports"]] == [int(port)]
    assert re.search(rf'"{target.dataset_remote.removeprefix("s3://")}"', buckets_script(deployment))


def kept_in(deployment: Deployment, secret: str, key: str) -> str:
    """A value of a secret."""
    return base64.b64decode(deployment.get("Secret", secret)["data"][key]).decode()


def test_the_target_for_vertex_is_a_valid_one() -> None:
    assert VertexTarget.model_validate(targets_of_the_docs()["vertex"]).project == "churn-project"


# Who may speak to whom

STEP = {"workflows.argoproj.io/workflow": "training-x7k2p"}
SERVER = {"serving.kserve.io/inferenceservice": "churn"}
STRANGER = {"app": "notebook"}
PLACES = {"step": STEP, "server": SERVER, "stranger": STRANGER} | {name: {"app": name} for name in SERVICES}
PORTS = {"mlflow": 5000, "objects": 8333, "postgresql": 5432, "redis": 6379, "prediction-log": 8080}
ALLOWED = {
    ("step", "mlflow"),
    ("step", "objects"),
    ("step", "redis"),
    ("server", "redis"),
    ("server", "prediction-log"),
    ("mlflow", "postgresql"),
    ("mlflow", "objects"),
}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod, of the operators that are used here."""
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "Exists":
            raise NotImplementedError(rule["operator"])
        if rule["key"] not in labels:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def permits(policies: list[dict[str, Any]], way: str, pod: dict[str, str], peer: dict[str, str], port: int) -> bool:
    """Whether the policies let a pod speak to another one of the namespace (Egress), or hear it (Ingress)."""
    isolated = False
    for policy in (each["spec"] for each in policies):
        if way not in policy["policyTypes"] or not selects(policy["podSelector"], pod):
            continue
        isolated = True
        for rule in policy.get(way.lower(), []):
            peers = rule.get("to" if way == "Egress" else "from")
            known = peers is None or any("podSelector" in each and selects(each["podSelector"], peer) for each in peers)
            if known and any(each["port"] == port for each in rule.get("ports", [{"port": port}])):
                return True
    return not isolated


@needs_kubectl
@pytest.mark.parametrize("store", PORTS)
@pytest.mark.parametrize("caller", PLACES)
def test_a_store_hears_those_who_need_it_and_nobody_else(deployment: Deployment, caller: str, store: str) -> None:
    policies = deployment.all("NetworkPolicy")
    asks = permits(policies, "Egress", PLACES[caller], PLACES[store], PORTS[store])
    hears = permits(policies, "Ingress", PLACES[store], PLACES[caller], PORTS[store])
    assert (asks, hears) == (((caller, store) in ALLOWED),) * 2


@needs_kubectl
def test_whom_no_policy_names_hears_nobody(deployment: Deployment) -> None:
    assert not permits(deployment.all("NetworkPolicy"), "Ingress", STRANGER, STEP, 8080)
    others = [each for each in deployment.all("NetworkPolicy") if each["metadata"]["name"] != "default-deny"]
    assert permits(others, "Ingress", STRANGER, STEP, 8080)


@needs_kubectl
def test_the_payload_logger_stands_before_servers_so_releases_ask_it(deployment: Deployment) -> None:
    policies, agent = deployment.all("NetworkPolicy"), 9081
    assert permits(policies, "Egress", STEP, SERVER, agent)
    assert permits(policies, "Ingress", SERVER, STEP, agent)


@needs_kubectl
def test_the_collector_is_told_what_it_knows(deployment: Deployment) -> None:
    container = deployment.container("prediction-log")
    target = KubeflowTarget.model_validate(targets_of_the_docs()["kubeflow"])
    assert container["args"] == [f"--prediction_log={target.prediction_log}"]
    module = container["command"][-1]
    assert (ROOT / Path(*module.split(".")[1:]).with_suffix(".py")).is_file()


# What a real API server says


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    missing = [file.name for file in OPERATOR if not file.exists()]
    if missing:
        pytest.skip(f"the Prometheus operator's definitions are not here: {', '.join(missing)} (.ci/go/build)")
    for server in running(kubernetes_api()):
        for definition in OPERATOR:
            server.define(definition)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        yield server


@pytest.fixture(scope="module")
def applied(api: ApiServer, deployment: Deployment) -> ApiServer:
    """The API server, after the command of the docs."""
    assert KUBECTL is not None
    assert "kubectl apply --server-side -k ." in DOCS.read_text("utf-8")
    configuration = deployment.folder / "kubeconfig"
    configuration.write_text(yaml.safe_dump(api.kubeconfig(ADMIN)))
    command = [KUBECTL, f"--kubeconfig={configuration}", "apply", "--server-side", "--validate=strict", "-k", "."]
    done = subprocess.run(command, cwd=deployment.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(deployment.objects), done.stdout
    assert "violate" not in done.stderr, done.stderr
    return api


@needs_kubectl
@pytest.mark.slow
def test_everything_is_admitted_and_not_a_field_is_dropped(applied: ApiServer, deployment: Deployment) -> None:
    anything = kubernetes.ApiClient.call_api
    for sent in deployment.objects:
        group, _, version = sent["apiVersion"].rpartition("/")
        plural = sent["kind"].lower().replace("policy", "policie") + "s"
        path = f"/{f'apis/{group}' if group else 'api'}/{version}/namespaces/{NAMESPACE}/{plural}"
        answer = anything(
            applied.client(ADMIN),
            f"{path}/{sent['metadata']['name']}",
            "GET",
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
        )
        assert dropped(sent, answer) == [], sent["metadata"]


def dropped(sent: Any, kept: Any, place: str = "") -> list[str]:
    """Where what is kept is not what was sent; what the server adds is none."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        return [
            line
            for key, value in sent.items()
            if value != {}
            for line in dropped(value, kept.get(key), f"{place}.{key}")
        ]
    if isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        return [line for pair in zip(sent, kept, strict=True) for line in dropped(*pair, f"{place}[]")]
    return [] if sent == kept else [f"{place}: {sent!r} became {kept!r}"]


@needs_kubectl
@pytest.mark.slow
@pytest.mark.parametrize("workload", [*SERVICES, *OF_THE_PROJECT])
def test_a_pod_is_admitted_under_the_restricted_standard(
    applied: ApiServer, deployment: Deployment, workload: str
) -> None:
    pods = kubernetes.CoreV1Api(applied.client(ADMIN))
    template = deployment.pods[workload]
    # A StatefulSet's controller adds the volumes of its claims.
    claims = {
        mount["name"] for container in template["spec"]["containers"] for mount in container.get("volumeMounts", [])
    } - {volume["name"] for volume in template["spec"].get("volumes", [])}
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{workload}-0"}} for name in claims]
    spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *volumes]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": workload}, "spec": spec}
    pods.create_namespaced_pod(NAMESPACE, pod, dry_run="All", field_validation="Strict")
    spec["securityContext"] = {**spec["securityContext"], "seccompProfile": {"type": "Unconfined"}}
    with pytest.raises(kubernetes.ApiException, match="violates PodSecurity"):
        pods.create_namespaced_pod(NAMESPACE, pod, dry_run="All")


@needs_kubectl
@pytest.mark.slow
def test_a_misspelt_key_would_have_been_refused(applied: ApiServer, deployment: Deployment) -> None:
    objects = kubernetes.CustomObjectsApi(applied.client(ADMIN))
    kind = ("monitoring.coreos.com", "v1", NAMESPACE, "podmonitors")
    monitor = json.loads(json.dumps(deployment.get("PodMonitor", "model-servers")))
    monitor["metadata"]["name"] = "misspelt"
    monitor["spec"]["podMetricsEndpoints"][0]["portNummer"] = 8080
    with pytest.raises(kubernetes.ApiException, match="portNummer"):
        objects.create_namespaced_custom_object(*kind, monitor, field_validation="Strict", dry_run="All")


RIGHTS = [
    ("lifecycle-runs", "create", "argoproj.io", "workflowtaskresults", "", True),
    ("lifecycle-runs", "get", "", "configmaps", "kfp-launcher", True),
    ("lifecycle-runs", "get", "", "secrets", "mlpipeline-minio-artifact", True),
    ("lifecycle-runs", "patch", "serving.kserve.io", "inferenceservices", "", True),
    ("lifecycle-runs", "get", "", "secrets", "database", False),
    ("lifecycle-runs", "list", "", "secrets", "", False),
    ("lifecycle-runs", "create", "", "pods", "", False),
    ("lifecycle-runs", "create", "pipelines.kubeflow.org", "runs", "", False),
    ("lifecycle-submits", "create", "pipelines.kubeflow.org", "runs", "", True),
    ("lifecycle-submits", "delete", "pipelines.kubeflow.org", "runs", "", False),
    ("lifecycle-submits", "list", "", "pods", "", True),
    ("lifecycle-submits", "get", "", "secrets", "stores", False),
    ("lifecycle-submits", "patch", "serving.kserve.io", "inferenceservices", "", False),
    ("default", "get", "", "secrets", "stores", False),
]


@needs_kubectl
@pytest.mark.slow
@pytest.mark.parametrize(("account", "verb", "group", "resource", "name", "allowed"), RIGHTS)
def test_an_account_may_do_its_work_and_nothing_else(
    applied: ApiServer, account: str, verb: str, group: str, resource: str, name: str, allowed: bool
) -> None:
    asked = {"namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource, "name": name}
    review = {"spec": {"user": f"system:serviceaccount:{NAMESPACE}:{account}", "resourceAttributes": asked}}
    answer = kubernetes.AuthorizationV1Api(applied.client(ADMIN)).create_subject_access_review(review)
    assert answer.status.allowed is allowed


# What the stores do, started from packages


def buckets_script(deployment: Deployment) -> str:
    (first,) = deployment.pods["mlflow"]["spec"]["initContainers"]
    (script,) = first["args"]
    return str(script)


def variables_of(container: dict[str, Any], secrets: dict[str, str], folder: Path) -> dict[str, str]:
    """A container's environment, with its secrets."""
    found = {each["name"]: each.get("value") or secrets[each["name"]] for each in container["env"]}
    return {"PATH": os.environ["PATH"], **found, "HOME": str(folder), "TMPDIR": str(folder)}


@pytest.fixture
def database() -> Iterator[Server]:
    yield from running(postgresql())


@pytest.fixture
def objects() -> Iterator[str]:
    yield from running(object_store("s3"))


@pytest.fixture
def mlflow(deployment: Deployment, database: Server, objects: str, tmp_path: Path) -> Iterator[str]:
    """MLflow as its pod starts it, its buckets made before; its URL."""
    if not interpreter("modelling").exists():
        pytest.skip("there is no MLflow on this machine: the environment modelling is not built (make setup)")
    secrets = {
        "AWS_ENDPOINT_URL_S3": objects,
        "AWS_ACCESS_KEY_ID": "lifecycle",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "PGPASSWORD": PASSWORD,
        "NAMESPACE": NAMESPACE,
    }
    container = deployment.container("mlflow")
    environment = variables_of(container, secrets, tmp_path)
    for _again in range(2):
        script = [interpreter("modelling"), "-c", buckets_script(deployment)]
        subprocess.run(script, env=environment, check=True, timeout=60)
    (port,) = free_ports(1)
    there = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "mlflow@postgresql:5432/mlflow": f"postgres@127.0.0.1:{database.port}/postgres",
        "$(NAMESPACE)": NAMESPACE,
    }
    words = [str(interpreter("modelling").with_name("mlflow")), *container["args"]]
    for here, other in there.items():
        words = [word.replace(here, other) for word in words]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        _wait(lambda: answers(url + container["readinessProbe"]["httpGet"]["path"]), process, tmp_path)
        yield url
    finally:
        process.terminate()
        process.wait(150)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@needs_kubectl
@pytest.mark.slow
def test_mlflow_keeps_experiments_and_artifacts_and_answers_by_its_own_names_only(mlflow: str) -> None:
    target = KubeflowTarget.model_validate(targets_of_the_docs()["kubeflow"])
    named = {"Host": target.tracking_uri.removeprefix("http://")}
    experiments = "/api/2.0/mlflow/experiments"
    with httpx.Client(base_url=mlflow, trust_env=False, timeout=30) as client:
        created = client.post(f"{experiments}/create", json={"name": "churn"}, headers=named)
        assert created.status_code == 200, created.text
        shown = client.get(f"{experiments}/get", params=created.json(), headers=named).json()["experiment"]
        assert shown["artifact_location"].startswith("mlflow-artifacts:/")
        place = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model.json"
        assert client.put(place, content=b"{}", headers=named).status_code == 200
        assert client.get(place, headers=named).content == b"{}"
        elsewhere = {"Host": "elsewhere.example:5000"}
        assert client.get(f"{experiments}/get", params=created.json(), headers=elsewhere).status_code == 403


@needs_kubectl
@pytest.mark.slow
def test_redis_answers_nobody_without_the_password(deployment: Deployment) -> None:
    program = shutil.which("redis-server", path=f"{VENV / 'bin'}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("there is no redis-server on this machine")
    container = deployment.container("redis")
    assert container["command"] == ["redis-server"]
    (port,) = free_ports(1)
    with _folder() as folder:
        words = [word.replace("$(REDIS_PASSWORD)", PASSWORD) for word in container["args"]]
        words = [str(folder) if word == "/data" else word for word in words]
        with _running([program, *words, "--port", str(port)], folder, 15, {}) as process:  # type: ignore[arg-type]
            _wait(lambda: said_by(port, "PING").startswith("-NOAUTH"), process, folder)
            assert said_by(port, f'AUTH "{PASSWORD}"', "SET a 1", "GET a").splitlines() == ["+OK", "+OK", "$1", "1"]
            assert "noeviction" in said_by(port, f'AUTH "{PASSWORD}"', "CONFIG GET maxmemory-policy")


def said_by(port: int, *commands: str) -> str:
    """What Redis answers to commands."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
            caller.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
            return b"".join(iter(lambda: caller.recv(65536), b"")).decode().removesuffix("+OK\r\n")
    except ConnectionRefusedError:
        return ""


# Triggers


@needs_kubectl
@pytest.mark.slow
def test_new_data_is_submitted_once_by_the_pods_own_token_and_left(deployment: Deployment, tmp_path: Path) -> None:
    container = deployment.container("new-data")
    token = tmp_path / "token"
    token.write_text("projected")
    settings = Settings(
        users={"projected": User(f"system:serviceaccount:{NAMESPACE}:lifecycle-submits", frozenset({NAMESPACE}))}
    )
    with KubeflowStandIn(tmp_path / "kubeflow", settings=settings) as server, kubeflow_objects(server.objects) as store:
        project = tmp_path / "project"
        for name, content in FILES.items():
            file = project / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        target = {"targets": {"kubeflow": {**targets_of_the_docs()["kubeflow"], "endpoint": server.url}}}
        source = Source(tmp_path / "library.duckdb")
        source.grow(5)
        (project / "pipeline.yaml").write_text(PIPELINE.replace("SOURCE", str(source.file)) + yaml.safe_dump(target))
        secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": PASSWORD}
        environment = variables_of(container, secrets, tmp_path) | {
            "AWS_ENDPOINT_URL": store,
            "KF_PIPELINES_SA_TOKEN_PATH": str(token),
            "LIFECYCLE_STATE": str(tmp_path / "state"),
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "no_proxy": "*",
        }
        assert container["command"] == ["lifecycle"]
        command = [sys.executable, "-m", "kfp_lifecycle.cli", *container["args"]]

        def look() -> tuple[str, str]:
            done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout, " ".join(done.stderr.split())

        run, said = look()
        assert re.fullmatch(r"[0-9a-f-]{36}\n", run)
        assert "submitting training-of-data-" in said
        started, said = look()
        assert started == ""
        assert f"it was run as {run.strip()}" in said
        # By the same token Prometheus learns of what is overdue.
        watching = deployment.container("dashboard")
        assert {each["name"] for each in watching["env"]} <= environment.keys()
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "kfp_lifecycle.cli", *watching["args"], "--port", str(port)]
        with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) as dashboard:
            try:
                told = metrics_of(dashboard, port)
            finally:
                dashboard.terminate()
    assert "# TYPE lifecycle_run_overdue_since_seconds gauge" in told


def metrics_of(dashboard: subprocess.Popen[bytes], port: int) -> str:
    """What it tells Prometheus, which calls a pod by its address."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert dashboard.poll() is None
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"host": f"10.0.0.7:{port}"}, timeout=60)
        except httpx.ConnectError:
            time.sleep(0.1)
        else:
            assert answer.status_code == 200, answer.text
            return answer.text
    raise AssertionError("it does not answer")


def test_the_workflow_is_one_that_github_takes() -> None:
    linter = GO_PROGRAMS / "actionlint"
    if not linter.exists():
        pytest.skip("there is no actionlint on this machine (.ci/go/build makes one)")
    for workflow in (WORKFLOW, *(ROOT / ".github" / "workflows").glob("*.yml")):
        judged = subprocess.run([linter, "-no-color", workflow], capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stdout


def step_of_the_workflow(name: str) -> str:
    """What a step of the training job runs."""
    (script,) = (
        step["run"]
        for step in yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["train"]["steps"]
        if step.get("name") == name
    )
    return str(script)


def verdict(folder: Path) -> str:
    """The comment that the workflow writes of what lies in a folder."""
    if shutil.which("jq") is None:
        pytest.skip("there is no jq on this machine, which GitHub's runners have")
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step_of_the_workflow("Verdict")]
    (folder / "summary").write_text("")
    variables = {**os.environ, "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    subprocess.run(command, cwd=folder, env=variables, check=True)
    text = (folder / "verdict.md").read_text("utf-8")
    assert (folder / "summary").read_text("utf-8") == text
    return text


def ended(state: RunState, reason: str, *steps: StepRecord) -> RunStatus:
    now = datetime.now(UTC)
    link = "http://kubeflow.example/#/runs/details/3f1c"
    summary = RunSummary("3f1c", "training-1", "training", "churn", state, now, now, link)
    return RunStatus(summary, RunProgress({step.name: step for step in steps}), reason)


def test_the_comment_says_verdict_key_figures_and_where_the_run_is_shown(tmp_path: Path) -> None:
    decided = StepRecord("decide-promotion", State.done, summary="rejected: missed 1 of 8")
    run = ended(RunState.rejected, "", StepRecord("train-model", State.done, summary="AUC 0.781 | 0.2 s"), decided)
    (tmp_path / "run.json").write_text(json.dumps(status_as_json(run)))
    text = verdict(tmp_path)
    assert text.startswith("### Training: rejected\n\n**Verdict:** rejected: missed 1 of 8\n")
    assert "| train-model | done | AUC 0.781 \\| 0.2 s |" in text
    assert text.endswith("[The run in Kubeflow](http://kubeflow.example/#/runs/details/3f1c)\n")


def test_the_comment_says_why_a_run_failed_or_was_not_submitted(tmp_path: Path) -> None:
    reason = "The data cannot be trusted; 1 of 163 checks failed."
    failed = ended(RunState.failed, reason, StepRecord("validate-data", State.failed))
    (tmp_path / "run.json").write_text(json.dumps(status_as_json(failed)))
    assert f"### Training: failed\n\n{reason}\n" in verdict(tmp_path)
    (tmp_path / "run.json").write_text("")
    (tmp_path / "run.log").write_text("error: the Kubeflow does not know who asks (401)\n")
    assert "not submitted\n\n```\nerror: the Kubeflow does not know who asks (401)\n```" in verdict(tmp_path)
