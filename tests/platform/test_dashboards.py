"""Dashboards: each query is answered by a real Prometheus that reads a real server, front and `lifecycle dashboard`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import PATIENCE_MS, needs_browser, overflow, running_browser, violations
from local_release import ROOT, Place, make_model
from served_place import serving_place
from typer.testing import CliRunner

from kfp_lifecycle.backends.backend import RunArtifact, RunSummary
from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.cli.dashboard import answers
from kfp_lifecycle.cli.standing import Known
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.monitoring.alert_rules import alert_rules
from kfp_lifecycle.monitoring.dashboards.grafana import grafana_dashboards
from kfp_lifecycle.monitoring.dashboards.lifecycle_metrics import PipelineRun, overdue_since
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Panel
from kfp_lifecycle.monitoring.dashboards.queries import Labels, Read, selected
from kfp_lifecycle.monitoring.dashboards.server import dashboard_server
from kfp_lifecycle.monitoring.dashboards.sources import OwnMemory, Prometheus, Source
from kfp_lifecycle.monitoring.scrape_targets import SERVERS, prometheus_configuration
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.ports import free_ports

DEPLOYED = ROOT / "deploy" / "components" / "grafana" / "dashboards.yaml"
# Where pictures of the pages are put for a person to look at; empty: nowhere.
PICTURES = os.environ.get("DASHBOARD_PICTURES", "")
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]
SHOWN = [shown for panel in PANELS for shown in panel.shown]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

needs_a_server = pytest.mark.skipif(
    not interpreter("modelling").exists() or not interpreter("serving").exists(),
    reason="the environments modelling and serving are not built",
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)


class Runs:
    """A target whose runs ended: a training, and a monitoring run that found something."""

    target = "local"

    def runs(self, limit: int) -> list[RunSummary]:
        ended = datetime.now(UTC) - timedelta(hours=1)
        begun = ended - timedelta(minutes=2)
        return [
            RunSummary(f"{pipeline}-1", f"{pipeline}-1", pipeline, "churn", RunState.done, begun, ended)
            for pipeline in ("monitoring", "training")
        ]

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        measured = {"events_observed": 31.0, "events_expected": 18.2, "roc_auc": 0.78, "summary": "31 events"}
        said = {"verdict": "world moved", "sentence": "Outcomes are 1.7 times as many as foretold since 2026-10-05."}
        return [
            RunArtifact("join-outcomes", "metrics", "system.Metrics", "", measured),
            RunArtifact("decide-remedy", "remedy", "system.Artifact", "", said),
        ]


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
def program(command: list[str], log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a program until its end is asked for; begins when it is ready."""
    with log.open("w") as written:
        running = subprocess.Popen(
            command, cwd=log.parent, stdout=written, stderr=written, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        )
    try:
        until(lambda: running.poll() is not None or is_ready(), log.name)
        assert running.poll() is None, log.read_text()
        yield
    finally:
        running.terminate()
        running.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def answers_ok(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), Client(port) as client:
        return client.get(path).status == 200
    return False


@contextlib.contextmanager
def asking(place: Place) -> Iterator[None]:
    """Somebody who asks twenty times a second."""
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.wait(0.05):
            assert place.ask().status == 200

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
        assert "Outcomes are 1.7 times as many as foretold" in text
        assert "version 1 promoted" in text
        assert ("Nobody judges them" in text) is (asked != "Prometheus")
        assert all(address.startswith(url) for address in requested)
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/dashboard-{width}.png", full_page=True)
        context.close()


@needs_prometheus
def test_answers_from_memory_are_those_of_prometheus(tmp_path: Path) -> None:
    read = [Read(float(at), a_moment(at)) for at in range(0, 1200, 15)]
    lines = [
        f"{metric}{{{','.join(name + '=' + json.dumps(value) for name, value in labels)}}} "
        f"{moment.series[metric][labels]!r} {moment.at}"
        for metric, values in read[0].series.items()
        for labels in values
        for moment in read
    ]
    (tmp_path / "series.txt").write_text("\n".join([*lines, "# EOF\n"]))
    made = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "series.txt", "series"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "prometheus.yml").write_text("{}")
    (port,) = free_ports(1)
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--storage.tsdb.path=series", "--storage.tsdb.retention.time=100y"]
    with program(command, tmp_path / "log", lambda: answers_ok(port, "/-/ready")):
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        for shown in SHOWN:
            asked = prometheus.instant(shown.query.promql(), at=read[-1].at)
            known = {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in asked}
            answered = shown.query.answer(read)
            assert answered, shown
            assert answered == pytest.approx({labels: v for labels, v in known.items() if math.isfinite(v)}), shown


def a_moment(at: int) -> dict[str, dict[Labels, float]]:
    """All metrics that panels read, as they are so many seconds after the beginning: two of each, growing steadily."""
    series: dict[str, dict[Labels, float]] = {}
    for shown in SHOWN:
        for selector in shown.query.selectors:
            metric, _, matchers = selector.partition("{")
            given = dict(re.findall(r'(\w+)=~?"([^"|]*)', matchers))
            for place, model in enumerate(("churn", "upsell"), start=1):
                labels = {"model_name": model, "model_version": "1", "project": model, "pipeline": "monitoring",
                          "feature": "age", "figure": "roc_auc", "outcome": "promoted", "code": "200",
                          "envoy_response_code_class": "2", **given}  # fmt: skip
                bounds = ["0.1", "1", "100", "+Inf"] if metric.endswith("_bucket") else [None]
                for step, bound in enumerate(bounds, start=1):
                    named = labels if bound is None else {**labels, "le": bound}
                    series.setdefault(metric, {})[tuple(sorted(named.items()))] = float(at * place * step)
    return series


