"""Dashboards: what Grafana is given, what the page answers from memory, and what it says where nothing is there."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from local_release import ROOT
from running_prometheus import MOVED, NoRuns, Runs, answers_ok, needs_prometheus, program, until, windows
from typer.testing import CliRunner

from kfp_lifecycle.backends.backend import RunArtifact
from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.cli.dashboard import answers
from kfp_lifecycle.cli.standing import Known
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.local.environment_module import ModuleFailed
from kfp_lifecycle.monitoring.dashboards.grafana import grafana_dashboards
from kfp_lifecycle.monitoring.dashboards.lifecycle_metrics import PipelineRun, overdue_since
from kfp_lifecycle.monitoring.dashboards.page import Standing, parts
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Panel
from kfp_lifecycle.monitoring.dashboards.queries import Labels, Read, selected
from kfp_lifecycle.monitoring.dashboards.server import dashboard_server
from kfp_lifecycle.monitoring.dashboards.sources import Alert, Line, OwnMemory, Prometheus
from kfp_lifecycle.monitoring.scrape_targets import SERVERS
from kfp_lifecycle.monitoring.told_windows import ToldWindow
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.ports import CANDIDATES, LOOPBACK, free_ports
from kfp_lifecycle.serving.release.local import envoy
from kfp_lifecycle.serving.release.local.envoy import statistics_ports

DEPLOYED = ROOT / "deploy" / "components" / "grafana" / "dashboards.yaml"
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]
SHOWN = [shown for panel in PANELS for shown in panel.shown]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


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


def test_the_fronts_statistics_are_a_thousand_ports_beyond_the_endpoint_where_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = next(port for port in free_ports(20) if port < CANDIDATES.stop - 1)
    with socket.socket() as other:
        other.bind((LOOPBACK, taken))
        other.listen()
        first, second = statistics_ports(taken - 1000)
    assert first != taken
    assert len({first, second, taken}) == 3
    # A system takes these for its own connections.
    assert all(port < CANDIDATES.stop for port in statistics_ports(CANDIDATES.stop - 1000))
    monkeypatch.setattr(envoy, "is_free", lambda port: True)
    assert statistics_ports(8080) == (9080, 9081)


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
    known = Known(configuration, NoRuns(), tmp_path, list)  # type: ignore[arg-type]
    memory = OwnMemory(known.targets, known.metrics, every=1)
    memory.look()
    page = answers(known, lambda: memory, configuration.alerts, 5)["/"].content()
    assert "<code>lifecycle run training</code> releases a first model" in str(page)
    assert "Monitoring has looked at no window yet" in str(page)
    assert str(page).count("Nothing yet.") == len(PANELS)
    gone = answers(known, lambda: Prometheus("http://127.0.0.1:1"), configuration.alerts, 5)["/parts"].content()
    assert "does not answer" in str(gone)
    assert "--prometheus" in str(gone)


def test_a_missing_feature_is_called_by_its_title_and_its_name_begins_no_html() -> None:
    class Missing:
        """A source whose only lines are of features."""

        name = "a source"

        def lines(self, panel: Panel) -> list[Line]:
            named = ("nian_ling", "x") if panel.title == "Missing features" else ()
            return [Line(name, [(0.0, 0.1), (60.0, 0.2)]) for name in named]

        def alerts(self) -> list[Alert]:
            return []

    standing = Standing("churn", [], [], [], titles={"nian_ling": "年龄", "x": "<script>alert(1)</script>"})
    shown = parts(standing, Missing(), Alerts())
    assert re.search(r"年龄 <b>20.0%|年龄 <b>20%", shown)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <b>" in shown
    assert "<script>alert" not in shown
    assert "nian_ling" not in shown


def test_the_newest_verdict_leads_to_its_page_and_no_bookkeeping_is_a_key_figure(tmp_path: Path) -> None:
    class RunsWithPages(Runs):
        def artifacts(self, run_id: str) -> list[RunArtifact]:
            page = tmp_path / f"{run_id}.html"
            page.write_text(f"what {run_id} found")
            return [
                *super().artifacts(run_id),
                RunArtifact("decide-remedy", "report", "system.HTML", str(page)),
                RunArtifact("detect-drift", "metrics", "system.Metrics", "", {"score_distance": 0.1, "seconds": 20.1}),
            ]

    configuration = load_configuration(ROOT, [])
    for runs, found in ((RunsWithPages(), "what monitoring-2 found"), (Runs(), "lies on this machine")):
        known = Known(configuration, runs, tmp_path, windows)  # type: ignore[arg-type]
        served = answers(known, lambda: Prometheus("http://127.0.0.1:1"), configuration.alerts, 5)
        assert found in str(served["/monitoring"].content())
        assert ('href="/monitoring"' in str(served["/"].content())) is isinstance(runs, RunsWithPages)
        told = str(served["/metrics"].content())
        assert 'figure="seconds"' not in told
        assert 'figure="roc_auc"' in told


def test_the_verdicts_are_those_of_the_history_which_is_read_anew_after_another_run(tmp_path: Path) -> None:
    read: list[int] = []

    def history() -> list[ToldWindow]:
        read.append(1)
        if len(read) == 3:
            raise ModuleFailed("MLflow tracking server at mlflow:5000 cannot be reached")
        return windows()

    runs = Runs()
    known = Known(load_configuration(ROOT, []), runs, tmp_path, history)  # type: ignore[arg-type]
    found = known.standing().verdicts
    assert [(item.verdict, item.sentence) for item in found] == [
        ("world moved", MOVED),
        ("keep", "Nothing has happened."),
    ]
    assert [item.done for item in found] == ["open, asked for: retrain", ""]
    known.standing()
    assert len(read) == 1
    runs.names = ("monitoring-3", *runs.names)
    known.standing()
    assert len(read) == 2
    # What was read last stands, and beside it why there is no more.
    runs.names = ("monitoring-4", *runs.names)
    page = str(answers(known, lambda: Prometheus("http://127.0.0.1:1"), Alerts(), 5)["/parts"].content())
    assert MOVED in page
    assert "MLflow tracking server at mlflow:5000 cannot be reached" in page


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted_and_a_taken_port_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "kfp_lifecycle.cli", "dashboard", "--project", str(ROOT), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LIFECYCLE_STATE": str(tmp_path / "state")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            until(lambda: running.poll() is not None or answers_ok(port, "/metrics"), "the dashboard answers")
            taken = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        finally:
            running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    assert said.startswith(f"http://127.0.0.1:{port}  from ")
    assert taken.returncode == 1
    assert f"port {port} cannot be had" in taken.stderr


def test_it_answers_under_its_own_name_alone_and_says_what_there_is(tmp_path: Path) -> None:
    known = Known(load_configuration(ROOT, []), NoRuns(), tmp_path, list)  # type: ignore[arg-type]
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
