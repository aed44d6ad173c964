"""A search by what Vertex AI Vizier suggests ends with the same record as one by Optuna.

Vizier is the stand-in of `tests/control_planes/vertex`, which speaks its REST protocol in the command line's own
environment, and checks every request by the types of Google's client.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_hyperparameters import search as step
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.vizier import VizierStudy
from tests.modelling.business import write_project, write_training_set
from tests.projects import read_project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SPACE = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True},
    "max_leaf_nodes": {"type": "int", "low": 3, "high": 20},
    "class_weight": {"type": "categorical", "choices": ["balanced", None]},
    "l2_regularization": {"type": "float", "low": 0.0, "high": 1.0, "when": {"class_weight": "balanced"}},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vertex")
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "tests.control_planes.vertex", "--folder", str(folder)]
    # Other tests of this process may have told kfp that it is inside of a step, where it cannot compile.
    inherited = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    variables = {**inherited, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        assert address, "the stand-in of Vertex AI did not start"
        yield address
        running.terminate()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfp_lifecycle.runtime.asking.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("kfp_lifecycle.runtime.asking.PATIENCE", 3.0)


def tuning(service: str, **settings: Any) -> Tuning:
    where = {"project": "churn-project", "location": "europe-west4", "endpoint": service, **settings.pop("vizier", {})}
    return Tuning.model_validate({"engine": "vizier", "trials": 5, "space": SPACE, "vizier": where, **settings})


def studies(service: str) -> list[dict[str, Any]]:
    """All studies that there are, each with its trials."""
    parent = "v1/projects/churn-project/locations/europe-west4"
    found = requests.get(f"{service}/{parent}/studies", timeout=10).json()["studies"]
    return [
        {**study, "trials": requests.get(f"{service}/v1/{study['name']}/trials", timeout=10).json()["trials"]}
        for study in found
    ]


def searched(tmp_path: Path, settings: Tuning) -> tuple[Parameters, dict[str, Any]]:
    """A whole search, as the step makes it; what was found, and its metadata."""
    said = settings.model_dump(mode="json")
    project = write_project(tmp_path / "project", tmp_path / "state", tuning=said, label={"horizon_days": 28})
    folder = write_training_set(tmp_path / "set", rows=300)
    given = read_project(project)
    places = (folder, tmp_path / "parameters", tmp_path / "study.html")
    metadata = step.search(given.settings, given.locations, *places)
    return Parameters.read(tmp_path / "parameters"), metadata


def test_a_search_ends_with_the_same_record_whoever_suggested(service: str, tmp_path: Path) -> None:
    found, metadata = searched(tmp_path, tuning(service, parallel_trials=2, vizier={"keep_study": True}))
    assert metadata["trials"] == found.trials == 5
    assert found.best_value is not None
    assert found.default_value is not None
    assert found.best_value >= found.default_value
    assert "learning_rate" in (tmp_path / "study.html").read_text("utf-8")
    (study,) = studies(service)
    # The default is tried beside what was suggested.
    assert [trial["clientId"] for trial in study["trials"]] == [f"trial-{number}" for number in range(1, 5)]
    assert {trial["state"] for trial in study["trials"]} == {"SUCCEEDED"}
    told = [trial["finalMeasurement"]["metrics"][0]["value"] for trial in study["trials"]]
    assert max(*told, found.default_value) == pytest.approx(found.best_value)
    requests.delete(f"{service}/v1/{study['name']}", timeout=10)


def test_a_study_is_removed_when_the_search_has_ended(service: str, tmp_path: Path) -> None:
    found, _ = searched(tmp_path, tuning(service, trials=2))
    assert found.trials == 2
    assert studies(service) == []


class TestStudy:
    @pytest.fixture
    def study(self, service: str) -> Iterator[VizierStudy]:
        made = VizierStudy(tuning(service), "0123456789abcdef")
        yield made
        made.end()

    def test_suggestions_are_of_the_space_and_its_types(self, study: VizierStudy) -> None:
        for number in range(1, 20):
            values = study.suggest(number)
            assert 0.02 <= values["learning_rate"] <= 0.3
            assert isinstance(values["max_leaf_nodes"], int)
            assert 3 <= values["max_leaf_nodes"] <= 20
            assert values["class_weight"] in ("balanced", None)
            assert ("l2_regularization" in values) is (values["class_weight"] == "balanced")

    def test_a_search_that_was_cut_off_goes_on_with_the_same_trials(self, service: str, study: VizierStudy) -> None:
        first, second = study.suggest(1), study.suggest(2)
        study.tell(1, 0.7, "")
        again = VizierStudy(tuning(service), "0123456789abcdef")
        assert again.name == study.name
        assert again.suggest(2) == second
        assert first != second
        # A result is told though the one who asked is gone.
        VizierStudy(tuning(service), "0123456789abcdef").tell(2, 0.6, "")
        (there,) = studies(service)
        assert [trial["state"] for trial in there["trials"]] == ["SUCCEEDED", "SUCCEEDED"]

    def test_a_trial_that_failed_is_told_with_its_reason(self, service: str, study: VizierStudy) -> None:
        study.suggest(1)
        study.tell(1, None, "ValueError: no such solver")
        (there,) = studies(service)
        (trial,) = there["trials"]
        assert (trial["state"], trial["infeasibleReason"]) == ("INFEASIBLE", "ValueError: no such solver")


def test_who_does_not_answer_and_who_refuses_is_told_apart(service: str) -> None:
    with pytest.raises(ContractViolation, match=r"Vizier at http://127\.0\.0\.1:9 does not answer.*engine to optuna"):
        VizierStudy(tuning("http://127.0.0.1:9"), "0" * 16)
    narrow = {"learning_rate": {"type": "float", "low": 0.02, "high": 0.3}}
    study = VizierStudy(tuning(service, space=narrow), "1" * 16)
    study.suggest(1)
    study.tell(1, 0.5, "")
    with pytest.raises(ContractViolation, match=r"Vizier refuses .*/trials/1:complete \(400\): Trial 1 is SUCCEEDED"):
        study.tell(1, 0.5, "")
    with pytest.raises(ContractViolation, match="its study is of another space"):
        VizierStudy(tuning(service), "1" * 16).suggest(2)
    study.end()


def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ContractViolation, match="this step has no account of Google Cloud"):
        VizierStudy(tuning(""), "0" * 16)


def test_without_a_place_it_is_said_what_to_set() -> None:
    with pytest.raises(ValueError, match=r"vizier\.project and vizier\.location have to say where it is asked"):
        Tuning.model_validate({"engine": "vizier"})
