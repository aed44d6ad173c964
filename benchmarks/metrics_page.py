"""What the model server's `/metrics` costs with fifty features in the online store. Run in the serving environment.

    python -m benchmarks.metrics_page

The page is made on the event loop that answers requests, so while it is made nobody is answered.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
from prometheus_client import REGISTRY

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.quality import FeatureQuality, FrequentValue, ViewQuality
from kfp_lifecycle.features.online.store import Materialization
from kfp_lifecycle.serving.server import prediction_log
from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
from kfp_lifecycle.serving.server.metrics import ModelMetrics
from kfp_lifecycle.serving.server.metrics_page import metrics_page
from kfp_lifecycle.serving.server.online_features import MISSING

PROMISED_MS = 5.0
VIEWS, NUMBERS, TEXTS, FREQUENT = 5, 8, 2, 10
PAGES = 500
CODES = {"v1": ("200", "400"), "v2": ("200", "400", "429", "500"), "grpc": ("OK", "INTERNAL")}


def store() -> Materialization:
    """What a materialization says of fifty features: forty numbers, ten texts with their most frequent values."""
    frequent = [FrequentValue(value=f"value {place}", share=0.1) for place in range(FREQUENT)]
    views = []
    for view in range(VIEWS):
        names = [f"a_feature_of_view_{view}_{place}" for place in range(NUMBERS + TEXTS)]
        numbers = [FeatureQuality(feature=name, missing=0.0123, mean=12.345678, quantiles=[0.1, 1.2, 3.4, 5.6, 7.8])
                   for name in names[:NUMBERS]]  # fmt: skip
        texts = [FeatureQuality(feature=name, missing=0.0, most_frequent=frequent) for name in names[NUMBERS:]]
        now = datetime.now(UTC)
        views.append(ViewQuality(view=f"view_{view}", newest_row=now, features=[*numbers, *texts]))
    return Materialization("1", datetime.now(UTC), "", 10_000, None, views)


def main() -> None:
    """Measure, print, save."""
    arguments = argument_parser(__doc__).parse_args()
    model = ModelMetrics("churn", "7", 0.1)
    for protocol, codes in CODES.items():
        for code in codes:
            for shadow in (True, False):
                model.observe_request(protocol, code, 0.002, shadow)
                model.observe_scores(np.array([0.25, 0.5]), shadow)
    held = store()
    for view in held.quality:
        for feature in view.features:
            MISSING.labels(feature.feature).inc()
    for counter in (prediction_log.WRITTEN, prediction_log.DROPPED, prediction_log.SPILLED, prediction_log.DEATHS):
        counter.labels("churn", "7").inc()
    REGISTRY.register(model)
    REGISTRY.register(FeatureMetrics(SimpleNamespace(materialized=held, freshness_seconds=86_400.0), lambda: None))  # type: ignore[arg-type]
    took = []
    for _ in range(PAGES):
        started = time.process_time()
        page = metrics_page(REGISTRY)
        took.append((time.process_time() - started) * 1000)
    median, slow = statistics.median(took), statistics.quantiles(took, n=100)[98]
    print(
        f"/metrics, 50 features, {len(page.splitlines())} lines: median {median:.2f} ms, 99th percentile {slow:.2f} ms"
    )
    ratio = Ratio(f"/metrics with 50 features, of {PROMISED_MS:g} ms", median / PROMISED_MS, "at most 1")
    save_ratios([ratio], arguments.ratios)


if __name__ == "__main__":
    main()
