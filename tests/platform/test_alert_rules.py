"""The alert rules speak of metrics that the model server really has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kserve.metrics
import pytest
import yaml
from prometheus_client import Histogram

ROOT = Path(__file__).parents[2]
SERIES = re.compile(r"\b((?:prediction|request|online_features)_[a-z_]+)")
DEFINED = re.compile(r"\b(Counter|Histogram|Gauge|GaugeMetricFamily)\(\s*\"([a-z_]+)\"")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exposed_series() -> set[str]:
    """What the server's own metrics and KServe's are called where Prometheus reads them."""
    suffixes = {"Counter": ["_total"], "Histogram": ["_bucket", "_count", "_sum"]}
    suffixes |= {"Gauge": [""], "GaugeMetricFamily": [""]}
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "serving").glob("*.py"))
    series = {name + suffix for kind, name in DEFINED.findall(source) for suffix in suffixes[kind]}
    of_kserve = [value for value in vars(kserve.metrics).values() if isinstance(value, Histogram)]
    return series | {metric.describe()[0].name + suffix for metric in of_kserve for suffix in suffixes["Histogram"]}


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
