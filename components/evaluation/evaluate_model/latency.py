"""Latency of one prediction in the model itself; what the server around it adds, `validate_serving` measures."""

from __future__ import annotations

import time

import numpy as np

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.modelling.scoring import Feed, Scorer

WARM_UP = 20
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
REPLICATES = 200


def measure_latency(scorer: Scorer, feed: Feed, requests: int, seed: int) -> dict[str, Metric]:
    """Time requests of one row each.

    Args:
        scorer: The served model, with one thread.
        feed: Rows to ask, at least one.
        requests: How many.
        seed: Chooses the resamples behind the intervals.

    Returns:
        `latency.p50_ms`, `latency.p95_ms`, `latency.p99_ms`.
    """
    rows = len(next(iter(feed.values())))
    single = [{name: values[row % rows][None, :] for name, values in feed.items()} for row in range(requests)]
    for repeat in range(WARM_UP):
        scorer.run(single[repeat % requests])
    times = np.empty(requests)
    for position, row in enumerate(single):
        started = time.perf_counter()
        scorer.run(row)
        times[position] = 1000 * (time.perf_counter() - started)
    drawn = np.random.default_rng(seed).choice(times, size=(REPLICATES, requests))
    metrics = {}
    for name, quantile in QUANTILES.items():
        low, high = np.quantile(np.quantile(drawn, quantile, axis=1), [0.025, 0.975])
        metrics[f"latency.{name}_ms"] = Metric(float(np.quantile(times, quantile)), float(low), float(high), requests)
    return metrics
