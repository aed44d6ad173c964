"""The step that retrains starts nothing where no training carries the remedy out, and says why in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_retraining_policy import remedy

from kfp_lifecycle.artifacts.remedy import RemedyName
from kfp_lifecycle.components.monitoring.trigger_retraining.request import ask_for_retraining
from kfp_lifecycle.runtime.contract import ContractViolation


@pytest.mark.parametrize("name", ["nothing", "repair", "roll back"])
def test_nothing_is_asked_for_where_another_remedy_is_due(tmp_path: Path, name: RemedyName) -> None:
    remedy(remedy=name).write(tmp_path / "remedy.json")
    with pytest.raises(ContractViolation, match=f"says `{name}`: The charge rose"):
        ask_for_retraining("{}", tmp_path / "remedy.json", tmp_path / "request.json")
    assert not (tmp_path / "request.json").exists()


def test_a_missing_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractViolation, match=r"remedy\.json cannot be read .* Run decide_remedy again"):
        ask_for_retraining("{}", tmp_path / "remedy.json", tmp_path / "request.json")
