"""The monitoring page, as a person opens it on a Monday: in a real browser, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from kfp_lifecycle.artifacts.drift import Bar, Compared, Drift, DriftRule, Explanations, Finding, Picture, Weight
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import Measured, Outcomes, OutcomeWeek, VersionOutcomes
from kfp_lifecycle.artifacts.predictions import Broken, LeftOut, LogTable, Predictions
from kfp_lifecycle.artifacts.remedy import Gain, Reason, Remedy, Span
from kfp_lifecycle.components.monitoring.decide_remedy.page import draw
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.local.events import append_event, event, read_progress
from kfp_lifecycle.local.reporting import copied_pages
from kfp_lifecycle.local.run_records import MONITORING_PAGE
from kfp_lifecycle.monitoring.history import BusinessFigure, Retraining, WindowRecord
from kfp_lifecycle.monitoring.resolution import resolutions
from kfp_lifecycle.reports.report import ArtifactView, collect, render
from kfp_lifecycle.runtime.states import State
from tests.platform.browser import needs_browser, overflow, running_browser, shown, violations
from tests.platform.html_page import Page
from tests.platform.report_fixture import CONFIGURATION

END = datetime(2026, 6, 29, tzinfo=UTC)
START = END - timedelta(days=7)
RISEN = datetime(2026, 6, 1, 7, tzinfo=UTC)
SENTENCE = "The world moved: churned came 66 times where version 2 foretold 40.2, since 2026-06-01: retrain <now>."
AUC = Metric(0.76, 0.73, 0.79, 2_000)


def remedy(**changes: Any) -> Remedy:
    values: dict[str, Any] = {
        "verdict": "world moved", "remedy": "retrain", "sentence": SENTENCE, "since": RISEN,
        "reasons": [Reason(source="outcomes", sentence="More events than version 2 foretells.")],
        "gains": [Gain(remedy="retrain", per_1000=Metric(515.0, 196.0, 853.0, 4_000))], "currency": "USD",
        "model": "churn", "version": "2", "window": Span(start=START, end=END),
    }  # fmt: skip
    return Remedy(**(values | changes))


def predictions() -> Predictions:
    left_out = LeftOut(**dict.fromkeys(LeftOut.model_fields, 0))
    found = LogTable(
        predictions=1_559, rows=1_500, versions=[], probes=1, left_out=left_out,
        broken=Broken(files=0, rows=0, examples=[]),
    )  # fmt: skip
    return Predictions(
        model="churn", champion="2", version="2", start=START, end=END, found=found,
        notes=["59 older predictions about the same entities are left out."],
    )  # fmt: skip


def drift(moved: bool = True) -> Drift:
    measured: dict[str, Any] = {"test": "prediction interval", "p_value": 1e-9, "corrected_p_value": 2e-9}
    charge = Finding(
        column="monthly_charge", aspect="values", measure="level", effect=0.6, distance=0.4, drifted=True,
        sentence="median 29 → 35", since=RISEN, moved_score=0.021, **measured,
    )  # fmt: skip
    plan = charge.model_copy(update={"column": "plan", "measure": "premium", "sentence": "premium 20.0% → 12.0%"})
    bars = [
        Bar(label="5", before=60, after=30),
        Bar(label="40", before=40, after=70),
        Bar(label="80", before=0, after=0),
    ]
    shares = [Bar(label="a plan with quite a long name", before=20, after=12), Bar(label="basic", before=80, after=88)]
    return Drift(
        verdict="world moved" if moved else "keep", decision="retrain" if moved else "keep", sentence="Keep: nothing.",
        model="churn", version="2", start=START, end=END,
        predictions=Compared(window=1_559, champion=1_559, compared=1_500), reference_rows=2_000, reference_dates=8,
        rule=DriftRule(
            drift_rule="usual_variation", significance=0.01, min_effect=0.1, max_drifted_share=0.3, min_window=100
        ),
        drifted_share=0.1, drifted=["monthly_charge", "plan"] if moved else [], columns=[charge, plan] if moved else [],
        mean_score=0.093,
        explanations=Explanations(
            distance=0.118, usual=0.031, rows=200,
            weights=[
                Weight(column="monthly_charge", before=0.21, after=0.33),
                Weight(column="plan", before=0.1, after=0.02),
            ],
        ) if moved else None,
        pictures=[
            Picture(column="monthly_charge", aspect="values", histogram=True, bars=bars),
            Picture(column="plan", aspect="values", histogram=False, bars=shares),
        ] if moved else [],
    )  # fmt: skip


def outcomes(known: bool = True) -> Outcomes:
    weeks = [
        OutcomeWeek(end=END - timedelta(weeks=back), observed=30 - back, expected=16.0, more=0, fewer=0)
        for back in range(8, -1, -1)
    ]
    version = VersionOutcomes(
        version="2", spells=6_000, unknown=0, complete=2_000, weeks=weeks, alarm=None,
        performance=[
            Measured(rows=2_000, events=160, metrics={"roc_auc": AUC}),
            Measured(group="region: north-east", rows=120, events=4, metrics={}),
        ],
    )  # fmt: skip
    return Outcomes(
        model="churn", start=START, until=END, horizon_days=30, told="by the event", timing=[], timing_events=0,
        ratio=1.5, threshold=6.9, predictions=9_000, without_entity=0, versions=[version] if known else [],
        sentence="More events than version 2 foretells.",
    )  # fmt: skip


def history(weeks: int = 14) -> list[WindowRecord]:
    share = BusinessFigure(title="share acted upon", unit="share", per=1, value=Metric(0.17, 0.16, 0.18, 900))
    value = BusinessFigure(title="Value of decisions", unit="money", per=1_000, value=Metric(180.0, 80.0, 290.0, 900))
    found = []
    for back in range(weeks - 1, -1, -1):
        last = back == 0
        found.append(
            WindowRecord(
                model="churn", version="2" if back < 6 else "1", start=START - timedelta(weeks=back),
                end=END - timedelta(weeks=back), predictions=1_500 + back, compared=1_400, mean_score=0.07 + back / 1e3,
                verdict="world moved" if back in (0, 3) else "broken data" if back == 8 else "keep",
                remedy="retrain" if back in (0, 3) else "repair" if back == 8 else "nothing",
                sentence=SENTENCE if last else "Keep: none of 26 features nor the score moved.", week=END, observed=30,
                expected=16.0, roc_auc=AUC, business={"acted_upon": share, "value": value}, runs=[f"monitoring-{back}"],
            )
        )  # fmt: skip
    return found


RETRAINED = {
    "monitoring-3": Retraining(
        run="monitoring-3", decision="rejected", verdict="It is not better than version 2.", began=END
    )
}


def drawn(found: Remedy, windows: list[WindowRecord], *, moved: bool = True) -> str:
    done = resolutions(windows, RETRAINED, [])
    return draw(found, predictions(), drift(moved), outcomes(moved), windows, done, "churns within 30 days")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pages")
    quiet = remedy(verdict="keep", remedy="nothing", sentence="Keep: nothing moved.", gains=[], since=None)
    texts = {
        "moved": drawn(remedy(), history()),
        "first": drawn(quiet, history(1), moved=False),
    }
    for name, text in texts.items():
        (place / f"{name}.html").write_text(text, "utf-8")
    return {name: place / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


def test_the_verdict_comes_first_in_colour_and_in_the_one_sentence(pages: dict[str, Path]) -> None:
    page = Page(pages["moved"].read_text("utf-8"))
    assert page.text.index("The world moved") < page.text.index(SENTENCE) < page.text.index("What changed")
    assert "verdict warning" in page.values("class")
    assert page.open == []
    # One file: nothing is fetched, and nothing runs.
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_each_feature_that_moved_has_its_picture_and_each_past_window_what_was_done(pages: dict[str, Path]) -> None:
    text = Page(pages["moved"].read_text("utf-8")).text
    for words in (
        "monthly_charge drifted median 29 → 35 Since 1 June 2026, 07:00 UTC. It moved the mean score by +0.021.",
        "a plan with quite a long name",
        "Scores rest on other features by 11.8%, where older dates of the baseline differ by up to 3.1%; most of all "
        "on monthly_charge: 21.0% → 33.0%.",
        "open retrained: rejected It is not better than version 2.",
        "resolved repaired: data is well again in the window to 11 May 2026",
        "open asked for: retrain",
        "2 earlier windows are in the history",
        "+515 +196 to +853 4,000",
        "region: north-east",
        "59 older predictions about the same entities are left out.",
    ):
        assert words in text, words


def test_what_a_person_has_to_do_is_said_by_its_command() -> None:
    worse = remedy(verdict="model is worse", remedy="roll back", sentence="The model is worse: roll back to version 1.")
    page = Page(drawn(worse, history()))
    assert "verdict failed" in page.values("class")
    assert "A person does it: lifecycle rollback churn" in page.text


def test_the_trend_marks_releases_and_verdicts(pages: dict[str, Path]) -> None:
    page = Page(pages["moved"].read_text("utf-8"))
    assert page.values("class").count("mark") == page.values("class").count("chart") == 5
    assert {"dot warning", "dot failed", "dot passed"} <= set(page.values("class"))
    assert "1,000 predictions 180 USD" in page.text
    for title in ("Mean score", "Events by week", "ROC AUC in production", "Value of decisions, for 1,000 predictions"):
        assert title in page.text


def test_windows_that_end_on_one_day_are_told_apart_by_the_hour(pages: dict[str, Path]) -> None:
    assert "29 June 2026 v2" in Page(pages["moved"].read_text("utf-8")).text
    twice = [*history(2), history(1)[0].model_copy(update={"end": END + timedelta(hours=6)})]
    text = Page(drawn(remedy(), twice)).text
    assert "29 June 2026, 06:00 v2" in text


def test_the_first_window_has_no_past_to_draw(pages: dict[str, Path]) -> None:
    page = Page(pages["first"].read_text("utf-8"))
    assert "Nothing unusual keep Keep: nothing moved." in page.text
    assert "verdict passed" in page.values("class")
    assert "Over time" not in page.text
    assert "What changed" not in page.text


def test_the_runs_report_says_the_verdict_in_its_colour_leads_to_the_page_and_dumps_no_keys(tmp_path: Path) -> None:
    found = remedy()
    found.write(tmp_path)
    looked = {"verdict": "world moved", "versions": {"1": 127}, "broken": {"files": 0, "rows": 0, "examples": []}}
    artifacts = {name: ArtifactView(tmp_path, looked) for name in ("predictions", "outcomes", "skew")}
    artifacts["remedy"] = ArtifactView(tmp_path, found.metadata())
    (tmp_path / "page").write_text("<p>the page</p>")
    events = tmp_path / "events.jsonl"
    append_event(events, {"steps": ["decide-remedy"]})
    append_event(events, event("decide-remedy", State.running, log="log"))
    page = {"report": {"path": str(tmp_path / "page"), "metadata": {}}}
    append_event(events, event("decide-remedy", State.done, artifacts=page))
    pages = copied_pages(tmp_path, read_progress(events))
    assert pages == [("monitoring", MONITORING_PAGE)]
    assert (tmp_path / MONITORING_PAGE).read_text() == "<p>the page</p>"
    told = Page(render(collect(parse_configuration(CONFIGURATION), artifacts, pipeline="monitoring", pages=pages)))
    assert "verdict warning" in told.values("class")
    assert MONITORING_PAGE in told.values("href")
    assert SENTENCE in told.text
    assert "broken files 0" not in told.text
    assert "versions 1 127" not in told.text


@needs_browser
@pytest.mark.parametrize("name", ["moved", "first"])
def test_it_is_good_to_read_on_any_screen(pages: dict[str, Path], browser: Browser, name: str) -> None:
    for width, scheme in ((1400, "light"), (400, "dark")):
        with shown(browser, pages[name], width=width, scheme=scheme) as page:
            assert overflow(page) == 0, width
            assert violations(page) == [], (width, scheme)
