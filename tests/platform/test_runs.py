"""The records of local runs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from kfp_lifecycle.local import run_records, state
from kfp_lifecycle.local.events import read_progress
from kfp_lifecycle.local.run_records import RunRecord, all_runs
from kfp_lifecycle.local.runs import NothingToResume, run_to_resume
from kfp_lifecycle.local.state import exclusive
from kfp_lifecycle.runtime.states import RunState


def record(pipeline: str, number: int, state: RunState, *, hour: int | None = None) -> None:
    """A run that started at an hour, by default that of its number."""
    hour = number if hour is None else hour
    started_at = f"2026-01-01T{hour:02}:00:00+00:00"
    name = f"{pipeline}-20260101-{hour:02}0000-{number}"
    run = RunRecord(name, pipeline, "shop", "shop", [], state, started_at=started_at, number=number)
    run.folder.mkdir(parents=True)
    run.save()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_records, "RUNS", tmp_path)
    return tmp_path


def test_the_newest_run_is_the_one_that_started_last_whatever_its_pipeline() -> None:
    record("training", 1, RunState.failed)
    record("monitoring", 2, RunState.done)
    record("batch_scoring", 3, RunState.done)
    assert [run.pipeline for run in all_runs()] == ["batch_scoring", "monitoring", "training"]
    # The last run came to its end; the last training did not.
    with pytest.raises(NothingToResume, match="the last run, batch_scoring-20260101-030000-3, came to its end"):
        run_to_resume(None)
    assert run_to_resume("training").pipeline == "training"


def test_a_clock_that_was_set_back_does_not_make_a_run_older_than_those_before_it() -> None:
    record("training", 1, RunState.done, hour=9)
    record("training", 2, RunState.failed, hour=8)
    assert run_to_resume(None).number == 2


def test_a_step_that_ended_before_it_began_by_such_a_clock_took_no_time(folder: Path) -> None:
    lines = (
        {"steps": ["train"]},
        {"time": "2026-01-01T09:00:00+00:00", "step": "train", "state": "running", "log": "train.log"},
        {"time": "2026-01-01T08:00:00+00:00", "step": "train", "state": "done"},
    )
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_progress(folder / "events.jsonl").steps["train"].seconds == 0


def test_a_record_of_a_later_version_says_what_this_one_knows(folder: Path) -> None:
    record("training", 1, RunState.rejected)
    (file,) = folder.glob("*/run.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "approved_by": "Ada"}))
    assert [run.state for run in all_runs()] == [RunState.rejected]


def test_a_folder_in_which_no_run_began_is_none(folder: Path) -> None:
    (folder / "training-20260101-010000-1").mkdir()
    assert all_runs() == []
    with pytest.raises(NothingToResume, match="no run has begun here"):
        run_to_resume(None)


def test_who_waited_for_a_lock_that_was_removed_meanwhile_holds_the_one_that_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "STATE", folder)
    waits, told = threading.Event(), []

    def wait(holder: str) -> None:
        told.append(holder)
        waits.set()

    def second() -> None:
        with exclusive(wait) as lock:
            lock.say("the second")
            told.append((folder / "lock").read_text())

    with exclusive(told.append) as lock:
        lock.say("the first")
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(100)
        (folder / "lock").unlink()
    thread.join(10)
    assert told == [f"the first (process {os.getpid()})", f"the second (process {os.getpid()})\n"]
