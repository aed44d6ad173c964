"""What is compiled for Vertex AI, and what is refused there before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.backends.schedules import occurrence_digest
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.closure import ROOT

REFERENCE = "secretmanager://projects/churn-project/secrets/redis"
KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
HOOK = "secretmanager://projects/churn-project/secrets/hook/versions/3"


def compiled(tmp_path: Path, *overrides: str, pipeline: str = "materialization") -> dict[str, Any]:
    file = tmp_path / f"{pipeline}.yaml"
    compile_pipeline(pipeline, "vertex", ROOT, file, overrides=[f"targets.vertex.{item}" for item in overrides])
    specification: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return specification


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
        secrets = f"secrets={{REDIS_PASSWORD: '{REFERENCE}', LIFECYCLE_WEBHOOK_URL: '{HOOK}'}}"
        specification = compiled(tmp_path, secrets)
        for name, told in variables(specification).items():
            assert (told["REDIS_PASSWORD"], told["LIFECYCLE_WEBHOOK_URL"]) == (REFERENCE, HOOK), name
        carried = specification["deploymentSpec"]["executors"]["exec-notify"]["container"]["command"][3]
        without = compiled(tmp_path)["deploymentSpec"]["executors"]["exec-notify"]["container"]["command"][3]
        assert len(carried) > len(without)

    def test_a_step_that_starts_servers_hands_the_references_on(self, tmp_path: Path) -> None:
        told = variables(compiled(tmp_path, f"secrets={{REDIS_PASSWORD: '{REFERENCE}'}}", pipeline="training"))
        assert told["release-model"]["LIFECYCLE_SERVING_REFERENCES"] == f'{{"REDIS_PASSWORD": "{REFERENCE}"}}'
        assert "LIFECYCLE_SERVING_REFERENCES" not in told["train-model"]

    @pytest.mark.parametrize("value", ["hunter2", "secretmanager://db-password", f"{REFERENCE}/hunter2"])
    def test_a_secret_in_clear_is_refused_and_not_repeated(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigurationError, match="a secret itself never stands here: write secretmanager") as found:
            compiled(tmp_path, f"secrets.REDIS_PASSWORD='{value}'")
        assert value not in str(found.value)


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
            "service_account=steps@p.iam.gserviceaccount.com",
            "pipeline_root=gs://elsewhere/runs",
            "failure_policy=fast",
            "labels={team: growth}",
            "persistent_resource=warm",
        ]
        plain = self.digest(file)
        assert len({plain, *(self.digest(file, item) for item in differing)}) == 8
        assert self.digest(file, "endpoint=https://europe-west4-aiplatform.p.googleapis.com") == plain
