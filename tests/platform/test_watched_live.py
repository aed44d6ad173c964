"""Dashboards and alerts of a real release: a real Prometheus reads its servers, its fronts and `lifecycle dashboard`,
answers each query of each panel, and raises every alert, which a real Alertmanager tells a webhook.

The rules are those of `lifecycle alerts` with minutes of half a second.
"""

from __future__ import annotations

import math
import os
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from browser import PATIENCE_MS, needs_browser, overflow, running_browser, violations
from running_prometheus import MOVED, needs_prometheus, until
from served_place import processes, server_process
from watched import IMPOSSIBLE, MANY, THRESHOLDS, UNKNOWN, USUAL, WELL, Watched, serving, watched

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.monitoring.alert_rules import alert_rules
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Panel
from kfp_lifecycle.monitoring.dashboards.sources import OwnMemory, Source
from kfp_lifecycle.serving.release.local.operations import rollback

__all__ = ["watched"]

# Where pictures of the pages are put for a person to look at; empty: nowhere.
PICTURES = os.environ.get("DASHBOARD_PICTURES", "")
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]

pytestmark = [
    pytest.mark.slow,
    needs_prometheus,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_no_panel_is_empty(watched: Watched, panel: Panel) -> None:
    for shown in panel.shown:
        query = shown.query.promql()
        until(lambda asked=query: finite(watched.prometheus.instant(asked)), query)  # type: ignore[misc]
        # A legend's labels are the answer's.
        named = re.findall(r"\{\{(\w+)\}\}", shown.legend)
        assert all(set(named) <= set(series["metric"]) for series in watched.prometheus.instant(query)), query


def finite(series: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(each["value"][1])) for each in series)


def test_the_rules_of_the_front_are_of_metrics_that_envoy_has(watched: Watched) -> None:
    for metric in ("envoy_http_downstream_rq_time_bucket", "envoy_http_downstream_rq_xx"):
        until(lambda name=metric: bool(watched.prometheus.instant(name)), metric)  # type: ignore[misc]
    limits = {float(series["metric"]["le"]) for series in
              watched.prometheus.instant("envoy_http_downstream_rq_time_bucket")}  # fmt: skip
    assert Alerts().max_latency_p95_ms in limits


@needs_browser
@pytest.mark.parametrize(
    ("asked", "width", "scheme"), [("Prometheus", 1400, "light"), ("servers and fronts", 400, "dark")]
)
def test_the_page_shows_every_panel_to_everyone_and_asks_nobody_else(
    watched: Watched, asked: str, width: int, scheme: Any
) -> None:
    memory = OwnMemory(watched.known.targets, watched.known.metrics, every=1)
    source: Source = watched.prometheus if asked == "Prometheus" else memory

    def filled() -> bool:
        memory.look()
        return all(source.lines(panel) for panel in PANELS)

    until(filled, "every panel")
    requested: list[str] = []
    with serving(watched.tells(source)) as url, running_browser() as browser:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.goto(url)
        # The page has asked for its parts again.
        page.wait_for_function("performance.getEntriesByType('resource').some(e => e.name.endsWith('/parts'))")
        # By the keyboard: the first stop is the contents, and what pauses the page is reached.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "#alerts"
        page.focus("#pause")
        page.keyboard.press("Enter")
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        assert violations(page) == []
        assert overflow(page) == 0
        assert page.locator("figure:has(.nothing) h3").all_inner_texts() == []
        text = page.inner_text("body")
        assert MOVED in text
        assert "Nothing has happened." in page.locator("#verdicts").inner_html()
        assert "version 1 promoted" in text
        assert ("Nobody judges them" in text) is (asked != "Prometheus")
        assert all(address.startswith(url) for address in requested)
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/dashboard-{width}.png", full_page=True)
        context.close()


def assert_told_and_taken_back(watched: Watched, *alerts: str) -> None:
    """Each was raised and resolved, and came with how bad it is, what it is about, and where it stands what to do."""
    rules = {rule["alert"]: rule for rule in alert_rules(THRESHOLDS)["groups"][0]["rules"]}
    for name in alerts:
        rule = rules[name]
        assert {"firing", "resolved"} <= set(watched.team.states(name)), name
        for told in watched.team.of(name):
            labels, said = told["labels"], told["annotations"]
            summary = re.sub(
                r"\{\{ \$labels\.(\w+) \}\}",
                lambda label, known=labels: known[label[1]],  # type: ignore[misc]
                rule["annotations"]["summary"],
            )
            assert labels["severity"] == rule["labels"]["severity"]
            assert said["summary"] == summary
            assert said["description"] == rule["annotations"]["description"]
            assert said["runbook_url"] == f"docs/alerts.md#{name.lower()}"


