"""`lifecycle check`: everything that a project lacks, at once; and a run tells it before it waits for another."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ROOT, lifecycle

from kfp_lifecycle.cli.console import naming
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.projects.lacks import lacks_of_files

CUSTOMERS: dict[str, Any] = {
    "name": "shop",
    "title": "Who leaves",
    "entity": {"name": "customer", "key": "customer_id"},
    "source": {"url": "customers.csv", "tables": {"customers": {"key": ["customer_id"]}}},
    "label": {"name": "left", "title": "leaves", "column": "customers.left", "positive": "yes"},
    "split": {"by": "random"},
    "features": {"tables": ["customers"], "service": "shop"},
    "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.5}]},
    "deployment": {"model": "shop"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project on a file; it lacks a schema."""
    folder = tmp_path / "shop"
    (folder / "expectations").mkdir(parents=True)
    (folder / "expectations" / "rules.yaml").write_text("[]\n")
    (folder / "customers.csv").write_text("customer_id,age,left\n1,20,yes\n2,30,no\n")
    write(folder)
    return folder


def write(folder: Path, **changes: Any) -> None:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(CUSTOMERS | changes))


def looked_at(project: Path, environment: str, module: str) -> list[list[str]]:
    """What one look from an environment of the steps finds."""
    command = [str(interpreter(environment)), "-m", f"kfp_lifecycle.projects.{module}", str(project)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True)
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_unfinished_project_hears_of_all_keys_and_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("name: shop\nsource: {url: a.csv, tables: {orders: {key: [id]}}}\n")
    found, configuration = lacks_of_files(tmp_path, " --project shop")
    assert configuration is None
    told = [f"{lack.where}: {lack.what}" for lack in found]
    assert "pipeline.yaml: gate: this key is required" in told
    assert {lack.where for lack in found[-4:]} == {
        "expectations/rules.yaml",
        "expectations/orders.pbtxt",
        "feature_repo/features.py",
        "feature_repo/label.sql",
    }
    assert any("`lifecycle schema infer orders --project shop`" in line for line in told)


def test_a_flat_table_needs_no_repository_and_no_query(project: Path) -> None:
    found, configuration = lacks_of_files(project, "")
    assert configuration is not None
    assert [lack.where for lack in found] == ["expectations/customers.pbtxt"]


@pytest.mark.parametrize("path", ["/etc", "../other"])
def test_a_path_out_of_the_project_is_a_mistake_and_not_looked_for(project: Path, path: str) -> None:
    write(project, validation={"expectations": path})
    found, _ = lacks_of_files(project, "")
    assert "stays there" in found[0].what
    assert not any(path in lack.where for lack in found)


@pytest.mark.slow
def test_the_source_is_looked_at_by_its_readers(project: Path) -> None:
    assert looked_at(project, "validation", "source_lacks") == []
    titles = {"plann": "Plan"}
    write(project, features={"tables": ["customers"], "service": "shop", "leave_out": ["agee"], "titles": titles})
    [[where, what], [other, told]] = looked_at(project, "validation", "source_lacks")
    assert (where, "customers has no column agee; did a migration rename it? It has age" in what) == (
        "features.leave_out",
        True,
    )
    assert (other, "customers has no column plann" in told) == ("features.titles", True)
    write(project, source={"url": "nowhere.csv", "tables": {"customers": {"key": ["customer_id"]}}})
    [[where, what]] = looked_at(project, "validation", "source_lacks")
    assert (where, f"looked for {project / 'nowhere.csv'}" in what) == ("source.url", True)


@pytest.mark.slow
def test_definitions_that_do_not_load_are_told(tmp_path: Path) -> None:
    for part in ("feature_repo", "expectations", "pipeline.yaml"):
        (tmp_path / part).symlink_to(ROOT / "examples" / "cdnow" / part)
    assert looked_at(tmp_path, "modelling", "definition_lacks") == []
    (tmp_path / "feature_repo").unlink()
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "features.py").write_text("import nowhere\n")
    text = (ROOT / "examples" / "cdnow" / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").unlink()
    (tmp_path / "pipeline.yaml").write_text(
        text.replace("parameters: {max_iter: 1000}", "parameters: {max_itre: 1000}")
    )
    definitions, estimator = looked_at(tmp_path, "modelling", "definition_lacks")
    assert (definitions[0], "No module named 'nowhere'" in definitions[1]) == ("feature_repo", True)
    assert (estimator[0], "has no parameter max_itre; did you mean max_iter?" in estimator[1]) == (
        "training.parameters or tuning.space",
        True,
    )


def test_the_command_ends_with_1_and_names_the_project_in_what_to_do(project: Path) -> None:
    (project / "pipeline.yaml").write_text("name: shop\nsource: {tables: {customers: {key: [customer_id]}}}\n")
    done = lifecycle(project.parent, "check", "--project", "shop", "--json")
    assert done.returncode == 1, done.stderr
    told = {lack["where"]: lack["what"] for lack in json.loads(done.stdout)}
    assert "`lifecycle schema infer customers --project shop`" in told["expectations/customers.pbtxt"]


def test_a_run_tells_the_projects_own_mistakes_before_it_waits_for_another(project: Path) -> None:
    write(project, gate={})
    lifecycle(project.parent, "--version")
    with (project.parent / ".lifecycle" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = lifecycle(project.parent, "run", "training", "--project", "shop")
    assert (done.returncode, "gate.rules: this key is required" in done.stderr) == (2, True), done.stderr
    assert "wait" not in done.stdout


def test_a_message_names_its_project_in_the_commands_that_are_about_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = (
        "Propose one with `lifecycle schema infer orders`, then `lifecycle run training --resume` or `lifecycle down`."
    )
    assert naming(told, tmp_path) == told
    named = told.replace("infer orders`", "infer orders --project 'my shop'`")
    assert naming(told, tmp_path / "my shop") == named
    assert naming(named, tmp_path / "my shop") == named
    assert "--project /elsewhere`" in naming(told, Path("/elsewhere"))
