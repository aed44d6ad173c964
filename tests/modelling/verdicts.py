"""Verdicts made by hand, for what comes after one."""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.artifacts.verdict import Judgement, Verdict

MET = Judgement(metric="performance.roc_auc", bound="estimate", passed=True, sentence="performance.roc_auc is met.")


def verdict(**values: Any) -> Verdict:
    """An approval by one rule; keyword arguments change it."""
    plain: dict[str, Any] = {
        "decision": "approved",
        "model": "leaving",
        "run_id": "a run",
        "decided_at": "2025-08-01T00:00:00+00:00",
        "feature_version": "f00d",
        "snapshots": ["2025-07-01"],
        "rules": [MET],
        "sentences": ["Approved: leaving meets every rule."],
    }
    return Verdict(**{**plain, **values})
