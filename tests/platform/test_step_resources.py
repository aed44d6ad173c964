"""What a step's pod is given on a cluster: resources, retries, placement, labels; and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.compilation.compiled_file import read_documents
from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline, components
from kfp_lifecycle.compilation.step_pods import REQUESTS, labels_of, step_settings
from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.steps import StepSettings, cores, memory_bytes
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.runtime.closure import ROOT

GIB = 2**30
REGISTRY = "registry.example/ml"


class Compiled:
    """A compiled pipeline: each step's task, container and pod."""

    def __init__(self, file: Path) -> None:
        pipeline, *platform = read_documents(file)
        self.documents = 1 + len(platform)
        self.kubernetes: dict[str, Any] = platform[0]["platforms"]["kubernetes"] if platform else {}
        dags = [part["dag"] for part in (pipeline["root"], *pipeline["components"].values()) if "dag" in part]
        executors = pipeline["deploymentSpec"]["executors"]
        self.tasks: dict[str, Any] = {}
        self.containers: dict[str, Any] = {}
        self.pods: dict[str, Any] = {}
        for dag in dags:
            for name, task in dag["tasks"].items():
                label = pipeline["components"][task["componentRef"]["name"]].get("executorLabel", "")
                if "container" in executors.get(label, {}):
                    self.tasks[name] = task
                    self.containers[name] = executors[label]["container"]
                    self.pods[name] = self.kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label, {})

    def resources(self, step: str) -> dict[str, str]:
        """What a step asks for, in Kubernetes' quantities."""
        found = self.containers[step].get("resources", {})
        return {key.removeprefix("resource"): value for key, value in found.items() if key.startswith("resource")}


def compiled(
    folder: Path, *overrides: str, name: str = "training", target: TargetName = "kubeflow", registry: str = REGISTRY
) -> Compiled:
    file = folder / "pipeline.yaml"
    compile_pipeline(name, target, ROOT, file, overrides=overrides, image_registry=registry)
    return Compiled(file)


# Defaults.


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_asks_for_cores_and_memory_and_none_is_limited(name: str, tmp_path: Path) -> None:
    pipeline = compiled(tmp_path, name=name)
    for step in pipeline.tasks:
        assert set(pipeline.resources(step)) == {"CpuRequest", "MemoryRequest"}


def test_each_step_fits_a_node_of_two_cores_and_8_gb_beside_kubeflows_own_pods() -> None:
    for name in components():
        settings = step_settings(name, Target("kubeflow"))
        assert settings.cpu is not None
        assert settings.memory is not None
        assert cores(settings.cpu) <= 0.5
        assert 0.25 * GIB <= memory_bytes(settings.memory) <= 3 * GIB


def test_the_memory_of_steps_is_more_than_was_measured() -> None:
    """docs/benchmarks.md, in megabytes: TFDV at 5,000,000 rows, the evaluation of 200,000, ingest of 50,000,000."""
    for name, megabytes in {"validate_data": 2_747, "evaluate_model": 1_088, "ingest_data": 718}.items():
        memory = REQUESTS[name].memory
        assert memory is not None
        assert memory_bytes(memory) > megabytes * 10**6


def test_the_library_asks_only_for_steps_that_there_are() -> None:
    assert set(REQUESTS) <= set(components())


def test_vertex_ai_chooses_the_machine_of_a_step_that_asks_for_nothing(tmp_path: Path) -> None:
    pipeline = compiled(tmp_path, target="vertex")
    assert all("resources" not in container for container in pipeline.containers.values())


# Settings.


def test_a_step_is_given_what_is_said_of_it_and_else_what_is_said_of_all(tmp_path: Path) -> None:
    steps = "{default: {memory: 1Gi, retries: 1}, train_model: {cpu: 4, cpu_limit: 6.5, memory: 8Gi}}"
    pipeline = compiled(tmp_path, f"targets.kubeflow.steps={steps}")
    assert pipeline.resources("train-model") == {
        "CpuRequest": "4",
        "CpuLimit": "6.5",
        "MemoryRequest": "8Gi",
        "MemoryLimit": "8Gi",
    }
    # Memory that is set is a limit too; cores are not, since a limit would only slow the step down.
    assert pipeline.resources("validate-data") == {
        "CpuRequest": "500m",
        "MemoryRequest": "1Gi",
        "MemoryLimit": "1Gi",
    }
    assert {task["retryPolicy"]["maxRetryCount"] for task in pipeline.tasks.values()} == {1}


