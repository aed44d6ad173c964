"""The alert rules speak of metrics that the model server really has, and Prometheus raises them when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "monitoring" / "alerts.yaml"
SERIES = re.compile(r"\b((?:prediction|inference|online_features)_[a-z_]+)")
DEFINED = re.compile(r"\b(Counter|Histogram|Gauge)(?:MetricFamily)?\(\s*\"([a-z_]+)\"")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


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


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


# Series by name and labels, a value a minute ("0+5x10" is 0, 5, 10 … ten times), and what is raised at which minute.
MODEL = {"model_name": "devices", "model_version": "2"}
FILLED_AT_0_FOR_2_HOURS = {
    'online_features_as_of_seconds{instance="server"}': "0x200",
    'online_features_freshness_seconds{instance="server"}': "7200x200",
}
SERVED = 'model_name="devices", model_version="2", shadow="false"'
CASES: dict[str, tuple[dict[str, str], int, str, dict[str, str] | None]] = {
    "one answer in a hundred takes a second": (
        {
            'inference_request_seconds_bucket{model_name="devices", le="0.1"}': "0+95x40",
            'inference_request_seconds_bucket{model_name="devices", le="1"}': "0+100x40",
            'inference_request_seconds_bucket{model_name="devices", le="+Inf"}': "0+100x40",
        },
        30, "PredictionsSlow", {"model_name": "devices"},
    ),
    "all answers are quick": (
        {
            'inference_request_seconds_bucket{model_name="devices", le="0.1"}': "0+100x40",
            'inference_request_seconds_bucket{model_name="devices", le="+Inf"}': "0+100x40",
        },
        30, "PredictionsSlow", None,
    ),
    "a prediction is not logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "0x5 1x20"},
        10, "PredictionLogIncomplete", MODEL,
    ),
    "every prediction is logged": (
        {'prediction_log_dropped_total{model_name="devices", model_version="2"}': "3x25"},
        10, "PredictionLogIncomplete", None,
    ),
    "nobody asks any more": (
        {f"prediction_score_count{{{SERVED}}}": "0+10x1440 14400x120"},
        1500, "PredictionsStopped", {"model_name": "devices"},
    ),
    "nobody asks, as at this time yesterday": (
        {f"prediction_score_count{{{SERVED}}}": "0x1560"},
        1500, "PredictionsStopped", None,
    ),
    "scores are higher than they were": (
        {
            f"prediction_score_sum{{{SERVED}}}": "0+2x1200 2400+10x120",
            f"prediction_score_count{{{SERVED}}}": "0+20x1320",
        },
        1300, "ScoresMoved", MODEL,
    ),
    "scores are what they were": (
        {f"prediction_score_sum{{{SERVED}}}": "0+2x1320", f"prediction_score_count{{{SERVED}}}": "0+20x1320"},
        1300, "ScoresMoved", None,
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
    content = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content), "utf-8")
    told = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_alert_is_tried_both_ways() -> None:
    tried = {(alert, labels is not None) for _, _, alert, labels in CASES.values()}
    assert tried == {(rule["alert"], raised) for rule in rules() for raised in (True, False)}