@pytest.fixture(scope="module")
def neglected(watched: Watched) -> Watched:
    """Nobody trained, filled the store or monitored, nothing can be logged, and scores are not what they were."""
    team = watched.team
    team.waits_for("MonitoringMissed", "PredictionLogIncomplete", "OnlineFeaturesStale", "ModelStale", "ScoresMoved")
    team.waits_for("PredictionsSlow")
    watched.asking.questions = (USUAL,)
    watched.store.is_as_old_as(1.1)
    team.waits_for("OnlineFeaturesExpired")
    watched.keeps_to_itself("OnlineFeaturesStale", for_the_sake_of="OnlineFeaturesExpired")
    return watched


@pytest.fixture(scope="module")
def mended(neglected: Watched) -> Watched:
    """All of that was seen to."""
    team = neglected.team
    neglected.clear_the_log()
    neglected.runs.ended = datetime.now(UTC)
    # Features that are stale and not expired: the one is taken back, and the other stands.
    neglected.store.is_as_old_as(0.6)
    team.waits_for("OnlineFeaturesExpired", status="resolved")
    neglected.release_next()
    neglected.store.is_as_old_as(0.0)
    neglected.asking.questions = (WELL,)
    team.waits_for("MonitoringMissed", "PredictionLogIncomplete", "OnlineFeaturesStale", status="resolved")
    team.waits_for("ModelStale", "ScoresMoved", status="resolved")
    return neglected


@pytest.fixture(scope="module")
def answering_again(mended: Watched) -> Watched:
    """Nobody asked, then half of the answers failed, and now all is well."""
    team = mended.team
    mended.asking.questions = ()
    team.waits_for("PredictionsSlow", status="resolved")
    team.waits_for("PredictionsFew")
    mended.asking.questions = (WELL, IMPOSSIBLE)
    team.waits_for("PredictionsFew", status="resolved")
    team.waits_for("PredictionsFailing")
    mended.keeps_to_itself("PredictionsSlow", for_the_sake_of="PredictionsFailing")
    mended.asking.questions = (WELL,)
    team.waits_for("PredictionsFailing", status="resolved")
    return mended


@pytest.fixture(scope="module")
def rolled_back(answering_again: Watched) -> Watched:
    """The first version has the traffic again, and a feature was missing for a while."""
    watched, team = answering_again, answering_again.team
    rollback(watched.place.serving, "devices")
    watched.asking.questions = (UNKNOWN,)
    team.waits_for("ReleaseRolledBack", "OnlineFeatureMissing")
    watched.asking.questions = (MANY,)
    team.waits_for("OnlineFeatureMissing", "ReleaseRolledBack", status="resolved")
    return watched


@pytest.fixture(scope="module")
def told_of_runs_again(rolled_back: Watched) -> Watched:
    """Nothing was told of runs and releases for a while."""
    known = dict(rolled_back.dashboard)
    rolled_back.dashboard.clear()
    rolled_back.team.waits_for("DashboardDown")
    rolled_back.dashboard.update(known)
    rolled_back.team.waits_for("DashboardDown", status="resolved")
    return rolled_back


@pytest.fixture(scope="module")
def served_again(told_of_runs_again: Watched) -> Watched:
    """The servers were gone for a while."""
    watched, team = told_of_runs_again, told_of_runs_again.team
    watched.asking.questions = ()
    (manager,) = (process for process in processes(watched.place) if "supervisor.supervisord" in process.cmdline())
    # Nobody starts them again meanwhile.
    manager.suspend()
    try:
        # The version before would answer in its place.
        for version in ("1", "2"):
            server_process(watched.place, version).kill()
        team.waits_for("ModelServerDown")
        failures = team.states("PredictionsFailing")
        watched.asking.questions = (USUAL,)
        # The front alone answers, and one cause is told once.
        watched.keeps_to_itself("PredictionsFailing", for_the_sake_of="ModelServerDown")
        assert team.states("PredictionsFailing") == failures
    finally:
        manager.resume()
    team.waits_for("ModelServerDown", status="resolved")
    return watched


def test_what_was_neglected_is_told_until_it_is_mended(mended: Watched) -> None:
    assert_told_and_taken_back(mended, "ModelStale", "MonitoringMissed", "OnlineFeaturesExpired", "OnlineFeaturesStale")
    assert_told_and_taken_back(mended, "PredictionLogIncomplete", "ScoresMoved")


def test_silence_slow_answers_and_failures_are_told(answering_again: Watched) -> None:
    assert_told_and_taken_back(answering_again, "PredictionsFailing", "PredictionsFew", "PredictionsSlow")


def test_a_rollback_and_a_feature_that_goes_missing_are_told(rolled_back: Watched) -> None:
    assert_told_and_taken_back(rolled_back, "OnlineFeatureMissing", "ReleaseRolledBack")


def test_that_nobody_tells_of_runs_is_told(told_of_runs_again: Watched) -> None:
    assert_told_and_taken_back(told_of_runs_again, "DashboardDown")


def test_that_servers_are_gone_is_told_and_there_is_no_alert_that_was_not(served_again: Watched) -> None:
    assert_told_and_taken_back(served_again, "ModelServerDown")
    told = {alert["labels"]["alertname"] for alert in served_again.team.told}
    assert told == {rule["alert"] for rule in alert_rules(Alerts())["groups"][0]["rules"]}
