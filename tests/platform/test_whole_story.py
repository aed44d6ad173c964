"""The loop closes by itself: prices rise, monitoring alarms, a retraining starts, is worth more, and takes over."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.runtime.closure import ROOT

# Five weeks of a business take some minutes on quiet cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Two quiet weeks, two in which the change may be noticed, and one that is answered by who took over.
WEEKS = 5


@dataclass(frozen=True)
class Played:
    """A story that came to its end."""

    happened: dict[str, Any]
    page: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The small story of the demonstration, played by the command that people type, until somebody took over."""
    state = tmp_path_factory.mktemp("story")
    command = [sys.executable, str(ROOT / "demo" / "run.py"), "--small", f"--weeks={WEEKS}", f"--state={state}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            said, _ = running.communicate()
        finally:
            # Told to end, it stops its servers; killed, it would leave them.
            running.terminate()
    assert running.returncode == 0, said
    told = state / "demo"
    happened = json.loads((told / "story.json").read_text("utf-8"))
    return Played(happened, (told / "index.html").read_text("utf-8"))


def test_quiet_weeks_stay_quiet(played: Played) -> None:
    assert played.happened["false_alarms"] == 0


def test_a_price_rise_is_noticed_within_two_weeks(played: Played) -> None:
    noticed, risen = (date.fromisoformat(played.happened[name]) for name in ("alarm", "price_rise"))
    assert (noticed - risen).days <= 14


def test_what_is_due_starts_by_itself_and_is_approved_by_what_it_is_worth(played: Played) -> None:
    retrained = played.happened["retrained"][0]
    assert retrained["run"].startswith("retraining-")
    assert retrained["decision"] == "approved"
    lead = retrained["lead"]
    assert (lead["metric"], lead["demand"]) == ("expected_value_per_1000", "superiority")
    assert lead["low"] > 0


def test_it_waits_for_no_label(played: Played) -> None:
    released, alarm = (played.happened["retrained"][0]["monday"], played.happened["alarm"])
    assert released == alarm


def test_it_takes_over_by_steps_under_traffic_and_answers(played: Played) -> None:
    retrained = played.happened["retrained"][0]
    assert [step["percent"] for step in retrained["steps"]] == [10, 50, 100]
    assert sum(step["real_requests"] for step in retrained["steps"]) > 0
    answered = played.happened["answered_by"]["retrained"]
    assert {"1", "2"} <= set(answered)
    assert answered["2"] > 100


def test_nobody_was_refused(played: Played) -> None:
    assert played.happened["refused"] == 0


def test_the_page_tells_it(played: Played) -> None:
    assert played.page.count("<section") == 5
    assert "list prices rise by 40%" in played.page
    assert "took over" in played.page or "takes over" in played.page


@pytest.mark.parametrize("weeks", ["0", "-1", "two", "1.5"])
def test_weeks_that_cannot_be_are_refused(weeks: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "demo" / "run.py"), f"--weeks={weeks}", f"--state={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a whole number of weeks, 1 or more" in done.stderr
