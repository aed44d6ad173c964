"""What `lifecycle doctor --target vertex` finds, asked of a stand-in of Google's services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.vertex.api import VertexApi
from kfp_lifecycle.backends.vertex.doctor import examine_vertex, needs_of
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.vertex import Fault, VertexStandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
ACCOUNT = "steps@churn-project.iam.gserviceaccount.com"
SECRET = "projects/churn-project/secrets/redis"
KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
RESOURCE = "projects/churn-project/locations/europe-west4/persistentResources/warm"
NEEDS = [
    f"service_account={ACCOUNT}",
    f"secrets={{REDIS_PASSWORD: 'secretmanager://{SECRET}'}}",
    f"encryption_key={KEY}",
    "persistent_resource=warm",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("compiled") / "materialization.yaml"
    settings = "{materialize_features: {cpu: 16, accelerator: {type: NVIDIA_TESLA_T4, count: 2}}}"
    compile_pipeline("materialization", "vertex", ROOT, file, overrides=[f"targets.vertex.steps={settings}"])
    return file


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VertexStandIn]:
    with VertexStandIn(tmp_path_factory.mktemp("vertex")) as server:
        yield server


@pytest.fixture
def server(running: VertexStandIn) -> VertexStandIn:
    """A project that has all that a run needs."""
    project = running.project
    project.__init__()  # type: ignore[misc]
    project.accounts[ACCOUNT] = ["roles/aiplatform.user", "roles/logging.logWriter"]
    project.buckets["churn-pipelines"] = "europe-west4"
    project.secrets[f"{SECRET}/versions/latest"] = "ENABLED"
    project.keys[KEY] = "ENABLED"
    project.persistent_resources[RESOURCE] = "RUNNING"
    project.quotas["custom_model_training_cpus"] = 42
    project.machines["n1-standard-2"] = {"europe-west4-a", "europe-west4-c"}
    project.machines["nvidia-tesla-t4"] = {"europe-west4-b"}
    return running


def found(server: VertexStandIn, compiled: Path, *overrides: str) -> list[Finding]:
    said = [f"targets.vertex.{item}" for item in (f"endpoint={server.url}", *overrides)]
    configuration = load_configuration(ROOT, said)
    assert configuration.targets.vertex is not None
    return list(examine_vertex(configuration, configuration.targets.vertex, [compiled]))


def wrong(findings: list[Finding]) -> Finding:
    (finding,) = [finding for finding in findings if finding.found is not Found.good]
    return finding


def test_nothing_is_in_the_way(server: VertexStandIn, compiled: Path) -> None:
    findings = found(server, compiled, *NEEDS)
    assert {finding.found for finding in findings} == {Found.good}, findings
    assert [finding.what for finding in findings] == [
        "the API aiplatform.googleapis.com is enabled",
        "the API storage.googleapis.com is enabled",
        "the API logging.googleapis.com is enabled",
        "the API secretmanager.googleapis.com is enabled",
        "Vertex AI answers in europe-west4",
        "runs may be submitted, watched and scheduled",
        f"steps may work as {ACCOUNT}",
        f"{ACCOUNT} may do what steps do",
        "the bucket churn-pipelines takes what is uploaded",
        "the secret of REDIS_PASSWORD",
        "the encryption key is in use",
        "the persistent resource warm is running",
        "the quota custom_model_training_cpus in europe-west4",
        "the quota custom_model_training_nvidia_t4_gpus in europe-west4",
        "europe-west4 has n1-standard-2",
        "europe-west4 has NVIDIA_TESLA_T4",
    ]
    # It only asks: nothing is made.
    assert not [line for line in server.requests if line.startswith("POST") and ":" not in line.partition(" ")[2]]


@pytest.mark.parametrize(
    ("what", "detail", "remedy"),
    [
        ("disabled", "", "gcloud services enable secretmanager.googleapis.com --project=churn-project"),
        ("rights", "lacks aiplatform.pipelineJobs.create", "--member=user:YOU --role=roles/aiplatform.user"),
        ("logs", "lacks logging.logEntries.list", "--member=user:YOU --role=roles/logging.viewer"),
        ("act as", "lacks iam.serviceAccounts.actAs", "--role=roles/iam.serviceAccountUser"),
        ("no bucket", "does not exist: churn-pipelines", "gcloud storage buckets create gs://churn-pipelines"),
        ("bucket", "lacks storage.objects.create", "--role=roles/storage.objectAdmin"),
        ("no secret", "does not exist", "gcloud secrets create redis --project=churn-project"),
        ("destroyed", "is destroyed", "gcloud secrets versions add redis --project=churn-project"),
        ("key", "it is DISABLED", "enable a version of it"),
        ("no resource", "does not exist", "gcloud ai persistent-resources create"),
        ("quota", "8; the largest step takes 16", "have it raised at https://console.cloud.google.com"),
        ("quota of T4", "1; the largest step takes 2", "have it raised at"),
    ],
)
def test_what_is_in_the_way_is_said_with_its_remedy(
    server: VertexStandIn, compiled: Path, what: str, detail: str, remedy: str
) -> None:
    project = server.project
    match what:
        case "disabled":
            project.disabled.add("secretmanager.googleapis.com")
        case "rights":
            project.denied.add("aiplatform.pipelineJobs.create")
        case "logs":
            project.denied.add("logging.logEntries.list")
        case "act as":
            project.denied.add("iam.serviceAccounts.actAs")
        case "no bucket":
            project.buckets.clear()
        case "bucket":
            project.denied.add("storage.objects.create")
        case "no secret":
            project.secrets.clear()
        case "destroyed":
            project.secrets[f"{SECRET}/versions/latest"] = "DESTROYED"
        case "key":
            project.keys[KEY] = "DISABLED"
        case "no resource":
            project.persistent_resources.clear()
        case "quota":
            project.quotas["custom_model_training_cpus"] = 8
        case "quota of T4":
            project.quotas["custom_model_training_nvidia_t4_gpus"] = 1
    finding = wrong(found(server, compiled, *NEEDS))
    assert finding.found is Found.bad
    assert detail in finding.detail
    assert remedy in finding.remedy


def test_what_cannot_be_looked_at_is_said_to_be_unknown(server: VertexStandIn, compiled: Path) -> None:
    server.project.denied.add("resourcemanager.projects.getIamPolicy")
    finding = wrong(found(server, compiled, *NEEDS))
    assert (finding.found, finding.what) == (Found.unknown, f"{ACCOUNT} may do what steps do")
    assert "ask for the role roles/browser" in finding.detail
    server.project.denied.clear()
    server.project.accounts[ACCOUNT] = ["roles/logging.logWriter"]
    finding = wrong(found(server, compiled, *NEEDS))
    assert finding.found is Found.unknown
    assert f"--member=serviceAccount:{ACCOUNT} --role=roles/aiplatform.user" in finding.remedy
    # Without an account of their own steps work as one that may do much.
    assert "targets.vertex.service_account" in wrong(found(server, compiled)).remedy


@pytest.mark.parametrize(
    ("machine", "setting"), [("n1-standard-2", "servers.machine_type"), ("nvidia-tesla-t4", "steps")]
)
def test_a_machine_that_only_other_regions_have_is_told_with_its_setting(
    server: VertexStandIn, compiled: Path, machine: str, setting: str
) -> None:
    server.project.machines[machine] = {"us-central1-a", "europe-west40-a"}
    finding = wrong(found(server, compiled, *NEEDS))
    assert (finding.found, finding.detail) == (Found.bad, "none of its zones does")
    assert finding.remedy.startswith(f"choose another for targets.vertex.{setting}: gcloud compute ")


def test_machines_that_may_not_be_listed_are_unknown_with_the_role_that_it_takes(
    server: VertexStandIn, compiled: Path
) -> None:
    server.project.denied.add("compute.machineTypes.list")
    finding = wrong(found(server, compiled, *NEEDS))
    assert (finding.found, finding.what) == (Found.unknown, "europe-west4 has n1-standard-2")
    assert "ask for the role roles/compute.viewer" in finding.detail


def test_google_s_registries_of_images_are_asked_as_who_submits_and_others_as_who_is_logged_in_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Account:
        token = ""

        def refresh(self, request: object) -> None:
            self.token = "fresh"

    monkeypatch.setattr("google.auth.default", lambda scopes: (Account(), "churn-project"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example": {"auth": "YWRhOnNlY3JldA=="}}}))
    target = load_configuration(ROOT, ["targets.vertex.location=europe-west4"]).targets.vertex
    assert target is not None
    api = VertexApi(target)
    assert api.registry_login("europe-west4-docker.pkg.dev") == ("oauth2accesstoken", "fresh")
    assert api.registry_login("registry.example") == ("ada", "secret")


def test_stores_of_google_s_need_their_apis_and_roles(server: VertexStandIn, compiled: Path) -> None:
    stores = [
        "offline_store=bigquery://churn-project/features?location=europe-west4",
        "online_store=bigtable://churn-project/features",
    ]
    server.project.disabled.add("bigtable.googleapis.com")
    disabled, roles = (item for item in found(server, compiled, *NEEDS, *stores) if item.found is not Found.good)
    assert disabled.what == "the API bigtable.googleapis.com is enabled"
    assert "binds no roles/bigquery.jobUser, roles/bigquery.dataEditor, roles/bigtable.user to it" in roles.detail


def test_who_is_not_let_in_hears_no_more(server: VertexStandIn, compiled: Path) -> None:
    server.order(Fault(method="GET", path="/pipelineJobs$", status=403))
    findings = found(server, compiled)
    assert (findings[-1].what, findings[-1].found) == ("Vertex AI answers in europe-west4", Found.bad)
    assert "ask for the role roles/aiplatform.user" in findings[-1].detail


def test_the_largest_step_says_what_is_needed(compiled: Path) -> None:
    assert needs_of([]) == {"custom_model_training_cpus": 4}
    assert needs_of([compiled]) == {
        "custom_model_training_cpus": 16,
        "custom_model_training_nvidia_t4_gpus": 2,
    }
