"""`lifecycle alerts`: rules on metrics that model servers really have, which Prometheus raises when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.alert_rules import Pace, alert_rules, inhibitions

ROOT = Path(__file__).parents[2]
DEFAULTS = Alerts()
RUNBOOK = ROOT / "docs" / "alerts.md"
DEPLOYED = ROOT / "deploy" / "components" / "prometheus" / "rules.yaml"
# Names in an expression, labels left out.
LABELS = re.compile(r"\{[^}]*\}|\b(?:by|on|group_left) \([^)]*\)")
SERIES = re.compile(r"\b(?:up|[a-z]+(?:_[a-z]+)+)\b")
FUNCTIONS = {"histogram_quantile", "last_over_time"}
# What others expose: Prometheus itself, Envoy (whose names `test_dashboards.py` asks a real one for), Knative's proxy.
FOREIGN = {
    "up",
    "envoy_http_downstream_rq_time_bucket",
    "envoy_http_downstream_rq_xx",
    "revision_request_latencies_bucket",
    "revision_request_count",
    "http_server_request_duration_seconds_bucket",
    "http_server_request_duration_seconds_count",
}
DEFINED = re.compile(r"\b(Counter|Histogram|Gauge)(?:MetricFamily)?\(\s*\"([a-z_]+)\"")


def rules(alerts: Alerts = DEFAULTS) -> list[dict[str, Any]]:
    return [rule for group in alert_rules(alerts)["groups"] for rule in group["rules"]]


def told(*words: str) -> Any:
    """What `lifecycle alerts …` writes for this project."""
    done = CliRunner().invoke(app, ["alerts", "--project", str(ROOT), *words])
    assert done.exit_code == 0, done.output
    return yaml.safe_load(done.stdout)


def exposed_series() -> set[str]:
    """What the server's metrics are called where Prometheus reads them."""
    suffixes = {"Counter": ["_total"], "Histogram": ["_bucket", "_count", "_sum"], "Gauge": [""]}
    folders = (ROOT / "serving", ROOT / "monitoring")
    source = "\n".join(file.read_text("utf-8") for folder in folders for file in folder.rglob("*.py"))
    return {name + suffix for kind, name in DEFINED.findall(source) for suffix in suffixes[kind]}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_watches_metrics_that_are_exposed_and_says_what_to_do(rule: dict[str, Any]) -> None:
    watched = set(SERIES.findall(LABELS.sub("", rule["expr"]))) - FUNCTIONS
    assert watched
    assert watched <= exposed_series() | FOREIGN
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    place, _, section = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / place == RUNBOOK
    assert section in [line[3:].lower() for line in RUNBOOK.read_text("utf-8").splitlines() if line.startswith("## ")]