@pytest.mark.parametrize(
    ("said", "below", "expected"),
    [
        ({"memory_limit": "1Gi"}, {"memory": "2Gi"}, {"memory_limit": "1Gi"}),
        ({"memory_limit": "4Gi"}, {"memory": "2Gi"}, {"memory": "2Gi", "memory_limit": "4Gi"}),
        ({"memory": "8Gi"}, {"memory": "1Gi", "memory_limit": "2Gi"}, {"memory": "8Gi"}),
        ({"cpu": 3}, {"cpu": "1", "cpu_limit": "2000m"}, {"cpu": "3"}),
        ({"memory": "1G"}, {"memory_limit": "1Gi"}, {"memory": "1G", "memory_limit": "1Gi"}),
    ],
)
def test_what_is_inherited_gives_way_to_what_is_said(
    said: dict[str, Any], below: dict[str, Any], expected: dict[str, Any]
) -> None:
    merged = StepSettings.model_validate(said).over(StepSettings.model_validate(below))
    assert merged.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize(
    ("target", "accelerator"), [("kubeflow", "nvidia.com/gpu"), ("vertex", "NVIDIA_TESLA_T4")], ids=str
)
def test_a_step_gets_accelerators(target: TargetName, accelerator: str, tmp_path: Path) -> None:
    steps = f"{{train_model: {{accelerator: {{type: {accelerator}, count: 2}}}}}}"
    pipeline = compiled(tmp_path, f"targets.{target}.steps={steps}", target=target)
    found = pipeline.containers["train-model"]["resources"]["accelerator"]
    assert (found["resourceType"], found["resourceCount"]) == (accelerator, "2")


def test_on_vertex_ai_what_a_step_asks_for_chooses_its_machine(tmp_path: Path) -> None:
    steps = "{train_model: {cpu: 8, memory: 32Gi}}"
    pipeline = compiled(tmp_path, f"targets.vertex.steps={steps}", target="vertex")
    resources = pipeline.resources("train-model")
    assert (resources["CpuLimit"], resources["MemoryLimit"]) == ("8", "32Gi")
    assert pipeline.documents == 1


def test_a_step_is_tried_again_with_growing_pauses_and_only_where_that_is_said(tmp_path: Path) -> None:
    steps = "{train_model: {retries: 3, backoff_seconds: 30}}"
    pipeline = compiled(tmp_path, f"targets.kubeflow.steps={steps}")
    assert [name for name, task in pipeline.tasks.items() if "retryPolicy" in task] == ["train-model"]
    assert pipeline.tasks["train-model"]["retryPolicy"] == {
        "maxRetryCount": 3,
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        # Argo ends a later attempt so long after the first one began: not within an hour, as KFP would have it.
        "backoffMaxDuration": "604800s",
    }


def test_a_step_is_placed_and_ended_in_time(tmp_path: Path) -> None:
    steps = (
        "{train_model: {timeout_seconds: 7200, node_selector: {pool: large}, "
        "tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}, {key: team, value: churn}]}}"
    )
    pipeline = compiled(tmp_path, f"targets.kubeflow.steps={steps}")
    pod = pipeline.pods["train-model"]
    assert pod["activeDeadlineSeconds"] == "7200"
    assert pod["nodeSelector"]["labels"] == {"pool": "large"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "churn"},
    ]
    assert not {"nodeSelector", "tolerations", "activeDeadlineSeconds"} & set(pipeline.pods["evaluate-model"])


