"""What a hosted machine is told: the workflows of this repository and its dev container. actionlint judges the former's
words in test_deploy.py."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import ROOT

from kfp_lifecycle.config.deployment import Deployment

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values() for step in job["steps"]]


def released(tag: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the step of a release that looks at its tag."""
    (script,) = (each["run"] for each in steps(ROOT / ".github/workflows/release.yml") if "tag" in each.get("name", ""))
    told = {"GITHUB_REF_NAME": tag, "RUNNER_TEMP": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, env=told, capture_output=True, text=True, check=False)


def test_a_release_is_told_by_what_the_list_of_changes_says_of_it(tmp_path: Path) -> None:
    (version,) = re.findall(r'^version = "(.+)"', PROJECT, re.MULTILINE)
    assert released(f"v{version}", tmp_path).returncode == 0
    notes = (tmp_path / "notes.md").read_text("utf-8")
    assert notes.strip() in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "### Added" in notes
    assert "## [" not in notes


def test_a_tag_that_is_not_the_version_releases_nothing(tmp_path: Path) -> None:
    assert released("v99.0.0", tmp_path).returncode != 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_a_workflow_sets_up_what_tests_are_built_with(workflow: Path) -> None:
    """`.ci/go/build` takes the Go that is there, and no other."""
    wanted = [
        re.findall(r"^go (\d+)\.(\d+)", file.read_text(), re.MULTILINE)[0] for file in ROOT.glob(".ci/go/*/go.mod")
    ]
    newest = max((int(major), int(minor)) for major, minor in wanted)
    used = {
        step["uses"].partition("@")[0]: step["with"] for step in steps(workflow) if "with" in step and "uses" in step
    }
    assert used["actions/setup-go"]["go-version"] == "{}.{}".format(*newest)
    assert used["actions/setup-python"]["python-version"].split()[-1] == "3.11", "the last is the default"


def test_the_tests_are_tried_on_every_python_that_is_promised() -> None:
    (ci,) = (workflow for workflow in WORKFLOWS if workflow.name == "ci.yml")
    (pythons,) = (step["with"]["python-version"] for step in steps(ci) if "setup-python" in step.get("uses", ""))
    assert set(pythons.split()) == set(re.findall(r"Python :: (3\.\d+)", PROJECT))


def test_the_dev_container_ends_with_what_this_repository_makes() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    program, target = container["postCreateCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    port = Deployment.model_fields["http_port"].default
    assert container["forwardPorts"] == [port, port + 1]
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()
