"""What was done about an alarm: a training, a rollback, a repair, or nothing yet, and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.remedy import RemedyName, RemedyVerdict
from kfp_lifecycle.audit.record import open_record
from kfp_lifecycle.monitoring.history import Retraining, WindowRecord
from kfp_lifecycle.monitoring.resolution import Move, moves_of, resolutions

END = datetime(2026, 6, 1, 6, tzinfo=UTC)


def window(week: int, verdict: RemedyVerdict, remedy: RemedyName, **changes: Any) -> WindowRecord:
    end = END + timedelta(weeks=week)
    values: dict[str, Any] = {
        "model": "churn", "version": "2", "start": end - timedelta(days=7), "end": end, "predictions": 1_500,
        "compared": 1_400, "mean_score": 0.07, "verdict": verdict, "remedy": remedy, "sentence": ".",
    }  # fmt: skip
    return WindowRecord(**(values | changes))


def worse(week: int) -> WindowRecord:
    return window(week, "model is worse", "roll back")


def moved(week: int, **changes: Any) -> WindowRecord:
    return window(week, "world moved", "retrain", **changes)


def quiet(week: int, **changes: Any) -> WindowRecord:
    return window(week, "keep", "nothing", **changes)


def broken(week: int) -> WindowRecord:
    return window(week, "broken data", "repair")


def told(*history: WindowRecord, moves: tuple[Move, ...] = (), **retrained: Retraining) -> list[tuple[str, str]]:
    return [(item.state, item.sentence) for item in resolutions(history, retrained, moves)]


def training(decision: str, version: str = "") -> Retraining:
    return Retraining(
        run="a",
        decision=decision,
        verdict="Approved: it is better by 1.5. Of 900 rows. And much more.",
        began=END,
        version=version,
    )


def test_a_rollback_says_to_which_version_when_and_by_whom() -> None:
    at = END + timedelta(days=1)
    back = Move("1", "2", at, "ada@office", back=True)
    sentence = "rolled back to version 1 on 2 June 2026, 06:00 UTC by ada@office"
    assert told(worse(0), moves=(back,)) == [("resolved", sentence)]
    # One of before is not of this alarm, nor is one off another version.
    earlier = Move("1", "2", END - timedelta(days=1), "ada@office", back=True)
    other = Move("2", "3", at, "ada@office", back=True)
    assert told(worse(0), moves=(earlier, other)) == [("open", "asked for: roll back")]


def test_data_that_is_well_again_was_repaired_and_else_it_is_open_since_the_first_week() -> None:
    assert told(broken(0), broken(1), quiet(2))[:2] == [
        ("resolved", "repaired: data is well again in the window to 15 June 2026"),
        ("resolved", "repaired: data is well again in the window to 15 June 2026"),
    ]
    assert told(quiet(-1), broken(0), broken(1), broken(2))[-1] == (
        "open",
        "asked for: repair, open for 2 weeks, since 1 June 2026",
    )
    # A window that says nothing does not say that it is repaired.
    assert told(broken(0), window(1, "undecided", "nothing"))[0] == (
        "open",
        "asked for: repair, open for 1 week, since 1 June 2026",
    )


def test_a_training_says_what_came_of_it_to_every_window_that_waited_for_it() -> None:
    released = Move("3", "2", END + timedelta(weeks=1, hours=2), "ada@office", back=False)
    windows = (moved(0), moved(1, runs=["a"]), quiet(2, version="3"))
    sentence = "retrained: version 3 released on 8 June 2026, 08:00 UTC by ada@office"
    assert told(*windows, moves=(released,), a=training("approved", "3")) == [
        ("resolved", f"{sentence}, in the window to 8 June 2026"),
        ("resolved", sentence),
        ("nothing to do", "nothing to do"),
    ]
    [_, own, _] = resolutions(windows, {"a": training("approved", "3")}, [released])
    assert own.why == "Approved: it is better by 1.5. Of 900 rows."
    assert told(moved(0, runs=["a"]), a=training("rejected")) == [("open", "retrained: rejected")]
    assert told(moved(0, runs=["a"]), a=training("")) == [("open", "retrained: not decided yet")]


def test_an_alarm_may_pass_or_be_overtaken() -> None:
    assert told(moved(0), quiet(1))[0] == ("resolved", "not asked for any more in the window to 8 June 2026")
    assert told(moved(0), moved(1, version="3"))[0] == ("resolved", "version 3 answers in the window to 8 June 2026")


def test_releases_and_rollbacks_are_read_from_the_audit_record(tmp_path: Path) -> None:
    record = open_record(str(tmp_path / "audit.jsonl"))
    record.append("release begun", "churn", "2")
    record.append("released", "churn", "2", details={"champion": "1"})
    record.append("released", "another", "7", details={"champion": None})
    back = record.append("traffic returned", "churn", "1", details={"champion": "2"})
    found = moves_of(str(tmp_path / "audit.jsonl"), "churn")
    assert [(move.version, move.before, move.back) for move in found] == [("2", "1", False), ("1", "2", True)]
    assert found[1].by == back.by
    assert found[1].at == datetime.fromisoformat(back.at)
    assert moves_of("", "churn") == []
