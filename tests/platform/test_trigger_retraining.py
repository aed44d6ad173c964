"""A request for retraining says why, and what to type; it is never made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.components.monitoring.trigger_retraining.component import trigger_retraining
from kfp_lifecycle.components.monitoring.trigger_retraining.request import announce, write_request
from kfp_lifecycle.runtime.contract import ContractViolation

SETTINGS = trigger_retraining.given({"name": "machines"})


def drift(folder: Path, decision: str) -> Path:
    column: dict[str, Any] = {"aspect": "values", "sentence": "median 3 → 9"}
    content = {
        "decision": decision,
        "sentence": "The score drifted, and 1 of 2 features drifted (50%).",
        "model": "devices",
        "version": "4",
        "columns": [{"column": "wärme", "drifted": True, **column}, {"column": "site", "drifted": False, **column}],
    }
    folder.mkdir()
    (folder / "drift.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_a_request_names_the_reason_the_columns_and_the_command(tmp_path: Path) -> None:
    returned = write_request(SETTINGS, drift(tmp_path / "drift", "retrain"), tmp_path / "request")
    content = json.loads((tmp_path / "request").read_text("utf-8"))
    assert content["reason"].startswith("The score drifted")
    assert content["columns"] == [{"column": "wärme", "aspect": "values", "change": "median 3 → 9"}]
    assert content["command"].startswith("lifecycle run training --project")
    assert content["project"] == "machines"
    said = announce(returned)
    assert "wärme: median 3 → 9" in said
    assert "Nothing was started" in said


@pytest.mark.parametrize("decision", ["keep", "undecided"])
def test_nothing_is_requested_without_a_decision_to_retrain(tmp_path: Path, decision: str) -> None:
    with pytest.raises(ContractViolation, match=f"decides `{decision}`"):
        write_request(SETTINGS, drift(tmp_path / "drift", decision), tmp_path / "request")
    assert not (tmp_path / "request").exists()


def test_a_missing_decision_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractViolation, match=r"drift\.json holds no drift decision"):
        write_request(SETTINGS, tmp_path, tmp_path / "request")
