"""Prometheus metrics of the online store: how fresh it is, how often values are missing, how they are spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kfp_lifecycle.artifacts.tables import TIMELESS

if TYPE_CHECKING:
    from kfp_lifecycle.features.online.store import Materialization
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures

QUANTILES = ("0", "0.25", "0.5", "0.75", "1")
# Of a category's name: a label is no place for a text.
CATEGORY_CHARACTERS = 60


class FeatureMetrics(Collector):
    """The features of all entities in the store, as the newest materialization described them.

    Collected when asked for, so that what the store no longer holds is no longer told.
    """

    def __init__(self, features: OnlineFeatures, look_for_news: Callable[[], object]) -> None:
        """Note whose store it is.

        Args:
            features: What reads the store.
            look_for_news: Called at each collection, for the sake of a server that nobody asks for features; it has
                to return at once, and what it finds may be told by the next collection.
        """
        self._features, self._look_for_news = features, look_for_news
        self._told: tuple[Materialization, list[GaugeMetricFamily]] | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics as of now, which change when the store is filled."""
        self._look_for_news()
        materialized = self._features.materialized
        if self._told is None or self._told[0] is not materialized:
            self._told = (materialized, self._families(materialized))
        return self._told[1]

    def _families(self, materialized: Materialization) -> list[GaugeMetricFamily]:
        as_of = GaugeMetricFamily(
            "online_features_as_of_seconds", "Time (Unix) as of which the online store holds the features"
        )
        freshness = GaugeMetricFamily(
            "online_features_freshness_seconds",
            "Age at which a feature counts as missing; infinite where the present is the time of the data",
        )
        newest = GaugeMetricFamily(
            "online_features_newest_row_seconds", "Time (Unix) of the newest row that a view reads", labels=["view"]
        )
        of_feature = ["view", "feature"]
        missing = GaugeMetricFamily(
            "online_features_missing_ratio", "Share of the store's entities without a value", labels=of_feature
        )
        mean = GaugeMetricFamily("online_features_mean", "Mean of the store's known values", labels=of_feature)
        quantile = GaugeMetricFamily(
            "online_features_quantile", "Quantiles of the store's known values", labels=[*of_feature, "quantile"]
        )
        category = GaugeMetricFamily(
            "online_features_category_ratio",
            "Share of the most frequent categories among the store's known values",
            labels=[*of_feature, "category"],
        )
        if materialized.as_of != TIMELESS:
            _add(as_of, [], materialized.as_of.timestamp())
        _add(freshness, [], self._features.freshness_seconds)
        for view in materialized.quality:
            if view.newest_row is not None:
                _add(newest, [view.view], view.newest_row.timestamp())
            for feature in view.features:
                names = [view.view, feature.feature]
                _add(missing, names, feature.missing)
                _add(mean, names, feature.mean)
                for share, value in zip(QUANTILES, feature.quantiles, strict=False):
                    _add(quantile, [*names, share], value)
                for frequent in feature.most_frequent:
                    _add(category, [*names, frequent.value[:CATEGORY_CHARACTERS]], frequent.share)
        return [as_of, freshness, newest, missing, mean, quantile, category]


def _add(family: GaugeMetricFamily, labels: Sequence[str], value: float | None) -> None:
    if value is not None and not math.isnan(value):
        family.add_metric(labels, value)
