"""Any model can be trained again bit for bit with one command; where it comes out otherwise, the command says how."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import new_checkout

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import CodeOrigin, Model, Origin
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.cli import recorded_code, reproduction
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.runtime.code_version import CodeVersion, code_version
from kfp_lifecycle.runtime.contract import ContractViolation


def model_of(commit: str, *changed: str) -> Model:
    origin = Origin(pipeline_run="training-1", code=CodeOrigin(commit=commit, changed=list(changed)))
    return Model(model="churn", inputs=[Feature("age", "numeric")], threshold=0.5, origin=origin)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of(""), r"it is not kept in .*its commit is not known"),
        (model_of("1" * 40, "runtime/contract.py"), r"changes to runtime/contract.py were never committed"),
        (model_of("1" * 40), r"the commit 1{40} is not in the repository"),
    ],
)
def test_code_that_cannot_be_had_is_named_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model, message: str
) -> None:
    monkeypatch.setattr(recorded_code, "STATE", tmp_path / "state")
    with pytest.raises(ContractViolation, match=message):
        recorded_code.code_folder("0" * 12, model, tmp_path, tmp_path / "work", print)


def test_code_is_taken_by_its_digest_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_code, "STATE", tmp_path)
    (tmp_path / "code" / "abcdef012345").mkdir(parents=True)
    found = recorded_code.code_folder("abcdef012345", model_of(""), tmp_path, tmp_path / "work", print)
    assert found == tmp_path / "code" / "abcdef012345"


def test_an_estimator_that_the_search_found_is_trained_again_and_the_projects_own_is_left_to_the_settings() -> None:
    linear, parameters = "sklearn.linear_model.LogisticRegression", {"C": 0.5}
    found = model_of("").model_copy(update={"estimator": linear, "parameters": parameters})
    assert reproduction.found_parameters(found) == {"format": 1, "parameters": parameters, "estimator": linear}
    told = StepOrigin(settings={"training": {"estimator": linear}})
    own = found.model_copy(update={"origin": found.origin.model_copy(update={"train_model": told})})
    assert reproduction.found_parameters(own) == {"format": 1, "parameters": parameters}


def test_a_recalibrated_version_names_the_one_whose_estimator_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = StepOrigin(settings={"name": "churn"})
    kept = {"version": "3", "remedy": TrainingRemedy.recalibrate, "build_training_set": told}
    found = model_of("")
    found.model_copy(update={"origin": found.origin.model_copy(update=kept)}).write(tmp_path)
    monkeypatch.setattr(reproduction, "fetch_model", lambda *_: tmp_path)
    with pytest.raises(ContractViolation, match=r"those of version 3, .*\(recalibrate\)\. .*: lifecycle reproduce 3"):
        reproduction.reproduce_model("4", "", "churn", tmp_path)


def test_a_setting_goes_to_the_steps_that_read_it_and_no_other_is_taken() -> None:
    steps = {
        "build_training_set": StepOrigin(settings={"snapshots": {"count": 8}}),
        "train_model": StepOrigin(settings={"training": {"seed": 1}}),
    }
    changed = reproduction.with_overrides(steps, ["training.seed=7", "snapshots.count=9"])
    assert changed["train_model"].settings["training"]["seed"] == 7
    assert changed["build_training_set"].settings["snapshots"]["count"] == 9
    assert steps["train_model"].settings["training"]["seed"] == 1
    with pytest.raises(ConfigurationError, match=r"neither build_training_set nor train_model reads gate"):
        reproduction.with_overrides(steps, ["gate.rules=[]"])


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one module, changed since its commit, a new module, and a file of passwords."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "module.py").write_text("VALUE = 1\n", "utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "module.py").write_text("VALUE = 2\n", "utf-8")
    (folder / "added.py").write_text("ADDED = True\n", "utf-8")
    (folder / ".env").write_text("PASSWORD=secret\n", "utf-8")
    return folder


@pytest.mark.parametrize("name", ["../outside.py", "/tmp/outside.py", "inside/../../outside.py"])
def test_an_archive_of_code_writes_nothing_out_of_its_folder(tmp_path: Path, name: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ContractViolation, match=f"names {name}, which is out of its folder"):
        recorded_code.unpack(content.getvalue(), tmp_path / "code")


def test_a_version_of_code_is_its_commit_and_what_was_changed_since(repository: Path, tmp_path: Path) -> None:
    version = code_version(repository)
    assert version.commit == git(repository, "rev-parse", "HEAD").strip()
    assert version.changed == ("added.py", "module.py")
    assert "secret" not in version.variable() + version.change
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    (tmp_path / "code.diff").write_text(version.change, "utf-8")
    git(clone, "apply", str(tmp_path / "code.diff"))
    for file in ("module.py", "added.py"):
        assert (clone / file).read_bytes() == (repository / file).read_bytes()


def test_a_version_survives_the_way_to_a_step(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp_lifecycle.runtime.code_version import VARIABLE, recorded_version

    version = code_version(repository)
    monkeypatch.setenv(VARIABLE, version.variable())
    assert recorded_version() == version
    monkeypatch.delenv(VARIABLE)
    assert recorded_version() == CodeVersion()


def test_a_folder_without_git_has_no_version(tmp_path: Path) -> None:
    assert code_version(tmp_path) == CodeVersion()


def test_a_library_that_is_installed_below_a_repository_has_not_its_version(repository: Path) -> None:
    installed = repository / ".venv" / "kfp_lifecycle"
    installed.mkdir(parents=True)
    (installed / "module.py").write_text("VALUE = 1\n", "utf-8")
    assert code_version(installed) == CodeVersion()


@pytest.mark.slow
def test_the_code_of_a_run_that_was_cleared_comes_from_its_commit_and_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = new_checkout(tmp_path / "checkout").folder
    git(checkout, "init", "-q")
    (checkout / ".git" / "info" / "exclude").write_text(".venv\n", "utf-8")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "all")
    module = checkout / "modelling" / "decisions.py"
    module.write_text(module.read_text("utf-8") + "\nCHANGED = True\n", "utf-8")
    version = code_version(checkout)
    assert version.changed == ("modelling/decisions.py",)
    original = tmp_path / "original"
    original.mkdir()
    (original / "code.diff").write_text(version.change, "utf-8")
    monkeypatch.setattr(recorded_code, "ROOT", checkout)
    monkeypatch.setattr(recorded_code, "STATE", tmp_path / "state")
    model = model_of(version.commit, *version.changed)
    found = recorded_code.code_folder("0" * 12, model, original, tmp_path / "work", print)
    assert "CHANGED = True" in (found / "kfp_lifecycle" / "modelling" / "decisions.py").read_text("utf-8")
    assert (found / "kfp_lifecycle" / "runtime" / "executor.py").is_file()
