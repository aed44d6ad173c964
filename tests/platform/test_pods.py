"""Pods of each pipeline on a Kubeflow: what the benchmarks' table says is what its compiled form comes to."""

from __future__ import annotations

import re

import pytest

from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline
from kfp_lifecycle.compilation.workflow_size import Json, pods, read_pipeline
from kfp_lifecycle.runtime.closure import ROOT

ROW = re.compile(
    r"^\| (?P<pipeline>\w+)(, (?P<course>[\w ]+))? \| (?P<steps>\d+) \| (?P<importers>\d+) \| (?P<groups>\d+) "
    r"\| (?P<pods>\d+) \| (?P<seconds>\d+) s \| \d+ \|$",
    re.MULTILINE,
)
# The groups that are not run in each course.
SKIPPED = {"approved": ["rejected"], "rejected": ["approved"], "nothing drifts": ["retrain"]}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    folder = tmp_path_factory.mktemp("compiled")
    for name in PIPELINES:
        compile_pipeline(name, "kubeflow", ROOT, folder / f"{name}.yaml", image_registry="registry.example/ml")
    return {name: read_pipeline(folder / f"{name}.yaml") for name in PIPELINES}


def test_the_table_of_the_benchmarks_is_what_the_pipelines_come_to(compiled: dict[str, Json]) -> None:
    rows = [match.groupdict() for match in ROW.finditer((ROOT / "docs" / "benchmarks.md").read_text("utf-8"))]
    assert {row["pipeline"] for row in rows} == set(PIPELINES)
    for row in rows:
        found = pods(compiled[row["pipeline"]], SKIPPED.get(row["course"] or "", []))
        assert int(row["pods"]) == found, row
        assert found == 2 * int(row["steps"]) + int(row["importers"]) + int(row["groups"]), row
        assert int(row["seconds"]) == 10 * found


def test_a_run_of_the_yaml_that_was_measured_had_as_many_pods_as_are_counted() -> None:
    """A run of `training` on Kubeflow Pipelines 2.17.0 that was approved: 44 pods, one group more and a step more."""

    def tasks(number: int, component: str) -> dict[str, Json]:
        return {f"{component}-{each}": task(component) for each in range(number)}

    def task(component: str, name: str = "") -> Json:
        return {"componentRef": {"name": component}, "taskInfo": {"name": name}}

    branches = {"a": task("approved", "approved"), "r": task("rejected", "rejected")}
    inside = {**tasks(11, "step"), **tasks(3, "importer"), "branches": task("branches")}
    pipeline = {
        "root": {"dag": {"tasks": {"inside": task("inside"), "notify": task("step")}}},
        "components": {
            "step": {"executorLabel": "step"},
            "importer": {"executorLabel": "importer"},
            "inside": {"dag": {"tasks": inside}},
            "branches": {"dag": {"tasks": branches}},
            "approved": {"dag": {"tasks": tasks(6, "step")}},
            "rejected": {"dag": {"tasks": tasks(1, "step")}},
        },
        "deploymentSpec": {"executors": {"step": {"container": {}}, "importer": {"importer": {}}}},
    }
    assert pods(pipeline, ["rejected"]) == 44
