"""`/metrics` in Prometheus's text format: read back, it is what Prometheus's own client library writes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kfp_lifecycle.serving.server.metrics import ModelMetrics
from kfp_lifecycle.serving.server.metrics_page import metrics_page


def read(page: bytes) -> list[tuple[object, ...]]:
    """Families with their samples, but for the times at which counters began; a value that is none is `None`."""
    families: list[Metric] = list(text_string_to_metric_families(page.decode()))
    return [
        (family.name, family.type, family.documentation, sample.name, sample.labels,
         None if math.isnan(sample.value) else sample.value)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]  # fmt: skip


def model(registry: CollectorRegistry) -> None:
    metrics = ModelMetrics("churn", "7")
    metrics.observe_request("v2", "200", 0.002, shadow=False)
    metrics.observe_scores(np.array([0.25, 0.5]), shadow=False)
    registry.register(metrics)


def odd_names(registry: CollectorRegistry) -> None:
    gauge = Gauge("share", 'of "values"\nin C:\\data', ["value"], registry=registry)
    for value, text in enumerate(['a "quoted" one', "two\nlines", "back\\slash", "", "häufig, {x}=1 ☃"]):
        gauge.labels(text).set(value)


def odd_values(registry: CollectorRegistry) -> None:
    gauge = Gauge("value", "", ["of"], registry=registry)
    for value in (math.inf, -math.inf, math.nan, 0, -0.0, 1e300, 1.8e9, 0.1, 5e-324):
        gauge.labels(repr(value)).set(value)


def counters(registry: CollectorRegistry) -> None:
    Counter("plain", "A counter", registry=registry).inc(3)
    Histogram("seconds", "A histogram", registry=registry).observe(0.3)


@pytest.mark.parametrize("fill", [model, odd_names, odd_values, counters])
def test_it_says_what_the_client_library_says(fill: object) -> None:
    registry = CollectorRegistry()
    fill(registry)  # type: ignore[operator]
    written = read(metrics_page(registry))
    assert written
    assert written == read(generate_latest(registry))
