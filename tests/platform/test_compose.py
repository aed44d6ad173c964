"""Components used alone: in another team's pipeline, with settings written by hand and tables of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import compiler, components, dsl

from kfp_lifecycle.compilation.pipeline import compile_components
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.closure import ROOT

EXAMPLE = ROOT / "examples" / "compose" / "run.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [str(interpreter("platform")), str(EXAMPLE), *arguments]
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_another_teams_pipeline_runs_with_three_of_our_components() -> None:
    done = run("--rows", "500")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "make-orders",
        "version-dataset",
        "validate-data",
        "write-report",
    ]


@pytest.mark.slow
def test_a_bad_table_stops_it_in_the_components_own_words() -> None:
    done = run("--refunds", "3")
    assert done.returncode == 1
    assert "orders.amount: an amount is above 0. 3 rows (0.6%)" in done.stdout or "3 rows (0.3%)" in done.stdout
    assert "write-report" not in done.stdout


def test_a_component_without_settings_says_which_sections_it_wants() -> None:
    with pytest.raises(ConfigurationError, match=r"validate_data needs its settings, a dictionary with the sections"):

        @dsl.pipeline(name="forgetful")
        def forgetful():
            dataset = dsl.importer(artifact_uri="/tmp/tables", artifact_class=dsl.Dataset).output
            validate_data(dataset=dataset, expectations=dataset)


def test_components_as_yaml_take_settings_as_a_struct_and_code_as_an_artifact(tmp_path: Path) -> None:
    """Loaded by a pipeline that has nothing of this library."""
    compile_components(tmp_path)
    loaded = components.load_component_from_file(str(tmp_path / "decide_promotion.yaml"))
    assert {"settings", "code", "validated", "model"} <= set(loaded.component_spec.inputs)

    @dsl.pipeline(name="foreign")
    def foreign():
        artifact = dsl.importer(artifact_uri="gs://bucket/thing", artifact_class=dsl.Artifact)
        loaded(
            settings={"gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.7, "why": "It must rank."}]}},
            code=artifact.output,
            **{
                name: dsl.importer(artifact_uri=f"gs://bucket/{name}", artifact_class=kind).output
                for name, kind in (
                    ("validated", dsl.Dataset),
                    ("training_set", dsl.Artifact),
                    ("model", dsl.Model),
                    ("evaluation", dsl.Artifact),
                )
            },
        )

    compiler.Compiler().compile(foreign, str(tmp_path / "foreign.yaml"))
    assert (tmp_path / "foreign.yaml").is_file()
