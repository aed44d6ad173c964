"""The records of local runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfp_lifecycle.local import runs
from kfp_lifecycle.local.runs import RunRecord, RunState, all_runs, run_to_resume


def record(pipeline: str, hour: int, state: RunState) -> None:
    started_at = f"2026-01-01T{hour:02}:00:00+00:00"
    run = RunRecord(f"{pipeline}-20260101-{hour:02}0000-1", pipeline, "shop", "shop", [], state, started_at=started_at)
    run.folder.mkdir(parents=True)
    run.save()


def test_the_newest_run_is_the_one_that_started_last_whatever_its_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    record("training", 1, RunState.failed)
    record("monitoring", 2, RunState.done)
    record("batch_scoring", 3, RunState.done)
    assert [run.pipeline for run in all_runs()] == ["batch_scoring", "monitoring", "training"]
    # The last run came to its end; the last training did not.
    assert run_to_resume(None) is None
    resumed = run_to_resume("training")
    assert resumed is not None
    assert resumed.pipeline == "training"
