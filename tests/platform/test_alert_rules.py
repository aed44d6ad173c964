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
from kfp_lifecycle.monitoring.alert_rules import alert_rules, inhibitions

ROOT = Path(__file__).parents[2]
DEFAULTS = Alerts()
RUNBOOK = ROOT / "docs" / "alerts.md"
DEPLOYED = ROOT / "deploy" / "components" / "prometheus" / "rules.yaml"
SERIES = re.compile(r"\b((?:prediction|inference|online_features)_[a-z_]+)")
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
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "serving").rglob("*.py"))
    return {name + suffix for kind, name in DEFINED.findall(source) for suffix in suffixes[kind]}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_watches_metrics_that_are_exposed_and_says_what_to_do(rule: dict[str, Any]) -> None:
    watched = set(SERIES.findall(rule["expr"]))
    assert watched
    assert watched <= exposed_series()
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    place, _, section = rule["annotations"]["runbook"].partition("#")
    assert ROOT / place == RUNBOOK
    assert section in [line[3:].lower() for line in RUNBOOK.read_text("utf-8").splitlines() if line.startswith("## ")]


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_thresholds_are_the_projects() -> None:
    settings = [
        "alerts.max_latency_p95_ms=250",
        "alerts.max_error_rate=0.05",
        "alerts.max_score_change=0.5",
        "alerts.min_predictions_per_second=2",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    found = {rule["alert"]: rule["expr"] for rule in told(*words)["groups"][0]["rules"]}
    assert found["PredictionsSlow"].endswith("> 0.25")
    assert found["PredictionsFailing"].endswith("> 0.05")
    assert "> 0.5 and" in found["ScoresMoved"]
    assert found["PredictionsFew"].endswith("< 2")


def test_who_has_quiet_nights_is_not_told_of_them() -> None:
    names = {rule["alert"] for rule in rules(Alerts(min_predictions_per_second=0))}
    assert {rule["alert"] for rule in rules()} - names == {"PredictionsFew"}


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


# Series by name and labels, a value a minute ("0+5x10" is 0, 5, 10 … ten times), and what is raised at which minute.
MODEL = {"model_name": "devices", "model_version": "2"}
FILLED_AT_0_FOR_2_HOURS = {
    'online_features_as_of_seconds{instance="server"}': "0x200",
    'online_features_freshness_seconds{instance="server"}': "7200x200",
}
SERVED = 'model_name="devices", model_version="2", shadow="false"'
REQUESTS = 'inference_requests_total{model_name="devices", shadow="false", '
SECONDS = 'inference_request_seconds_bucket{model_name="devices", shadow="false", '
EXPECTED = 'prediction_score_expected{model_name="devices", model_version="2", instance="%s"}'
CASES: dict[str, tuple[dict[str, str], int, str, dict[str, str] | None]] = {
    "a server is gone": ({EXPECTED % "a": "0.1x30 _x30"}, 40, "ModelServerDown", {"model_name": "devices"}),
    "one server of two is gone": (
        {EXPECTED % "a": "0.1x60", EXPECTED % "b": "0.1x30 _x30"},
        40, "ModelServerDown", None,
    ),
    "six answers in a hundred take more than 100 ms": (
        {SECONDS + 'le="0.1"}': "0+94x40", SECONDS + 'le="1"}': "0+100x40", SECONDS + 'le="+Inf"}': "0+100x40"},
        30, "PredictionsSlow", {"model_name": "devices"},
    ),
    "four answers in a hundred take more than 100 ms": (
        {SECONDS + 'le="0.1"}': "0+96x40", SECONDS + 'le="1"}': "0+100x40", SECONDS + 'le="+Inf"}': "0+100x40"},
        30, "PredictionsSlow", None,
    ),
    "two answers in a hundred are the server's failures": (
        {
            REQUESTS + 'code="500"}': "0+1x40",
            REQUESTS + 'code="INTERNAL"}': "0+1x40",
            REQUESTS + 'code="200"}': "0+98x40",
        },
        30, "PredictionsFailing", {"model_name": "devices"},
    ),
    "half of the answers are clients' mistakes": (
        {REQUESTS + 'code="400"}': "0+50x40", REQUESTS + 'code="429"}': "0+9x40", REQUESTS + 'code="200"}': "0+50x40"},
        30, "PredictionsFailing", None,
    ),
    "nine predictions a second": (
        {f"prediction_score_count{{{SERVED}}}": "0+540x40"},
        30, "PredictionsFew", {"model_name": "devices"},
    ),
    "eleven predictions a second": ({f"prediction_score_count{{{SERVED}}}": "0+660x40"}, 30, "PredictionsFew", None),
    "a prediction is not logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "0x5 1x20"},
        10, "PredictionLogIncomplete", MODEL,
    ),
    "every prediction is logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "3x25"},
        10, "PredictionLogIncomplete", None,
    ),
    "scores are twice what they were, low as they are": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+2.8x120",
            f"prediction_score_count{{{SERVED}}}": "0+20x120",
            EXPECTED % "a": "0.07x120",
        },
        100, "ScoresMoved", MODEL,
    ),
    "scores moved days ago": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+2.8x6000",
            f"prediction_score_count{{{SERVED}}}": "0+20x6000",
            EXPECTED % "a": "0.07x6000",
        },
        6000, "ScoresMoved", MODEL,
    ),
    "scores are what they were": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+1.5x120",
            f"prediction_score_count{{{SERVED}}}": "0+20x120",
            EXPECTED % "a": "0.07x120",
        },
        100, "ScoresMoved", None,
    ),
    "the store was not filled for more than half of its time": (
        FILLED_AT_0_FOR_2_HOURS,
        100, "OnlineFeaturesStale", {"instance": "server"},
    ),
    "the store was filled a while ago": (
        FILLED_AT_0_FOR_2_HOURS,
        59, "OnlineFeaturesStale", None,
    ),
    "the store is too old": (
        FILLED_AT_0_FOR_2_HOURS,
        121, "OnlineFeaturesExpired", {"instance": "server"},
    ),
    "the store is not too old yet": (
        FILLED_AT_0_FOR_2_HOURS,
        119, "OnlineFeaturesExpired", None,
    ),
    "a feature is missing more often than it was": (
        {
            'online_features_missing_total{feature="temperature"}': "0+1x1200 1200+15x120",
            "online_features_entities_total": "0+20x1320",
        },
        1300, "OnlineFeatureMissing", {"feature": "temperature"},
    ),
    "a feature is missing as often as it was": (
        {
            'online_features_missing_total{feature="temperature"}': "0+15x1320",
            "online_features_entities_total": "0+20x1320",
        },
        1300, "OnlineFeatureMissing", None,
    ),
}  # fmt: skip


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
@pytest.mark.parametrize("case", CASES)
def test_prometheus_raises_an_alert_when_it_should_and_not_else(case: str, tmp_path: Path) -> None:
    series, minute, alert, labels = CASES[case]
    (rule,) = [rule for rule in rules() if rule["alert"] == alert]
    raised = []
    if labels is not None:
        said = {
            name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda label: labels[label[1]], text)
            for name, text in rule["annotations"].items()
        }
        raised = [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": said}]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": raised}],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(alert_rules(DEFAULTS)), "utf-8")
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content), "utf-8")
    tried = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_alert_is_tried_both_ways() -> None:
    tried = {(alert, labels is not None) for _, _, alert, labels in CASES.values()}
    assert tried == {(rule["alert"], raised) for rule in rules() for raised in (True, False)}
