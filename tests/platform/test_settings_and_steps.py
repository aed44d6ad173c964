"""A step depends on exactly what it reads: which steps run again when a setting or a definition changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.runtime.closure import ROOT

DATA = {"ingest-data", "version-dataset", "validate-data"}
LEARNING = {"build-training-set", "tune-hyperparameters", "train-model", "evaluate-model"}
DECISION = {"decide-promotion", "write-report", "write-report-2"}
RELEASE = {"register-model", "validate-serving", "release-model", "promote-model", "write-report"}
STORE = {"materialize-features"}
SKEW = {"check-serving-skew"}

# A changed setting, and the steps that then run again: those that read it, and those that read what these give.
SETTINGS = [
    ("alerts.max_latency_p95_ms=250", set()),
    ("schedules.materialization=0 4 * * *", set()),
    ("targets.kubeflow.tracking_uri=http://elsewhere:5000", set()),
    ("targets.kubeflow.volumes={predictions: /var/log/predictions}", set()),
    ("monitoring.max_drifted_share=0.4", SKEW),
    ("gate.rules.0.min=0.71", DECISION | RELEASE),
    ("gate.rules.0.why=Another sentence.", DECISION | RELEASE),
    ("deployment.steps=[100]", {"release-model", "promote-model", "write-report"}),
    ("deployment.http_port=9090", {"release-model", "promote-model", "write-report"}),
    ("evaluation.bootstrap_replicates=50", {"evaluate-model"} | DECISION | RELEASE),
    ("tuning.trials=13", LEARNING - {"build-training-set"} | DECISION | RELEASE),
    ("training.seed=7", LEARNING - {"build-training-set"} | DECISION | RELEASE),
    ("snapshots.count=11", LEARNING | DECISION | RELEASE | SKEW),
    ("validation.max_rows=5000000", DATA | LEARNING | DECISION | RELEASE | STORE | SKEW),
    ("source.timeout_seconds=60", {"fingerprint-source"} | DATA | LEARNING | DECISION | RELEASE | STORE | SKEW),
]
# A changed file of the project, likewise.
DEFINITIONS = [
    ("feature_repo/spending.sql", LEARNING | DECISION | RELEASE | STORE | SKEW),
    ("feature_repo/label.sql", LEARNING | DECISION | RELEASE | SKEW),
    ("expectations/rules.yaml", DATA | LEARNING | DECISION | RELEASE | STORE | SKEW),
]


class Steps:
    """The steps of a compiled pipeline: what each is, is told and reads."""

    def __init__(self, file: Path) -> None:
        self._pipeline: dict[str, Any] = read_pipeline(file)
        self.told: dict[str, str] = {}
        """All that is in a step's cache key but its inputs from other steps, by step."""
        self.reads: dict[str, set[str]] = {}
        """The steps that each step reads from."""
        self.importers: set[str] = set()
        """Tasks that only name what is there."""
        self._walk(self._pipeline["root"]["dag"], {})

    def _walk(self, dag: Mapping[str, Any], outer: Mapping[str, set[str]]) -> None:
        for name, task in dag["tasks"].items():
            inputs = task.get("inputs", {})
            sources = {port: self._producers(item, outer) for part in inputs.values() for port, item in part.items()}
            sources["condition"] = {
                producer for port, found in sources.items() if port.startswith("pipelinechannel") for producer in found
            }
            component = self._pipeline["components"][task["componentRef"]["name"]]
            if "dag" in component:
                self._walk(
                    component["dag"], sources | {"condition": sources["condition"] | outer.get("condition", set())}
                )
                continue
            executor = self._pipeline["deploymentSpec"]["executors"][component["executorLabel"]]
            if "importer" in executor:
                self.importers.add(name)
            constants = {
                port: item for part in inputs.values() for port, item in part.items() if "runtimeValue" in item
            }
            self.told[name] = json.dumps([executor, constants], sort_keys=True)
            self.reads[name] = {step for found in sources.values() for step in found} | (
                outer.get("condition", set()) if "triggerPolicy" in task else set()
            )

    @staticmethod
    def _producers(item: Mapping[str, Any], outer: Mapping[str, set[str]]) -> set[str]:
        for kind in ("taskOutputArtifact", "taskOutputParameter"):
            if kind in item:
                return {item[kind]["producerTask"]}
        for kind in ("componentInputArtifact", "componentInputParameter"):
            if kind in item:
                return set(outer.get(item[kind], set()))
        return set()

    def run_again(self, before: Steps) -> set[str]:
        """The steps that run again after a change, importers left out."""
        again = {name for name, told in self.told.items() if before.told.get(name) != told}
        while more := {name for name, read in self.reads.items() if read & again} - again:
            again |= more
        return again - self.importers


def compiled(folder: Path, project: Path, *overrides: str) -> Steps:
    file = folder / f"{len(list(folder.iterdir()))}.yaml"
    compile_pipeline("training", "local", project, file, overrides=overrides, state=folder / "state")
    return Steps(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def before(folder: Path) -> Steps:
    return compiled(folder, ROOT)


@pytest.mark.parametrize(("setting", "expected"), SETTINGS, ids=[setting for setting, _ in SETTINGS])
def test_a_changed_setting_runs_what_reads_it(folder: Path, before: Steps, setting: str, expected: set[str]) -> None:
    assert compiled(folder, ROOT, setting).run_again(before) == expected


@pytest.mark.parametrize(("path", "expected"), DEFINITIONS, ids=[path for path, _ in DEFINITIONS])
def test_a_changed_definition_runs_what_reads_it(
    folder: Path, before: Steps, tmp_path: Path, path: str, expected: set[str]
) -> None:
    for name in ("pipeline.yaml", "feature_repo", "expectations"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    changed = tmp_path / path
    comment = "#" if path.endswith(".yaml") else "--"
    changed.write_text(f"{changed.read_text('utf-8')}\n{comment} changed\n", "utf-8")
    # The source's path is named from the project's folder.
    same_source = f"source.url=duckdb:///{ROOT / '.lifecycle/data/churn.duckdb'}"
    assert compiled(folder, tmp_path, same_source).run_again(before) == expected


def test_the_same_project_compiled_again_runs_nothing(folder: Path, before: Steps) -> None:
    assert compiled(folder, ROOT).run_again(before) == set()


def test_writing_a_default_down_changes_nothing(folder: Path, before: Steps) -> None:
    assert compiled(folder, ROOT, "monitoring.window_days=7", "training.seed=42").run_again(before) == set()
