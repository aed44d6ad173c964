"""A request for retraining says why, and what to type; it is never made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.artifacts.drift import Compared, Decision, Drift, DriftRule, Finding, Verdict
from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
from kfp_lifecycle.components.monitoring.trigger_retraining.component import trigger_retraining
from kfp_lifecycle.components.monitoring.trigger_retraining.request import announce, write_request
from kfp_lifecycle.runtime.contract import ContractViolation

VERDICTS: dict[Decision, Verdict] = {
    "retrain": "world moved",
    "recalibrate": "world moved",
    "repair": "broken data",
    "keep": "keep",
    "undecided": "undecided",
    "roll back": "model worse",
}
SETTINGS = trigger_retraining.given({"name": "machines"})


def drift(folder: Path, decision: Decision) -> Path:
    measured: dict[str, Any] = {
        "measure": "level",
        "test": "prediction interval",
        "p_value": 1e-9,
        "corrected_p_value": 2e-9,
        "effect": 0.9,
        "distance": 0.4,
    }
    column: dict[str, Any] = {**measured, "aspect": "values", "sentence": "median 3 → 9"}
    folder.mkdir()
    Drift(
        verdict=VERDICTS[decision],
        decision=decision,
        sentence="The score drifted, and 1 of 2 features drifted (50%).",
        model="devices",
        version="4",
        start=datetime(2026, 5, 13, tzinfo=UTC),
        end=datetime(2026, 5, 20, tzinfo=UTC),
        predictions=Compared(window=300, champion=300, compared=300),
        reference_rows=2000,
        reference_dates=8,
        rule=DriftRule(
            drift_rule="usual_variation", significance=0.01, min_effect=0.1, max_drifted_share=0.3, min_window=100
        ),
        drifted_share=0.5,
        drifted=["wärme"],
        columns=[
            Finding(column="wärme", drifted=True, **column),
            Finding(column="site", drifted=False, **column),
        ],
    ).write(folder)
    return folder


def test_a_request_names_the_reason_the_columns_and_the_command(tmp_path: Path) -> None:
    returned = write_request(SETTINGS, drift(tmp_path / "drift", "retrain"), tmp_path / "request")
    content = json.loads((tmp_path / "request").read_text("utf-8"))
    assert RetrainingRequest.read(tmp_path / "request") == returned
    assert content["reason"].startswith("The score drifted")
    assert content["columns"] == [{"column": "wärme", "aspect": "values", "change": "median 3 → 9"}]
    assert content["command"].startswith("lifecycle run training --project")
    assert content["project"] == "machines"
    said = announce(returned)
    assert "wärme: median 3 → 9" in said
    assert "Nothing was started" in said


@pytest.mark.parametrize("decision", [decision for decision in VERDICTS if decision != "retrain"])
def test_nothing_is_requested_without_a_decision_to_retrain(tmp_path: Path, decision: Decision) -> None:
    with pytest.raises(ContractViolation, match=f"decides `{decision}`"):
        write_request(SETTINGS, drift(tmp_path / "drift", decision), tmp_path / "request")
    assert not (tmp_path / "request").exists()


def test_a_missing_decision_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractViolation, match=r"drift\.json cannot be read .* Run detect_drift again"):
        write_request(SETTINGS, tmp_path, tmp_path / "request")