def test_a_counter_that_begins_anew_has_not_shrunk() -> None:
    query = next(shown.query for shown in SHOWN if shown.query.selectors == ("prediction_log_written_total",))
    labels = (("model_name", "churn"),)
    values = {0: 100.0, 10: 120.0, 20: 5.0, 30: 25.0}
    read = [Read(float(at), {"prediction_log_written_total": {labels: value}}) for at, value in values.items()]
    assert query.answer(read) == {labels: (20 + 5 + 20) / 30}


def test_a_selector_means_what_prometheus_means() -> None:
    series = {"up": {(("job", "a"),): 1.0, (("job", "ab"),): 2.0, (("instance", "x"),): 3.0}}
    assert list(selected('up{job="a"}', series).values()) == [1]
    assert list(selected('up{job=~"a|b"}', series).values()) == [1]
    assert list(selected('up{job!="a"}', series).values()) == [2, 3]
    with pytest.raises(ValueError, match="is no selector"):
        selected("rate(up)", series)


@pytest.mark.parametrize(
    ("good", "since", "expected"),
    [
        ([], NOON - timedelta(days=3, hours=1), NOON.replace(hour=6) - timedelta(days=2)),
        ([NOON.replace(hour=6, second=7)], NOON - timedelta(days=30), None),
        ([NOON.replace(hour=5)], NOON - timedelta(days=30), NOON.replace(hour=6)),
        ([NOON.replace(hour=7) - timedelta(days=2)], NOON - timedelta(days=30),
         NOON.replace(hour=6) - timedelta(days=1)),
        ([], NOON - timedelta(hours=1), None),
    ],
    ids=["never ran", "ran today", "a person ran it before it was due", "failed since yesterday", "released just now"],
)  # fmt: skip
def test_a_run_is_overdue_since_it_was_due_and_nothing_came_of_it(
    good: list[datetime], since: datetime, expected: datetime | None
) -> None:
    runs = [PipelineRun("monitoring", RunState.done, at, at + timedelta(minutes=2)) for at in good]
    runs += [PipelineRun("monitoring", RunState.failed, NOON, NOON + timedelta(minutes=2))]
    assert overdue_since(Schedule(cron="0 6 * * *"), runs, since, NOON) == expected


def test_grafana_gets_every_query_with_its_legend_and_the_projects_limits() -> None:
    models = grafana_dashboards(Alerts(max_latency_p95_ms=250))
    assert list(models) == ["service", "model", "business"]
    for dashboard in DASHBOARDS:
        drawn = {panel["title"]: panel for panel in models[dashboard.name]["panels"]}
        assert list(drawn) == [panel.title for panel in dashboard.panels]
        for panel in dashboard.panels:
            asked = [(target["expr"], target["legendFormat"]) for target in drawn[panel.title]["targets"]]
            assert asked == [(shown.query.promql("$__rate_interval"), shown.legend) for shown in panel.shown]
            assert all(target["datasource"]["uid"] == "${datasource}" for target in drawn[panel.title]["targets"])
    limits = models["service"]["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert limits[-1]["value"] == 250


def test_what_is_deployed_is_what_the_command_writes(tmp_path: Path) -> None:
    written = CliRunner().invoke(app, ["dashboard", "--for", "operator", "--project", str(ROOT)])
    assert written.exit_code == 0, written.output
    assert written.stdout == DEPLOYED.read_text("utf-8"), f"lifecycle dashboard --for operator > {DEPLOYED}"
    done = CliRunner().invoke(app, ["dashboard", "--for", "grafana", "--output", str(tmp_path), "--project", str(ROOT)])
    assert done.exit_code == 0, done.output
    files = yaml.safe_load(written.stdout)["data"]
    assert {f"kfp-lifecycle-{file.name}": json.loads(file.read_text()) for file in tmp_path.iterdir()} == {
        name: json.loads(text) for name, text in files.items()
    }


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    for words, said in {
        ("--for", "grafana"): "--output FOLDER",
        ("--prometheus", f"http://127.0.0.1:{port}"): "`lifecycle alerts --for scrape` writes a configuration",
    }.items():
        done = CliRunner().invoke(app, ["dashboard", "--project", str(ROOT), *words])
        assert done.exit_code == 2
        assert said in " ".join(done.output.split())


def test_the_page_says_what_to_start_where_nothing_is_there(tmp_path: Path) -> None:
    configuration = load_configuration(ROOT, [])
    known = Known(configuration, NoRuns(), tmp_path)  # type: ignore[arg-type]
    memory = OwnMemory(known.targets, known.metrics, every=1)
    memory.look()
    page = answers(known, lambda: memory, configuration.alerts, 5)["/"].content()
    assert "<code>lifecycle run training</code> releases a first model" in str(page)
    assert "No monitoring run has ended yet" in str(page)
    assert str(page).count("Nothing yet.") == len(PANELS)
    gone = answers(known, lambda: Prometheus("http://127.0.0.1:1"), configuration.alerts, 5)["/parts"].content()
    assert "does not answer" in str(gone)
    assert "--prometheus" in str(gone)


def test_it_answers_under_its_own_name_alone_and_says_what_there_is(tmp_path: Path) -> None:
    known = Known(load_configuration(ROOT, []), NoRuns(), tmp_path)  # type: ignore[arg-type]
    with dashboard_server(0, answers(known, lambda: Prometheus("http://127.0.0.1:1"), Alerts(), 5)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = urllib.request.urlopen(f"{url}/targets/{SERVERS}")
        assert json.load(found) == []
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/elsewhere")
        elsewhere = urllib.request.Request(f"{url}/", headers={"host": "attacker.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(elsewhere)
        server.shutdown()


class NoRuns(Runs):
    """A target where nothing ran."""

    def runs(self, limit: int) -> list[RunSummary]:
        return []
