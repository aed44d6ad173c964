"""What is compiled for Vertex AI, and what is refused there before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.backends.schedules import occurrence_digest
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.compilation.vertex_refusals import refuse_compiled
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.closure import ROOT

REFERENCE = "secretmanager://projects/churn-project/secrets/redis"
KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
ACCOUNT = "steps@p.iam.gserviceaccount.com"
HOOK = "secretmanager://projects/churn-project/secrets/hook/versions/3"


def compiled(tmp_path: Path, *overrides: str, pipeline: str = "materialization") -> dict[str, Any]:
    file = tmp_path / f"{pipeline}.yaml"
    compile_pipeline(pipeline, "vertex", ROOT, file, overrides=[f"targets.vertex.{item}" for item in overrides])
    return read_pipeline(file)


def variables(specification: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name.removeprefix("exec-"): {
            item["name"]: item.get("value", "") for item in executor["container"].get("env", [])
        }
        for name, executor in specification["deploymentSpec"]["executors"].items()
        if "container" in executor
    }


class TestSecrets:
    def test_every_step_is_told_where_its_secrets_are_and_the_exit_handler_can_read_them(self, tmp_path: Path) -> None:
        secrets = f"secrets={{REDIS_PASSWORD: '{REFERENCE}', LIFECYCLE_NOTIFY_URLS: '{HOOK}'}}"
        specification = compiled(tmp_path, secrets)
        for name, told in variables(specification).items():
            assert (told["REDIS_PASSWORD"], told["LIFECYCLE_NOTIFY_URLS"]) == (REFERENCE, HOOK), name
        carried = specification["deploymentSpec"]["executors"]["exec-notify"]["container"]["command"][3]
        without = compiled(tmp_path)["deploymentSpec"]["executors"]["exec-notify"]["container"]["command"][3]
        assert len(carried) > len(without)

    def test_a_step_that_starts_servers_hands_the_references_on(self, tmp_path: Path) -> None:
        told = variables(compiled(tmp_path, f"secrets={{REDIS_PASSWORD: '{REFERENCE}'}}", pipeline="training"))
        assert told["release-model"]["LIFECYCLE_SERVING_REFERENCES"] == f'{{"REDIS_PASSWORD": "{REFERENCE}"}}'
        assert "LIFECYCLE_SERVING_REFERENCES" not in told["train-model"]

    def test_a_step_that_starts_servers_is_told_what_they_run_on(self, tmp_path: Path) -> None:
        said = [
            "servers={machine_type: n2-standard-4}",
            "labels={team: growth}",
            f"service_account={ACCOUNT}",
        ]
        told = variables(compiled(tmp_path, *said, pipeline="training"))["release-model"]["LIFECYCLE_SERVING_VERTEX"]
        assert json.loads(told) == {
            "machine_type": "n2-standard-4",
            "labels": {"team": "growth"},
            "service_account": ACCOUNT,
        }

    @pytest.mark.parametrize("value", ["hunter2", "secretmanager://db-password", f"{REFERENCE}/hunter2"])
    def test_a_secret_in_clear_is_refused_and_not_repeated(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigurationError, match="a secret itself never stands here: write secretmanager") as found:
            compiled(tmp_path, f"secrets.REDIS_PASSWORD='{value}'")
        assert value not in str(found.value)


def test_features_are_computed_in_bigquery_and_served_from_bigtable_by_setting(tmp_path: Path) -> None:
    offline, online = "bigquery://churn-project/features?location=europe-west4", "bigtable://churn-project/features"
    told = variables(compiled(tmp_path, f"offline_store={offline}", f"online_store={online}", pipeline="training"))
    assert told["build-training-set"]["LIFECYCLE_OFFLINE_STORE"] == offline
    for step in ("materialize-features", "release-model"):
        assert told[step]["LIFECYCLE_ONLINE_STORE"] == online


class TestSchedules:
    def digest(self, file: Path, *overrides: str) -> str:
        target = load_configuration(ROOT, [f"targets.vertex.{item}" for item in overrides]).targets.vertex
        assert target is not None
        return occurrence_digest(Schedule(cron="0 5 * * *"), file, target)

    def test_a_schedule_differs_where_its_jobs_would(self, tmp_path: Path) -> None:
        (file := tmp_path / "pipeline.yaml").write_text("the same")
        differing = [
            "network=projects/1/global/networks/inside",
            f"encryption_key={KEY}",
            f"service_account={ACCOUNT}",
            "pipeline_root=gs://elsewhere/runs",
            "failure_policy=fast",
            "labels={team: growth}",
            "persistent_resource=warm",
        ]
        plain = self.digest(file)
        assert len({plain, *(self.digest(file, item) for item in differing)}) == 8
        assert self.digest(file, "endpoint=https://europe-west4-aiplatform.p.googleapis.com") == plain


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("upload_root=s3://bucket/root", "keeps outputs and fetches files in Cloud Storage: gs://BUCKET/FOLDER"),
            ("upload_root=''", "keeps outputs and fetches files in Cloud Storage"),
            ("upload_root=null", "upload_root"),
            ("pipeline_root=minio://bucket/root", "in Cloud Storage: gs://BUCKET/FOLDER"),
            ("experiment=Churn_1", "named by at most 128 small letters, digits and hyphens"),
            ("service_account=default-editor", "NAME@PROJECT.iam.gserviceaccount.com"),
            ("network=default", "projects/NUMBER/global/networks/NAME"),
            ("network=projects/churn/global/networks/default", "by the number of its project"),
            (f"encryption_key={KEY}/cryptoKeyVersions/1", "without a version"),
            ("labels={Team: growth}", "a label's key is at most 63 small letters"),
            ("labels={lifecycle_project: mine}", "the library sets those that begin with lifecycle_"),
            ("labels={team: Growth Team}", "a label's value is at most 63 small letters"),
            ("labels={team: " + 64 * "g" + "}", "a label's value is at most 63 small letters"),
            ("reserved_ip_ranges=[steps]", "ranges of a network: set network too"),
            ("persistent_resource=projects/p/persistentResources/warm", "it is the resource's id"),
            ("failure_policy=slowly", "slow"),
            ("volumes={data: /data}", "volumes cannot be had on Vertex AI: .*below /gcs/BUCKET"),
            ("config_maps={proxy: {url: HTTPS_PROXY}}", "config_maps cannot be had on Vertex AI"),
            ("pull_secrets=[registry]", "roles/artifactregistry.reader"),
            ("pod_labels={team: churn}", "its jobs have labels: targets.vertex.labels"),
            ("secrets={mlflow: {password: MLFLOW_TRACKING_PASSWORD}}", "secrets"),
            ("steps.train_model={tolerations: [{operator: Exists}]}", "tolerations cannot be had on Vertex AI"),
            ("steps.train_model={timeout_seconds: 60}", "timeout_seconds cannot be had on Vertex AI"),
            ("steps.train_model={cpu: 97}", "the largest machine has 96 cores"),
            ("steps.train_model={memory: 700Gi}", "the largest machine has 624G"),
            ("steps.train_model={accelerator: {type: NVIDIA_TESLA_T4, count: 3}}", "a machine has 1, 2, 4, 8 or 16"),
            ("prediction_log=/data/predictions", "a folder of one step's machine.*below /gcs/BUCKET"),
            ("study_store=/data/studies", "a folder of one step's machine"),
            ("dataset_remote=/data/datasets", "a folder of one step's machine"),
            ("online_store=/gcs/bucket/online.db", "a database file in a bucket"),
            ("tracking_uri=sqlite:///mlflow.db", "a folder of one step's machine"),
        ],
    )
    def test_what_vertex_has_no_place_for(self, tmp_path: Path, setting: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            compiled(tmp_path, setting)

    def test_a_second_document_a_wrong_name_and_parameters_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "pipeline.yaml"
        sound: dict[str, Any] = {"pipelineInfo": {"name": "training"}, "root": {}}
        file.write_text(yaml.safe_dump(sound))
        refuse_compiled(file)
        file.write_text(f"{yaml.safe_dump(sound)}---\n{yaml.safe_dump({'platforms': {'kubernetes': {}}})}")
        with pytest.raises(ConfigurationError, match="has 2 YAML documents, and Vertex AI takes one"):
            refuse_compiled(file)
        file.write_text(yaml.safe_dump({**sound, "pipelineInfo": {"name": "Training_1"}}))
        with pytest.raises(ConfigurationError, match="is called Training_1, which is no name on Vertex AI"):
            refuse_compiled(file)
        parameters = {"text": {"parameterType": "STRING", "defaultValue": "x" * 10_000}}
        file.write_text(yaml.safe_dump({**sound, "root": {"inputDefinitions": {"parameters": parameters}}}))
        with pytest.raises(ConfigurationError, match="come to 10004 characters, and a run may have 10000"):
            refuse_compiled(file)
