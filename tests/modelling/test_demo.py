"""The demonstration's page tells what came of the story: that it paid, that it did not, or that nobody can say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from demo.money import Money, money
from demo.page import draw, verdict
from demo.record import Record
from demo.story import SMALL
from demo.world import Trained
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.monitoring.history import WindowRecord

RELEASED = date(2026, 5, 25)
COSTS = Costs(saved=240, action=6, success_rate=0.3)
STEPS = [
    {"percent": percent, "requests": 430, "errors": 0, "p99_ms": 14.2, "real_requests": 21} for percent in (10, 100)
]
LEAD = {"difference": 514.0, "low": 177.0, "high": 852.0}


def trained(decision: str, **deployment: Any) -> Trained:
    outcome = {"sentence": "It leads.", "comparisons": [LEAD]}
    return Trained("retraining-1", "done", {"decision": decision, "champion": outcome}, deployment, "")


def record(*, released: bool) -> Record:
    found = Record(trained("approved", version="1"))
    found.retrained = [(RELEASED - timedelta(days=14), trained("rejected"))]
    if released:
        found.retrained.append((RELEASED, trained("approved", version="2", steps=STEPS)))
    return found


def earned(reached: float, twin_reached: float, rows: int = 4_000) -> Money:
    """Worlds that act upon a tenth each, and reach that share of those who leave."""
    random = np.random.default_rng(3)
    outcome = (random.random(rows) < 0.1).astype(float)

    def acts(share: float) -> np.ndarray:
        return np.where(outcome > 0, random.random(rows) < share, random.random(rows) < 0.08)

    made = pd.DataFrame(
        {
            "customer": np.arange(rows) % 3_000,
            "day": [RELEASED + timedelta(days=int(day)) for day in random.integers(0, 28, rows)],
            "acts": acts(reached),
            "twin_acts": acts(twin_reached),
            "outcome": outcome,
        }
    )
    # Of the last customer nothing is known yet.
    made.loc[rows - 1, "outcome"] = np.nan
    world: Any = SimpleNamespace(configuration=SimpleNamespace(training=SimpleNamespace(costs=COSTS)), story=SMALL)
    found = money(world, made, RELEASED)
    assert found is not None
    assert found.predictions == rows - 1
    known = made[made["outcome"].notna()]
    value = known["outcome"] * COSTS.success_rate * COSTS.saved - COSTS.action
    assert found.difference.value == pytest.approx(value[known["acts"]].sum() - value[known["twin_acts"]].sum())
    assert found.by_week[-1].value == pytest.approx(found.difference.value)
    return found


@pytest.mark.parametrize(
    ("reached", "twin_reached", "word"),
    [(0.6, 0.3, "it paid"), (0.3, 0.6, "it did not pay"), (0.4, 0.4, "not shown")],
)
def test_whether_it_paid_is_said_by_the_interval(reached: float, twin_reached: float, word: str) -> None:
    found = verdict(record(released=True), earned(reached, twin_reached))
    assert found[0] == word
    assert "beside the twin world" in found[2]


def test_a_story_without_a_better_model_says_so() -> None:
    word, _, sentence = verdict(record(released=False), None)
    assert word == "not released"
    assert sentence == "No better model came of it: 1 candidate was trained, and version 1 went on serving."
    assert verdict(record(released=True), None)[0] == "not known"


@pytest.mark.parametrize("released", [True, False])
def test_the_page_has_five_pictures_and_needs_no_network(released: bool, tmp_path: Path) -> None:
    def window(week: int, verdict: Any, remedy: Any, observed: int) -> WindowRecord:
        end = datetime(2026, 4, 13, 6, tzinfo=UTC) + timedelta(weeks=week)
        return WindowRecord(
            model="churn", version="1", start=end - timedelta(days=7), end=end, predictions=900, compared=900,
            mean_score=0.06, verdict=verdict, remedy=remedy, sentence=f"{verdict}, week {week}.", week=end,
            observed=observed, expected=20.5,
        )  # fmt: skip

    history = [
        window(0, "keep", "nothing", 19),
        window(1, "keep", "nothing", 22),
        window(3, "world moved", "retrain", 44),
    ]
    churn = [(SMALL.begins + timedelta(weeks=week), 0.05 + 0.01 * week) for week in range(6)]
    earnings = earned(0.5, 0.4) if released else None
    page = draw(SMALL, record(released=released), churn, history, earnings, 9_000, 2, COSTS)
    assert page.count("<section") == 5
    assert "world moved, week 3." in page
    assert "2 weeks before prices rose: no alarms." in page
    assert "list prices rise by 40%" in page
    assert ("takes over" in page or "took over" in page) == released
    assert "http://" not in page
    assert "<script" not in page


def test_what_took_over_later_and_what_was_rolled_back_is_told_in_order(tmp_path: Path) -> None:
    found = record(released=True)
    found.rolled_back.append((RELEASED + timedelta(days=42), "1"))
    found.retrained.append((RELEASED + timedelta(days=56), trained("approved", version="3", steps=STEPS)))
    page = draw(SMALL, found, [(SMALL.begins, 0.05), (SMALL.mondays[-4], 0.06)], [], None, 9_000, 0, COSTS)
    told = "On 6 July 2026 a person rolled back to version 1, as monitoring asked. Version 3 took over on 20 July 2026."
    assert told in page
    assert "back to 1" in page
    assert found.document()["rolled_back"] == [{"monday": "2026-07-06", "to": "1"}]
