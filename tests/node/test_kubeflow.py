"""Runs on a Kubeflow whose steps are real pods: Kubernetes is asked of them by the rights of `deploy/` and no others.

The API of Kubeflow Pipelines is the stand-in's (`run_in_pods.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.backends.backend import RunStatus, Submission
from kfp_lifecycle.backends.findings import Found
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.kubeflow.cluster import kubernetes_api
from kfp_lifecycle.backends.kubeflow.credentials import TOKEN_VARIABLE
from kfp_lifecycle.backends.kubeflow.doctor import CHECK, CHECK_STEP, examine_from_a_pod
from kfp_lifecycle.backends.kubeflow.namespace import examine_namespace
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.targets import KubeflowTarget
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.kubeflow import Settings, User
from tests.kubernetes_api import ADMIN
from tests.node.environment_images import REGISTRY
from tests.node.run_in_pods import KubeflowOnNode, kubeflow_on_node
from tests.node.stores import Stores
from tests.projects import targets_of_the_docs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STEPS_ACCOUNT, SUBMITTER = "lifecycle-runs", "lifecycle-submits"


def token_of(stores: Stores, account: str) -> str:
    """As `kubectl create token` gives it."""
    core, namespace = stores.namespace.node.core, stores.namespace.name
    return str(core.create_namespaced_service_account_token(account, namespace, {"spec": {}}).status.token)


@pytest.fixture
def log_in(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets what follows ask Kubernetes as a service account, by a kubeconfig."""

    def as_account(account: str) -> None:
        config = stores.namespace.node.api.kubeconfig(account)
        config["users"][0]["user"] = {"token": token_of(stores, account)}
        file = tmp_path / f"{account}.yaml"
        file.write_text(yaml.safe_dump(config), "utf-8")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))

    return as_account


@pytest.fixture(scope="module")
def kubeflow(stores: Stores, platform_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeflowOnNode]:
    name = stores.namespace.name
    users = {"submits": User(f"system:serviceaccount:{name}:{SUBMITTER}", frozenset({name}))}
    folder = tmp_path_factory.mktemp("kubeflow")
    with kubeflow_on_node(stores.namespace, STEPS_ACCOUNT, folder, Settings(users=users)) as server:
        yield server


@pytest.fixture
def project(kubeflow: KubeflowOnNode, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that says of the Kubeflow what docs/deploy.md says; CI's token asks."""
    monkeypatch.setenv(TOKEN_VARIABLE, "submits")
    said = yaml.safe_dump(targets_of_the_docs()["kubeflow"]).replace("churn-team", stores.namespace.name)
    target = {**yaml.safe_load(said), "endpoint": kubeflow.url, "image_registry": REGISTRY}
    settings = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8")) | {"targets": {"kubeflow": target}}
    for name in ("feature_repo", "expectations"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    (tmp_path / "project" / "pipeline.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    return tmp_path / "project"


def target_of(project: Path) -> KubeflowTarget:
    target = load_configuration(project).targets.kubeflow
    assert target is not None
    return target


def submit(project: Path, name: str, **given: Any) -> tuple[KubeflowBackend, str]:
    """Run the check of the stores."""
    file = project / f"{name}.yaml"
    compile_pipeline(CHECK, "kubeflow", project, file, **given)
    backend = KubeflowBackend(target_of(project), "churn")
    return backend, backend.submit(Submission(file, CHECK, "churn", name, use_cache=False))


def test_the_stores_of_deploy_answer_from_a_pod(project: Path, tmp_path: Path) -> None:
    findings = list(
        examine_from_a_pod(load_configuration(project), target_of(project), project, tmp_path, print, pause=0.5)
    )
    assert [(finding.what, finding.found) for finding in findings] == [
        ("a pod starts and ends", Found.good),
        *(
            (f"{store} answers from a pod", Found.good)
            for store in ("tracking_uri", "dataset_remote", "online_store", "prediction_log")
        ),
    ], findings


def test_an_image_that_cannot_be_pulled_is_said_while_the_run_waits_to_who_may_see_pods(
    project: Path, log_in: Callable[[str], None]
) -> None:
    backend, run = submit(project, "absent", image_registry="registry.example/absent")
    log_in(SUBMITTER)
    said: list[str] = []

    def show(status: RunStatus) -> None:
        if said and not status.ended:
            log_in("default")
            blind = KubeflowBackend(target_of(project), "churn")
            assert blind.status(run).progress.steps[CHECK_STEP].reason == ""
            backend.cancel(run)

    watch(backend, run, show, said.append, pause=0.5)
    assert said[0].startswith("check-stores does not begin. Its image cannot be pulled (")
    assert "registry.example/absent/kfp-lifecycle-platform" in said[0]
    assert said[0].endswith("or name the secret of its registry in targets.kubeflow.pull_secrets.")


def test_ci_s_account_may_do_what_it_needs_and_what_it_may_not_see_is_unknown(
    project: Path, log_in: Callable[[str], None]
) -> None:
    log_in(SUBMITTER)
    found = {item.what: item for item in examine_namespace(kubernetes_api(), target_of(project), [], katib=False)}
    assert found["this account may submit, watch and schedule"].detail.startswith("it may not terminate, retry runs;")
    assert found["secret stores"].detail == "Kubernetes says 403: Forbidden"
    assert {what for what, item in found.items() if item.found is Found.unknown} == {
        "secret stores",
        "volume claim lifecycle",
        "service account lifecycle-runs",
        f"quotas of {target_of(project).namespace} leave room for each step",
        "KServe",
        "the account lifecycle-runs may release",
    }


def test_who_may_look_finds_all_there_that_deploy_brings(project: Path, stores: Stores) -> None:
    api = stores.namespace.node.api.client(ADMIN)
    found = {item.what: item for item in examine_namespace(api, target_of(project), [], katib=False)}
    assert {what for what, item in found.items() if item.found is not Found.good} == {"KServe"}, found
    assert found["the account lifecycle-runs may release"].found is Found.good
