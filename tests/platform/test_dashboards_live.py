"""Dashboards: each query is answered by a real Prometheus that reads a real server, front and `lifecycle dashboard`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from browser import PATIENCE_MS, needs_browser, overflow, running_browser, violations
from local_release import ROOT, Place, make_model
from running_prometheus import MOVED, Runs, answers_ok, needs_prometheus, program, until
from served_place import processes, server_process, serving_place

from kfp_lifecycle.cli.dashboard import answers
from kfp_lifecycle.cli.standing import Known
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.monitoring.alert_rules import alert_rules
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, FRONT_FAILURES, Panel
from kfp_lifecycle.monitoring.dashboards.server import dashboard_server
from kfp_lifecycle.monitoring.dashboards.sources import OwnMemory, Prometheus, Source
from kfp_lifecycle.monitoring.scrape_targets import prometheus_configuration
from kfp_lifecycle.serving.ports import free_ports

# Where pictures of the pages are put for a person to look at; empty: nowhere.
PICTURES = os.environ.get("DASHBOARD_PICTURES", "")
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]

needs_a_server = pytest.mark.skipif(
    not interpreter("modelling").exists() or not interpreter("serving").exists(),
    reason="the environments modelling and serving are not built",
)
# The collectors of a server with an online store, in its environment, without the store: tests of the store have one.
STORE = """
import sys, time
from types import SimpleNamespace
from prometheus_client import REGISTRY, start_http_server
from benchmarks.metrics_page import store
from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
from kfp_lifecycle.serving.server.online_features import ENTITIES, MISSING
features = SimpleNamespace(materialized=store(), freshness_seconds=86_400.0)
REGISTRY.register(FeatureMetrics(features, lambda: None))
start_http_server(int(sys.argv[1]), "127.0.0.1")
while True:
    ENTITIES.inc(20)
    MISSING.labels("temperature").inc(3)
    time.sleep(0.1)
"""


@contextlib.contextmanager
def asking(place: Place) -> Iterator[None]:
    """Somebody who asks twenty times a second."""
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.wait(0.05):
            place.ask()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@dataclass
class Watched:
    """A served model under load, what tells of it, and who asks."""

    place: Place
    known: Known
    prometheus: Prometheus
    serve: Callable[[Callable[[], Source]], contextlib.AbstractContextManager[str]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A release under load, and a Prometheus with the configuration that `lifecycle alerts --for scrape` writes."""
    folder = tmp_path_factory.mktemp("watched")
    configuration = load_configuration(ROOT, ["deployment.model=devices"])
    own, store, asked = free_ports(3)
    with serving_place(folder) as place, contextlib.ExitStack() as ending:
        model = make_model(folder / "model", "1")
        described = json.loads((model / "model.json").read_text())
        (model / "model.json").write_text(json.dumps({**described, "expected_score": 0.5}))
        place.release(model)
        known = Known(configuration, Runs(), place.serving)  # type: ignore[arg-type]

        @contextlib.contextmanager
        def serve(source: Callable[[], Source], port: int = 0) -> Iterator[str]:
            with dashboard_server(port, answers(known, source, configuration.alerts, 1)) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                yield f"http://127.0.0.1:{server.server_port}"
                server.shutdown()

        prometheus = Prometheus(f"http://127.0.0.1:{asked}")
        ending.enter_context(serve(lambda: prometheus, own))
        ending.enter_context(
            program(
                [str(interpreter("serving")), "-c", STORE, str(store)],
                folder / "store.log",
                lambda: answers_ok(store, "/metrics"),
            )
        )
        scraped = prometheus_configuration("rules.yaml", seconds=1, port=own)
        labels = {"model_name": "devices"}
        scraped["scrape_configs"].append(
            {"job_name": "store", "static_configs": [{"targets": [f"127.0.0.1:{store}"], "labels": labels}]}
        )
        (folder / "prometheus.yml").write_text(yaml.safe_dump(scraped))
        (folder / "rules.yaml").write_text(yaml.safe_dump(alert_rules(configuration.alerts)))
        command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{asked}"]
        command += ["--storage.tsdb.path=series"]
        ending.enter_context(program(command, folder / "prometheus.log", lambda: answers_ok(asked, "/-/ready")))
        ending.enter_context(asking(place))
        until(prometheus.watches, "Prometheus reads something")
        yield Watched(place, known, prometheus, serve)


@pytest.mark.slow
@needs_a_server
@needs_prometheus
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


@pytest.mark.slow
@needs_a_server
@needs_prometheus
def test_the_rules_of_the_front_are_of_metrics_that_envoy_has(watched: Watched) -> None:
    for metric in ("envoy_http_downstream_rq_time_bucket", "envoy_http_downstream_rq_xx"):
        until(lambda name=metric: bool(watched.prometheus.instant(name)), metric)  # type: ignore[misc]
    limits = {float(series["metric"]["le"]) for series in
              watched.prometheus.instant("envoy_http_downstream_rq_time_bucket")}  # fmt: skip
    assert Alerts().max_latency_p95_ms in limits


@pytest.mark.slow
@needs_a_server
@needs_prometheus
@needs_browser
@pytest.mark.parametrize(
    ("asked", "width", "scheme"), [("Prometheus", 1400, "light"), ("servers and fronts", 400, "dark")]
)
def test_the_page_shows_every_panel_to_everyone_and_asks_nobody_else(
    watched: Watched, asked: str, width: int, scheme: Any
) -> None:
    source: Source = watched.prometheus
    if asked != "Prometheus":
        source = OwnMemory(watched.known.targets, watched.known.metrics, every=1)
        for _ in range(3):
            source.look()
            time.sleep(0.1)
    # Here no server has an online store; beside Prometheus there are the collectors of one.
    store = set() if asked == "Prometheus" else {"Missing features", "Age of the online store"}
    filled = [panel for panel in PANELS if panel.title not in store]
    until(lambda: all(source.lines(panel) for panel in filled), "every panel")
    requested: list[str] = []
    with watched.serve(lambda: source) as url, running_browser() as browser:
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
        empty = page.locator("figure:has(.nothing) h3").all_inner_texts()
        assert empty == [panel.title for panel in PANELS if panel.title in store]
        text = page.inner_text("body")
        assert MOVED in text
        assert "Nothing has happened." in page.locator("#verdicts").inner_html()
        assert "version 1 promoted" in text
        assert ("Nobody judges them" in text) is (asked != "Prometheus")
        assert all(address.startswith(url) for address in requested)
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/dashboard-{width}.png", full_page=True)
        context.close()


@pytest.mark.slow
@needs_a_server
@needs_prometheus
def test_the_front_counts_what_no_server_answers_and_its_alerts_wait(watched: Watched) -> None:
    failures = f"({FRONT_FAILURES.promql()}) > {Alerts().max_error_rate}"

    def waiting() -> set[str]:
        return {alert.name for alert in watched.prometheus.alerts() or []}

    assert watched.prometheus.instant(failures) == []
    (manager,) = (process for process in processes(watched.place) if "supervisor.supervisord" in process.cmdline())
    # Nobody starts the server again meanwhile.
    manager.suspend()
    try:
        server_process(watched.place, "1").kill()
        until(lambda: bool(watched.prometheus.instant(failures)), "the front's failures")
        until(lambda: {"PredictionsFailing", "ModelServerDown"} <= waiting(), "alerts that wait for their minutes")
    finally:
        manager.resume()
    until(lambda: watched.place.ask().status == 200, "the server is back")
    until(lambda: "ModelServerDown" not in waiting(), "the alert is taken back")
