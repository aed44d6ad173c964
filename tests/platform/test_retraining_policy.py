"""The retraining policy: what monitoring asks for is started once, not too often, not at night, and never on broken
data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.remedy import Reason, Remedy, Span
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.retraining import QuietHours, Retraining
from kfp_lifecycle.monitoring.retraining_policy import TrainingRun, cause_of, decide, run_name
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState

END = datetime(2026, 11, 29, 6, 0, tzinfo=UTC)
NOW = END + timedelta(minutes=4)


def remedy(end: datetime = END, **changes: Any) -> Remedy:
    return Remedy(
        **{
            "verdict": "world moved",
            "remedy": "retrain",
            "sentence": "The charge rose on 2 November; retrain.",
            "since": datetime(2026, 11, 2, tzinfo=UTC),
            "reasons": [Reason(source="outcomes", sentence="33 left where 18 were foretold.", columns=["charge"])],
            "model": "churn",
            "version": "3",
            "window": Span(start=end - timedelta(days=7), end=end),
            **changes,
        }
    )


def earlier(days: float, state: RunState, **changes: Any) -> TrainingRun:
    """A retraining that a window asked for which ended so many days before this one."""
    return TrainingRun(run_name(remedy(END - timedelta(days=days), **changes)), state)


def held(policy: Retraining, *runs: TrainingRun, asked: Remedy | None = None, now: datetime = NOW) -> str:
    decided = decide(policy, asked or remedy(), runs, now)
    assert decided.action == "hold"
    return decided.sentence


def started(policy: Retraining, *runs: TrainingRun, asked: Remedy | None = None, now: datetime = NOW) -> bool:
    return decide(policy, asked or remedy(), runs, now).action == "start"


def test_what_is_due_is_started_under_a_name_that_tells_window_and_reason() -> None:
    decided = decide(Retraining(), remedy(), [], NOW)
    assert decided.action == "start"
    assert decided.sentence == f"The training pipeline is started as retraining-20261129-060000-{cause_of(remedy())}."


def test_a_project_that_wants_to_be_asked_is_asked() -> None:
    decided = decide(Retraining(mode="approval"), remedy(), [], NOW)
    assert (decided.action, "approval" in decided.sentence) == ("ask", True)


def test_a_project_that_does_not_want_it_is_told_only() -> None:
    assert "mode: off" in held(Retraining(mode="off"))


@pytest.mark.parametrize("mode", ["automatic", "approval"])
def test_nothing_is_learned_from_broken_data(mode: Any) -> None:
    assert "the data is broken" in held(Retraining(mode=mode), asked=remedy(verdict="broken data"))


@pytest.mark.parametrize("state", [RunState.running, RunState.failed, RunState.done])
def test_the_same_window_starts_nothing_twice(state: RunState) -> None:
    run = earlier(0, state)
    assert f"{run.name} already, which is {state}" in held(Retraining(), run)


def test_a_window_that_is_looked_at_again_and_has_another_remedy_starts_nothing_more() -> None:
    run = earlier(0, RunState.done)
    assert f"{run.name} already" in held(Retraining(), run, asked=remedy(remedy="recalibrate"))


def test_what_a_backfill_finds_is_past() -> None:
    assert "the window ended on 2026-11-29" in held(Retraining(), now=END + timedelta(days=2, hours=1))
    assert started(Retraining(), now=END + timedelta(days=1, hours=23))


def test_a_window_that_is_looked_at_late_starts_nothing_after_a_later_one() -> None:
    assert "a later window" in held(Retraining(cool_down_days=0), earlier(-1, RunState.done))


def test_two_trainings_never_run_at_once_whoever_started_the_other() -> None:
    assert "training-20261129-1 is at work" in held(Retraining(), TrainingRun("training-20261129-1", RunState.running))
    assert started(Retraining(), TrainingRun("training-20261129-1", RunState.done))


@pytest.mark.parametrize("state", [RunState.done, RunState.rejected])
def test_retrainings_are_some_days_apart(state: RunState) -> None:
    other = {"verdict": "model is worse"}
    assert "less than 7 days ago" in held(Retraining(), earlier(6.9, state, **other))
    assert started(Retraining(), earlier(7, state, **other))


def test_one_that_failed_may_be_tried_again_with_the_next_window() -> None:
    assert started(Retraining(), earlier(1, RunState.failed))


def test_what_did_not_help_is_not_repeated_until_more_labels_are_known() -> None:
    policy = Retraining(cool_down_days=1)
    assert "rejected for the same reason" in held(policy, earlier(13, RunState.rejected))
    assert started(policy, earlier(14, RunState.rejected))
    assert started(policy, earlier(13, RunState.done))


@pytest.mark.parametrize(
    "change", [{"version": "4"}, {"verdict": "model is worse"}, {"remedy": "recalibrate"}, {"reasons": []}]
)
def test_another_reason_is_no_repetition(change: dict[str, Any]) -> None:
    assert started(Retraining(cool_down_days=1), earlier(2, RunState.rejected), asked=remedy(**change))


def test_the_same_reason_is_told_by_what_found_it_and_not_by_its_figures() -> None:
    worse = Reason(source="outcomes", sentence="41 left where 18 were foretold.", columns=["charge", "logins"])
    assert cause_of(remedy(reasons=[worse], sentence="More than before.")) == cause_of(remedy())


def test_what_has_changed_is_learned_when_a_label_of_it_is_known() -> None:
    # It changed 27 days before the window's end.
    early = decide(Retraining(), remedy(), [], NOW, horizon_days=30)
    assert early.action == "hold"
    assert "no label of a date since 2026-11-02 is known before 2026-12-02" in early.sentence
    assert decide(Retraining(), remedy(), [], NOW, horizon_days=27).action == "start"
    # Where nobody can say since when, the newest labels are the best there are.
    assert decide(Retraining(), remedy(since=None), [], NOW, horizon_days=30).action == "start"


def test_what_monitoring_measured_waits_for_no_label() -> None:
    measured = Adjustment(
        remedy="recalibrate",
        version="3",
        hazard_ratio=1.8,
        threshold=0.1,
        since=END - timedelta(days=14),
        until=END,
        observed=33,
        expected=18.0,
        entities=400,
        gain=Metric(900, 300, 1500, 400),
        currency="USD",
    )
    asked = remedy(remedy="recalibrate", adjustment=measured)
    assert decide(Retraining(), asked, [], NOW, horizon_days=30).action == "start"
    # All else is asked for as ever.
    assert decide(Retraining(mode="approval"), asked, [], NOW, horizon_days=30).action == "ask"
    before = earlier(6, RunState.done, remedy="recalibrate")
    assert "less than 7 days ago" in held(Retraining(), before, asked=asked)


def test_a_budget_is_for_all_that_was_started_the_failed_included() -> None:
    policy = Retraining(cool_down_days=0, new_label_days=0, budget_runs=2, budget_days=10)
    runs = [earlier(1, RunState.failed), earlier(9, RunState.done)]
    assert "2 retrainings in 10 days" in held(policy, *runs)
    assert started(policy, runs[0], earlier(10, RunState.done))


def test_nothing_is_started_in_quiet_hours_but_a_person_may_be_asked() -> None:
    quiet = QuietHours(begin="22:00", end="07:30", zone="Europe/Berlin")
    # 06:04 in London is 07:04 in Berlin.
    assert "between 22:00 and 07:30 (Europe/Berlin)" in held(Retraining(quiet_hours=quiet))
    assert started(Retraining(quiet_hours=quiet), now=NOW + timedelta(minutes=26))
    assert decide(Retraining(mode="approval", quiet_hours=quiet), remedy(), [], NOW).action == "ask"


def test_quiet_hours_may_lie_within_a_day_and_follow_summer_time() -> None:
    quiet = QuietHours(begin="08:00", end="18:00", zone="Europe/Berlin")
    assert [quiet.holds(datetime(2026, month, 1, 6, 30, tzinfo=UTC)) for month in (1, 7)] == [False, True]
    assert [quiet.holds(datetime(2026, 1, 1, hour, 0, tzinfo=UTC)) for hour in (7, 16, 17)] == [True, True, False]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("mode=sometimes", "automatic"),
        ("quiet_hours={begin: '22', end: '06:00'}", "22:30"),
        ("quiet_hours={begin: '22:00', end: '06:00', zone: Mars}", "no time zone"),
        ("budget_runs=0", "budget_runs"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(setting: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_configuration(ROOT, [f"monitoring.retraining.{setting}"])
