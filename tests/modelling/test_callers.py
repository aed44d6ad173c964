"""One caller's share is bounded: whoever asked for a quarter of the window at most neither makes a verdict nor hides
what the others show; whoever asked for more is the population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from kfp_lifecycle.artifacts.drift import CallerLeftOut
from kfp_lifecycle.components.monitoring.detect_drift.callers import CALLER, decisive_caller
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
from tests.modelling.test_drift_rule import INPUTS, RULE, dates, window

ROWS = 1600


@dataclass(frozen=True)
class Seen:
    """What all rows together say, whose are left out, and what the others say."""

    everybody: str
    left_out: CallerLeftOut | None
    others: str


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return dates()


def look(rows: pd.DataFrame, baseline: Baseline) -> Seen:
    def verdict(some: pd.DataFrame) -> str:
        return decide(baseline.compare(some, RULE), len(INPUTS), len(some), RULE).verdict

    findings = baseline.compare(rows, RULE)
    left_out = decisive_caller(baseline, rows, findings, decide(findings, len(INPUTS), len(rows), RULE), RULE)
    rest = rows if left_out is None else rows[rows[CALLER] != left_out.caller]
    return Seen(verdict(rows), left_out, verdict(rest))


def asked_by(seed: int = 5, honest: str = "service", **planted: object) -> pd.DataFrame:
    """A quiet window that one service asked for."""
    return window(ROWS, seed, **planted).assign(**{CALLER: honest})


def attacked(rows: pd.DataFrame, share: float, **planted: object) -> pd.DataFrame:
    """The same, beside an attacker who brings this share of all rows."""
    count = round(share / (1 - share) * len(rows))
    return pd.concat([rows, window(count, 77, **planted).assign(**{CALLER: "attacker"})], ignore_index=True)


EXTREMES = {"amount": 1e30, "visits": -1e30, "score": 0.999}
PLANTED = {
    "extremes": EXTREMES,
    "nothing": {"amount": np.nan, "visits": np.nan, "colour": ""},
    "categories": {"colour": "never seen"},
}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_values_planted_by_one_caller_make_no_verdict(
    baseline: Baseline, planted: dict[str, object], share: float
) -> None:
    seen = look(attacked(asked_by(), share, **planted), baseline)
    assert seen.others == "keep"
    if seen.everybody == "keep":
        assert (share, seen.left_out) == (0.01, None)
        return
    assert seen.left_out is not None
    assert seen.left_out.caller == "attacker"
    assert seen.left_out.share == pytest.approx(share, abs=0.001)
    assert f"Caller attacker, who asked for {seen.left_out.rows:,} of the" in seen.left_out.sentence
    assert f"with those rows it would be: {seen.everybody}" in seen.left_out.sentence


def test_one_caller_hides_nothing_that_the_others_show(baseline: Baseline) -> None:
    dearer = asked_by(seed=9)
    # A quarter of a standard deviation for all, and three quarters the other way for a fifth.
    dearer["amount"] *= np.exp(1.5 * 0.25)
    cheaper = np.exp(3 + 1.5 * np.random.default_rng(8).normal(-0.75, 0.7, 400))
    seen = look(attacked(dearer, 0.2, amount=cheaper), baseline)
    assert (seen.everybody, seen.others) == ("keep", "world moved")
    assert seen.left_out is not None
    assert "with those rows nothing would seem to have moved" in seen.left_out.sentence


def test_who_asks_for_all_or_for_many_is_the_population(baseline: Baseline) -> None:
    broken = window(ROWS, 3, amount=np.nan)
    for callers in (["service"], ["web", "app"], ["north", "east", "south"]):
        rows = broken.assign(**{CALLER: np.resize(callers, ROWS)})
        assert look(rows, baseline) == Seen("broken data", None, "broken data")
    app_alone = asked_by(honest="web")
    app_alone.loc[app_alone.index % 5 < 2, [CALLER, "amount"]] = ["app", np.nan]
    assert look(app_alone, baseline) == Seen("broken data", None, "broken data")
    assert look(broken.assign(**{CALLER: None}), baseline) == Seen("broken data", None, "broken data")


def test_many_honest_callers_find_no_more_than_one_does(baseline: Baseline) -> None:
    callers = np.resize([f"c{number}" for number in range(20)], 1000)
    quiet = [look(window(1000, 300 + week).assign(**{CALLER: callers}), baseline) for week in range(5)]
    assert set(quiet) == {Seen("keep", None, "keep")}
    # A change of the world is nobody's alone.
    moved = window(1000, 1)
    moved["amount"] *= 3
    assert look(moved.assign(**{CALLER: callers}), baseline) == Seen("world moved", None, "world moved")