def test_caching_can_be_turned_off_for_one_step_and_for_all(tmp_path: Path) -> None:
    def cached(steps: str) -> set[str]:
        pipeline = compiled(tmp_path, f"targets.kubeflow.steps={steps}")
        return {name for name, task in pipeline.tasks.items() if task["cachingOptions"].get("enableCache")}

    usual = cached("{}")
    assert cached("{train_model: {cache: false}}") == usual - {"train-model"}
    assert cached("{default: {cache: false}}") == set()
    # What has effects is never cached, whatever is said of all.
    assert cached("{default: {cache: false}, train_model: {cache: true}}") == {"train-model"}
    assert cached("{default: {cache: true}}") == usual


# Pods on a Kubeflow.


def test_pods_are_given_config_maps_pull_secrets_labels_and_annotations(tmp_path: Path) -> None:
    pipeline = compiled(
        tmp_path,
        "targets.kubeflow.config_maps={proxy: {url: HTTPS_PROXY}}",
        "targets.kubeflow.pull_secrets=[registry]",
        "targets.kubeflow.pod_labels={team: churn}",
        'targets.kubeflow.pod_annotations={sidecar.istio.io/inject: "false"}',
    )
    for pod in pipeline.pods.values():
        (taken,) = pod["configMapAsEnv"]
        assert (taken["configMapName"], taken["keyToEnv"]) == (
            "proxy",
            [{"configMapKey": "url", "envVar": "HTTPS_PROXY"}],
        )
        assert [item["secretName"] for item in pod["imagePullSecret"]] == ["registry"]
        assert pod["podMetadata"]["labels"]["team"] == "churn"
        assert pod["podMetadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}


def test_labels_lead_from_a_pod_to_project_pipeline_and_commit(tmp_path: Path) -> None:
    for name, pod in compiled(tmp_path).pods.items():
        labels = pod["podMetadata"]["labels"]
        assert (labels["lifecycle.project"], labels["lifecycle.pipeline"]) == ("churn", "training"), name
        assert re.fullmatch(r"[0-9a-f]{12}", labels.get("lifecycle.commit", "0" * 12))


def test_labels_have_the_characters_and_the_length_of_kubernetes() -> None:
    assert labels_of("a" * 62 + "_", "batch_scoring", "") == {
        "lifecycle.project": "a" * 62,
        "lifecycle.pipeline": "batch_scoring",
    }
    assert labels_of("churn", "training", "0123456789abcdef")["lifecycle.commit"] == "0123456789ab"


@pytest.mark.parametrize("registry", ["", REGISTRY], ids=["stock image", "built image"])
def test_steps_run_as_the_restricted_standard_asks(registry: str, tmp_path: Path) -> None:
    pipeline = compiled(tmp_path, registry=registry)
    for name, pod in pipeline.pods.items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        # An image of the library's has its user; a stock one has none but root, and no home for another.
        assert pod["securityContext"].get("runAsUser") == (None if registry else "1000")
        variables = {item["name"]: item.get("value") for item in pipeline.containers[name].get("env") or []}
        assert variables.get("HOME") == (None if registry else "/tmp")
        # `getpass.getuser()`, which DVC asks, fails for a user that the image does not know and nothing names.
        assert variables.get("USER") == (None if registry else "lifecycle")


def test_people_read_a_steps_name_in_words(tmp_path: Path) -> None:
    tasks = compiled(tmp_path).tasks
    assert tasks["build-training-set"]["taskInfo"]["name"] == "Build training set"
    # Vertex AI tells of a task by this name, which is its own there.
    assert compiled(tmp_path, target="vertex").tasks["build-training-set"]["taskInfo"]["name"] == "build-training-set"


def test_a_workflow_goes_when_it_is_told_to(tmp_path: Path) -> None:
    assert "pipelineConfig" not in compiled(tmp_path).kubernetes
    kept = compiled(tmp_path, "targets.kubeflow.workflow_ttl_seconds=86400").kubernetes
    # Kubeflow's own hour for runs that succeeded, or failed, would count before what is said of both.
    assert kept["pipelineConfig"] == {
        "resourceTtlOnCompletion": 86400,
        "resourceTtlOnSuccess": 86400,
        "resourceTtlOnFailure": 86400,
    }


def test_a_release_is_told_what_its_servers_run_on(tmp_path: Path) -> None:
    pipeline = compiled(tmp_path, "targets.kubeflow.servers={service_account: models, mode: standard}")
    variables = {item["name"]: item.get("value") for item in pipeline.containers["release-model"]["env"]}
    said = {"service_account": "models", "mode": "standard"}
    assert json.loads(variables["LIFECYCLE_SERVING_KSERVE"]) == said


# Refusals.


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps={train_modle: {cpu: 1}}", "steps.train_modle: no step has this name; did you mean `train_model`?"),
        ("steps={train-model: {cpu: 1}}", "did you mean `train_model`?"),
        ("steps={defualt: {cpu: 1}}", "did you mean `default`?"),
        ("steps={qqqq: {cpu: 1}}", "there are default, build_training_set"),
        ("steps={train_model: {memroy: 1Gi}}", "steps.train_model.memroy: unknown key; did you mean `memory`?"),
        ("steps={train_model: {memory: 4}}", "a whole number with its unit, such as 512Mi or 4Gi (it is 4)"),
        ("steps={train_model: {memory: 4GB}}", "a whole number with its unit, such as 512Mi or 4Gi (it is '4GB')"),
        ("steps={train_model: {memory: 1.5Gi}}", "a whole number with its unit"),
        ("steps={train_model: {cpu: 500mm}}", "counted in cores, such as 2 or 0.5, or in thousandths"),
        ("steps={train_model: {cpu: 0}}", "counted in cores"),
        ("steps={train_model: {cpu: true}}", "valid string"),
        ("steps={train_model: {memory: 4Gi, memory_limit: 2Gi}}", "memory_limit (2Gi) is below memory (4Gi)"),
        ("steps={train_model: {cpu: 2, cpu_limit: 500m}}", "cpu_limit (500m) is below cpu (2)"),
        ("steps={train_model: {retries: -1}}", "greater than or equal to 0"),
        ("steps={train_model: {timeout_seconds: 0}}", "greater than 0"),
        ("steps={train_model: {node_selector: {pool: two words}}}", "steps.train_model.node_selector.pool"),
        ("steps={train_model: {tolerations: [{value: x}]}}", "operator Equal needs the taint's key"),
        ("steps={train_model: {tolerations: [{key: a, operator: Exists, value: x}]}}", "Exists takes no value"),
        ("steps={train_model: {accelerator: {type: NVIDIA_TESLA_T4}}}", "there it looks like nvidia.com/gpu"),
        ("steps={register_model: {cache: true}}", "Leave cache out: it runs each time"),
        ("config_maps={a: {x: NAME}, b: {y: NAME}}", "NAME: a variable comes from one key of one secret or config map"),
        ("pod_labels={lifecycle.project: mine}", "the library sets labels that begin with lifecycle."),
        ('pod_labels={team: "a b"}', "pod_labels.team"),
        ("pull_secrets=[Registry]", "pull_secrets.0"),
        ("servers={service_account: My Account}", "servers.service_account"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_rule(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        compiled(tmp_path, f"targets.kubeflow.{setting}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "{train_model: {timeout_seconds: 60}}",
            "train_model.timeout_seconds cannot be had on Vertex AI: it has",
        ),
        ("{default: {node_selector: {pool: large}}}", "default.node_selector cannot be had on Vertex AI: it chooses"),
        (
            "{train_model: {tolerations: [{key: a, value: b}]}}",
            "tolerations cannot be had on Vertex AI: it shows",
        ),
        ("{train_model: {accelerator: {type: nvidia.com/gpu}}}", "there it looks like NVIDIA_TESLA_T4"),
        ("{train_modle: {cpu: 1}}", "targets.vertex.steps.train_modle: no step has this name"),
    ],
)
def test_what_vertex_ai_does_not_know_is_refused_when_compiling(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        compiled(tmp_path, f"targets.vertex.steps={setting}", target="vertex")
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_of_one_cluster_is_not_asked_of_another(tmp_path: Path) -> None:
    settings = "targets.kubeflow.steps={train_model: {timeout_seconds: 60, node_selector: {pool: large}}}"
    assert compiled(tmp_path, settings, target="vertex").documents == 1
