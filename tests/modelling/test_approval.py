"""Approval: a person's word on a registered version is recorded, and MLflow knows the record's head since."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfp_lifecycle.audit.record import Record, entries_of, open_record
from kfp_lifecycle.audit.verification import verify
from kfp_lifecycle.registry.anchors import anchors, record_promotion
from kfp_lifecycle.registry.approval import decide, record_candidate
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.new_registry import new_registry
from tests.modelling.verdicts import verdict

pytestmark = pytest.mark.slow


class Registry:
    """Two registered versions of a model, the second not approved by the gate."""

    def __init__(self, folder: Path) -> None:
        self.uri = new_registry(folder / "mlflow.db")
        self.client = connect(self.uri)
        self.client.create_registered_model("leaving")
        for decision in ("approved", "rejected"):
            self.client.create_model_version("leaving", source=folder.as_uri(), tags={"decision": decision})

    def tags(self, version: str) -> dict[str, str]:
        tags: dict[str, str] = self.client.get_model_version("leaving", version).tags
        return tags


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return open_record(str(tmp_path / "audit.jsonl"))


def actions(record: Record) -> list[str]:
    return [entry.action for entry in entries_of(record)]


def test_a_candidate_waits_until_a_person_approves_it_and_a_step_done_again_asks_only_once(
    registry: Registry, record: Record
) -> None:
    def registered() -> bool:
        return record_candidate(registry.uri, record.place, "leaving", "1", verdict(), asked=True)

    assert registered()
    assert registered()
    assert actions(record) == ["approval asked"]
    told = decide(registry.uri, record.place, "approved", "leaving", "1", "reviewed")
    assert not registered()
    assert actions(record) == ["approval asked", "approved"]
    assert registry.tags("1")["approval"] == f"approved by {told.by} at {told.at}"


def test_mlflow_knows_the_head_so_that_a_cut_record_is_found(
    registry: Registry, record: Record, tmp_path: Path
) -> None:
    decide(registry.uri, record.place, "approved", "leaving", "1", "reviewed")
    record_promotion(registry.uri, record.place, "leaving", "1", None)
    head = entries_of(record)[-1]
    assert registry.tags("1")["audit.head"] == f"{head.number}:{head.hash}"
    file = tmp_path / "audit.jsonl"
    file.write_text(file.read_text("utf-8").splitlines(keepends=True)[0], "utf-8")
    told = [finding.sentence for finding in verify(record.lines(), anchors(registry.uri))]
    assert "entry 2 cut off: MLflow's version 1 of leaving knew entry 2" in told


def test_what_the_gate_waived_is_recorded_in_its_words(registry: Registry, record: Record) -> None:
    given = verdict()
    rule = given.rules[0].model_copy(update={"waived": True, "sentence": "too few rows to judge; waived"})
    waiving = given.model_copy(update={"rules": [rule]})
    assert not record_candidate(registry.uri, record.place, "leaving", "1", waiving, asked=False)
    assert [(entry.action, entry.reason) for entry in entries_of(record)] == [
        ("waived", "too few rows to judge; waived")
    ]


@pytest.mark.parametrize(
    ("version", "told"),
    [("2", "was not approved by the gate (rejected)"), ("9", "knows no version 9"), ("x", "knows no version x")],
)
def test_a_person_decides_only_on_what_the_gate_approved(
    registry: Registry, record: Record, version: str, told: str
) -> None:
    with pytest.raises(ContractViolation, match=re.escape(told)):
        decide(registry.uri, record.place, "approved", "leaving", version, "")
    assert actions(record) == []


def test_where_nobody_keeps_a_record_nothing_can_wait_for_approval(registry: Registry) -> None:
    assert not record_candidate(registry.uri, "", "leaving", "1", verdict(), asked=False)
    with pytest.raises(ContractViolation, match="audit_record"):
        record_candidate(registry.uri, "", "leaving", "1", verdict(), asked=True)