@pytest.mark.parametrize(
    ("minute", "minutes", "written"),
    [(60, 5, "5m"), (60, 60, "1h"), (60, 7 * 24 * 60, "7d"), (0.5, 5, "2500ms"), (0.5, 60, "30s")],
)
def test_a_duration_is_written_in_the_largest_unit_that_divides_it(minute: float, minutes: int, written: str) -> None:
    assert Pace(minute).span(minutes) == written


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_thresholds_are_the_projects() -> None:
    settings = [
        "alerts.max_latency_p95_ms=250",
        "alerts.max_error_rate=0.05",
        "alerts.max_score_change=0.5",
        "alerts.min_predictions_per_second=2",
        "alerts.max_model_age_days=10",
        "alerts.max_monitoring_delay_hours=1",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    found = {rule["alert"]: rule["expr"] for rule in told(*words)["groups"][0]["rules"]}
    assert found["PredictionsSlow"].endswith("> 250")
    assert found["PredictionsFailing"].count("> 0.05") == 2
    assert found["ModelStale"].endswith(f"> {10 * 86_400}")
    assert found["MonitoringMissed"].endswith("> 3600")
    assert "> 0.5 and" in found["ScoresMoved"]
    assert found["PredictionsFew"].endswith("< 2")


def test_who_has_quiet_nights_is_not_told_of_them() -> None:
    names = {rule["alert"] for rule in rules(Alerts(min_predictions_per_second=0))}
    assert {rule["alert"] for rule in rules()} - names == {"PredictionsFew"}


def test_who_learns_from_historical_data_is_not_told_of_its_age() -> None:
    names = {rule["alert"] for rule in rules(Alerts(max_model_age_days=0))}
    assert {rule["alert"] for rule in rules()} - names == {"ModelStale"}


def test_a_runbook_is_where_the_project_says() -> None:
    (rule, *_) = rules(Alerts(runbook_url="https://wiki.example/alerts"))
    assert rule["annotations"]["runbook_url"] == "https://wiki.example/alerts#modelserverdown"


def test_what_is_deployed_is_what_the_command_writes_for_the_operator() -> None:
    written = told("--for", "operator")
    assert written == yaml.safe_load(DEPLOYED.read_text("utf-8")), f"lifecycle alerts --for operator > {DEPLOYED}"
    assert written["spec"] == told()


def test_an_inhibition_names_alerts_that_there_are() -> None:
    names = [rule["alert"] for rule in rules()]
    assert told("--for", "alertmanager") == {"inhibit_rules": inhibitions()}
    for inhibition in inhibitions():
        for matcher in inhibition["source_matchers"] + inhibition["target_matchers"]:
            for pattern in re.fullmatch(r'alertname=~?"(.*)"', matcher)[1].split("|"):  # type: ignore[index]
                assert any(re.fullmatch(pattern, name) for name in names), pattern


# Series by name and labels, a value a minute ("0+5x10" is 0, 5, 10 … ten times), the alert, and at which minutes it is
# raised, with its labels, or not (None).
MODEL = {"model_name": "devices", "model_version": "2"}
ONE = {"model_name": "devices"}
FILLED_AT_0_FOR_2_HOURS = {
    'online_features_as_of_seconds{instance="server"}': "0x130 7800x70",
    'online_features_freshness_seconds{instance="server"}': "7200x200",
}
STORE = {"instance": "server"}
SERVED = 'model_name="devices", model_version="2", shadow="false"'
REQUESTS = 'inference_requests_total{model_name="devices", shadow="false", '
SECONDS = 'inference_request_seconds_bucket{model_name="devices", shadow="false", '
FRONT = 'envoy_http_downstream_rq_%s{model_name="devices", envoy_http_conn_manager_prefix="rest", '
PROXY = 'revision_request_%s{model_name="devices", '
OTEL_PROXY = 'http_server_request_duration_seconds_%s{job="fronts", model_name="devices", '
EXPECTED = 'prediction_score_expected{model_name="devices", model_version="2", instance="%s"}'
OVERDUE = 'lifecycle_run_overdue_since_seconds{project="churn", pipeline="monitoring"}'
RELEASED = 'lifecycle_release_seconds{model_name="devices", outcome="%s"}'
UP = 'up{job="model-servers", model_name="devices", instance="%s"}'
Raised = dict[int, dict[str, str] | None]
CASES: dict[str, tuple[dict[str, str], str, Raised]] = {
    "a server is gone, and comes back": (
        {EXPECTED % "a": "0.1x30 _x30 0.1x30"}, "ModelServerDown", {29: None, 40: ONE, 65: None},
    ),
    "one server of two is gone": (
        {EXPECTED % "a": "0.1x60", EXPECTED % "b": "0.1x30 _x30"}, "ModelServerDown", {40: None},
    ),
    "a server that should be there does not answer for hours": (
        {UP % "a": "1x10 0x300 1x9", UP % "b": "1x10 0x300 0x9"}, "ModelServerDown", {9: None, 300: ONE, 318: None},
    ),
    "six answers in a hundred take more than 100 ms, and then none": (
        {
            SECONDS + 'le="0.1"}': "0+94x40 3760+100x40",
            SECONDS + 'le="1"}': "0+100x80",
            SECONDS + 'le="+Inf"}': "0+100x80",
        },
        "PredictionsSlow", {30: ONE, 60: None},
    ),
    "at the front six answers in a hundred take more than 100 ms, for the servers none": (
        {
            FRONT % "time_bucket" + 'le="100"}': "0+94x40 3760+100x40",
            FRONT % "time_bucket" + 'le="125"}': "0+100x80",
            FRONT % "time_bucket" + 'le="+Inf"}': "0+100x80",
            SECONDS + 'le="0.1"}': "0+100x80",
            SECONDS + 'le="+Inf"}': "0+100x80",
        },
        "PredictionsSlow", {5: None, 30: ONE, 60: None},
    ),
    "Knative's proxy waits, the servers do not": (
        {
            PROXY % "latencies_bucket" + 'le="100"}': "0+94x40 3760+100x40",
            PROXY % "latencies_bucket" + 'le="1000"}': "0+100x80",
            PROXY % "latencies_bucket" + 'le="+Inf"}': "0+100x80",
            SECONDS + 'le="0.1"}': "0+100x80",
            SECONDS + 'le="+Inf"}': "0+100x80",
        },
        "PredictionsSlow", {30: ONE, 60: None},
    ),
    "four answers in a hundred take more than 100 ms": (
        {SECONDS + 'le="0.1"}': "0+96x40", SECONDS + 'le="1"}': "0+100x40", SECONDS + 'le="+Inf"}': "0+100x40"},
        "PredictionsSlow", {30: None},
    ),
    "two answers in a hundred are the server's failures, and then none": (
        {
            REQUESTS + 'code="500"}': "0+1x40 40x40",
            REQUESTS + 'code="INTERNAL"}': "0+1x40 40x40",
            REQUESTS + 'code="200"}': "0+98x80",
        },
        "PredictionsFailing", {30: ONE, 60: None},
    ),
    "the front answers two in a hundred itself, since no server does": (
        {
            FRONT % "xx" + 'envoy_response_code_class="5"}': "0+2x40 80x40",
            FRONT % "xx" + 'envoy_response_code_class="2"}': "0+98x80",
            REQUESTS + 'code="200"}': "0+98x80",
        },
        "PredictionsFailing", {30: ONE, 60: None},
    ),
    "Knative's proxy answers two in a hundred itself": (
        {
            PROXY % "count" + 'response_code_class="5xx"}': "0+2x40 80x40",
            PROXY % "count" + 'response_code_class="2xx"}': "0+98x80",
        },
        "PredictionsFailing", {30: ONE, 60: None},
    ),
    "Knative's proxy of 1.19 and later waits": (
        {
            OTEL_PROXY % "bucket" + 'le="0.1"}': "0+94x40 3760+100x40",
            OTEL_PROXY % "bucket" + 'le="1"}': "0+100x80",
            OTEL_PROXY % "bucket" + 'le="+Inf"}': "0+100x80",
        },
        "PredictionsSlow", {30: ONE, 60: None},
    ),
    "Knative's proxy of 1.19 and later answers two in a hundred itself": (
        {
            OTEL_PROXY % "count" + 'http_response_status_code="503"}': "0+2x40 80x40",
            OTEL_PROXY % "count" + 'http_response_status_code="200"}': "0+98x80",
        },
        "PredictionsFailing", {30: ONE, 60: None},
    ),
    "half of the answers are clients' mistakes": (
        {
            REQUESTS + 'code="400"}': "0+50x40",
            REQUESTS + 'code="429"}': "0+9x40",
            REQUESTS + 'code="200"}': "0+50x40",
            FRONT % "xx" + 'envoy_response_code_class="4"}': "0+59x40",
            FRONT % "xx" + 'envoy_response_code_class="5"}': "0x40",
            FRONT % "xx" + 'envoy_response_code_class="2"}': "0+50x40",
        },
        "PredictionsFailing", {30: None},
    ),
    "nine predictions a second, and then eleven": (
        {f"prediction_score_count{{{SERVED}}}": "0+540x40 21600+660x40"},
        "PredictionsFew", {5: None, 30: ONE, 60: None},
    ),
    "eleven predictions a second": ({f"prediction_score_count{{{SERVED}}}": "0+660x40"}, "PredictionsFew", {30: None}),
    "a prediction is not logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "0x5 1x30"},
        "PredictionLogIncomplete", {10: MODEL, 30: None},
    ),
    "every prediction is logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "3x25"},
        "PredictionLogIncomplete", {10: None},
    ),
    "scores are twice what they were, low as they are, and come back": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+2.8x120 336+1.4x120",
            f"prediction_score_count{{{SERVED}}}": "0+20x240",
            EXPECTED % "a": "0.07x240",
        },
        "ScoresMoved", {29: None, 100: MODEL, 180: None},
    ),
    "scores moved days ago": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+2.8x3000",
            f"prediction_score_count{{{SERVED}}}": "0+20x3000",
            EXPECTED % "a": "0.07x3000",
        },
        "ScoresMoved", {3000: MODEL},
    ),
    "scores are what they were": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+1.5x120",
            f"prediction_score_count{{{SERVED}}}": "0+20x120",
            EXPECTED % "a": "0.07x120",
        },
        "ScoresMoved", {100: None},
    ),
    "a model learned more than a year ago, and a new one comes": (
        {'model_learned_until_seconds{model_name="devices", model_version="2"}': f"-{366 * 86_400}x100 0x20"},
        "ModelStale", {30: None, 90: ONE, 110: None},
    ),
    "a model of last month": (
        {'model_learned_until_seconds{model_name="devices", model_version="2"}': f"-{30 * 86_400}x100"},
        "ModelStale", {90: None},
    ),
    "the store was not filled for more than half of its time, and then was": (
        FILLED_AT_0_FOR_2_HOURS, "OnlineFeaturesStale", {59: None, 100: STORE, 135: None},
    ),
    "the store is too old, and then is filled": (
        FILLED_AT_0_FOR_2_HOURS, "OnlineFeaturesExpired", {119: None, 122: STORE, 135: None},
    ),
    "a feature is missing more often than it was, and then as it was": (
        {
            'online_features_missing_total{model_name="devices", feature="temperature"}':
                "0+1x1200 1200+15x120 3000+1x120",
            'online_features_entities_total{model_name="devices"}': "0+20x1440",
        },
        "OnlineFeatureMissing", {1199: None, 1300: {**ONE, "feature": "temperature"}, 1430: None},
    ),
    "a feature is missing as often as it was": (
        {
            'online_features_missing_total{model_name="devices", feature="temperature"}': "0+15x1320",
            'online_features_entities_total{model_name="devices"}': "0+20x1320",
        },
        "OnlineFeatureMissing", {1300: None},
    ),
    "a feature is missing on a cluster where nobody says of which model": (
        {
            'online_features_missing_total{feature="temperature"}': "0+1x1200 1200+15x120",
            "online_features_entities_total": "0+20x1320",
        },
        "OnlineFeatureMissing", {1300: {"feature": "temperature"}},
    ),
    "a monitoring run did not happen, and was made up for": (
        {OVERDUE: "0x500 _x20"}, "MonitoringMissed", {359: None, 361: {"project": "churn"}, 519: None},
    ),
    "a materialization did not happen": (
        {'lifecycle_run_overdue_since_seconds{project="churn", pipeline="materialization"}': "0x500"},
        "MonitoringMissed", {400: None},
    ),
    "a release was rolled back": (
        {RELEASED % "rolled back": "600x100", RELEASED % "promoted": "0x100"},
        "ReleaseRolledBack", {11: ONE, 75: None},
    ),
    "a release was promoted": ({RELEASED % "promoted": "600x100"}, "ReleaseRolledBack", {11: None}),
    "nobody tells of runs, and then somebody does": (
        {'up{job="lifecycle", instance="here"}': "0x20 1x20"},
        "DashboardDown", {5: None, 15: {"job": "lifecycle", "instance": "here"}, 25: None},
    ),
    "somebody tells of runs": ({'up{job="lifecycle", instance="here"}': "1x40"}, "DashboardDown", {30: None}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_prometheus_raises_each_alert_when_it_should_and_takes_it_back(tmp_path: Path) -> None:
    known = {rule["alert"]: rule for rule in rules()}
    tests: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    for case, (series, alert, minutes) in CASES.items():
        expected = [
            {
                "eval_time": f"{minute}m",
                "alertname": alert,
                "exp_alerts": [] if labels is None else [_told(known[alert], labels)],
            }
            for minute, labels in minutes.items()
        ]
        given = [{"series": name, "values": values} for name, values in series.items()]
        tests[alert].append({"name": case, "interval": "1m", "input_series": given, "alert_rule_test": expected})
    # Each rule in a file of its own: promtool judges all rules of a file in each minute of each case.
    for name, cases in tests.items():
        rule = {"groups": [{"name": name, "rules": [known[name]]}]}
        (tmp_path / f"{name}.rules.yaml").write_text(yaml.safe_dump(rule), "utf-8")
        content = {"rule_files": [f"{name}.rules.yaml"], "evaluation_interval": "1m", "tests": cases}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, width=1000), "utf-8")
    files = [tmp_path / f"{name}.yaml" for name in tests]
    tried = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def _told(rule: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """An alert as Prometheus raises it."""
    said = {
        name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda label: labels[label[1]], text)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": said}


def test_every_alert_is_tried_firing_quiet_and_resolving() -> None:
    firing, quiet, resolving = set(), set(), set()
    for _, alert, minutes in CASES.values():
        states = [labels is not None for _, labels in sorted(minutes.items())]
        firing |= {alert} if any(states) else set()
        quiet |= {alert} if not states[0] else set()
        resolving |= {alert} if any(states) and not states[-1] else set()
    assert firing == quiet == resolving == {rule["alert"] for rule in rules()}
