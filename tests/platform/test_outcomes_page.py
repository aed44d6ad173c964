"""The page of outcomes, as people read it: what is known, what was estimated, what it was worth and what acting did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browser import needs_browser, overflow, running_browser, shown, violations
from playwright.sync_api import Browser

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import (
    BusinessOutcome,
    BusinessWeek,
    Estimate,
    Measured,
    Outcomes,
    OutcomeWeek,
    TreatmentEffect,
    VersionOutcomes,
)
from kfp_lifecycle.components.monitoring.join_outcomes import page

UNTIL = datetime(2026, 6, 11, tzinfo=UTC)


def metric(value: float, reach: float) -> Metric:
    return Metric(value, value - reach, value + reach, 1_100)


def business(name: str, unit: str, per: int, value: float, reach: float) -> BusinessOutcome:
    values = [(back, value + reach * math.sin(back)) for back in range(8, 0, -1)]
    weeks = [
        BusinessWeek(end=UNTIL - timedelta(weeks=back), rows=300, value=each, low=each - reach, high=each + reach)
        for back, each in values
    ]
    return BusinessOutcome.model_validate(
        {"name": name, "title": f"{name} of predictions", "unit": unit, "per": per, "value": metric(value, reach),
         "total": 412.0, "weeks": weeks}
    )  # fmt: skip


def outcomes(**version: object) -> Outcomes:
    usual = VersionOutcomes(
        version="3",
        spells=7_402,
        unknown=0,
        complete=5_500,
        weeks=[
            OutcomeWeek(end=UNTIL - timedelta(weeks=back), observed=12 + back % 5, expected=14.5, more=0.2, fewer=0.1)
            for back in range(12, 0, -1)
        ],
        alarm=None,
        performance=[
            Measured(rows=1_100, events=70, metrics={"roc_auc": metric(0.781, 0.04), "log_loss": metric(0.21, 0.02)}),
            Measured(group="gender: female", rows=500, events=8, metrics={}),
        ],
        held_out=1_500,
        judged_on="hold-out",
        estimate=Estimate(
            rows=1_600, metrics={"roc_auc": metric(0.79, 0.05)}, judged_rows=1_100, errors={"roc_auc": -0.009}
        ),
        business=[business("share", "share", 1, 0.17, 0.01), business("value", "money", 1000, 250.0, 300.0)],
        effect=TreatmentEffect(
            treated=900, held_out=220, bands=5, prevented=metric(0.11, 0.05), value_per_1000=metric(20_400, 12_000)
        ),
    )
    return Outcomes(
        model="churn",
        start=UNTIL - timedelta(days=120),
        until=UNTIL,
        horizon_days=30,
        told="by the event",
        timing=[],
        timing_events=100,
        ratio=1.5,
        threshold=6.9,
        predictions=8_000,
        without_entity=0,
        versions=[usual.model_copy(update=version)],
        sentence="What happened is what was foretold: 175 events, and 197.0 expected.",
    )


def written(folder: Path, found: Outcomes) -> Path:
    page.write(found, folder / "outcomes.html")
    return folder / "outcomes.html"


def test_money_shares_and_effects_are_told_in_their_units_with_their_intervals(tmp_path: Path) -> None:
    text = written(tmp_path, outcomes()).read_text("utf-8")
    for told in (
        "<b>17.0%</b>",
        "16.0% to 18.0%",
        "<b>250 USD</b>",
        "−50 USD to 550 USD",
        "Acting prevented <b>11.0</b> events of 100",
        "<b>20,400 USD</b> for 1,000",
        "900 who were acted upon beside 220 of the hold-out, in 5 score bands",
        "Measured on the hold-out alone",
        "It assumes that scores are calibrated",
        "-0.009",
    ):
        assert told in text
    # Money that may be below zero is drawn with its zero.
    assert text.count('<path class="zero"') == 1
    assert text.count('<polyline class="line"') == 2


def test_where_nobody_is_held_out_the_page_says_what_cannot_be_known(tmp_path: Path) -> None:
    found = outcomes(held_out=0, judged_on="all", effect=None, estimate=None)
    text = written(tmp_path, found).read_text("utf-8")
    assert "It cannot be known: nobody is held out (deployment.server.hold_out)." in text
    assert "Before outcomes are known" not in text
    waiting = written(tmp_path, outcomes(effect=None)).read_text("utf-8")
    assert "It cannot be known: too few outcomes of the hold-out are known yet." in waiting


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
def test_everybody_can_read_it(browser: Browser, tmp_path: Path, width: int) -> None:
    with shown(browser, written(tmp_path, outcomes()), width=width) as opened:
        assert violations(opened) == []
        assert overflow(opened) == 0
