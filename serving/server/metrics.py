"""Prometheus metrics of a served model, counted in plain numbers: a request costs a microsecond of it, a batch as much.

All are counted on the event loop alone, so that none of them needs a lock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

SCORE_BUCKETS = tuple(step / 20 for step in range(1, 21))
SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Distribution:
    """How values are spread over buckets, whose upper bounds belong to them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._array = list(bounds), np.array(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """Count values."""
        found = np.bincount(np.searchsorted(self._array, values), minlength=len(self._counts))
        self._counts = [before + more for before, more in zip(self._counts, found.tolist(), strict=True)]
        self._sum += float(values.sum())

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Tell it as Prometheus has it: each bucket holds those below it."""
        below, buckets = 0, []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family.add_metric(labels, buckets, self._sum)


class ModelMetrics(Collector):
    """The requests and scores of one version of a model."""

    def __init__(self, name: str, version: str, expected_score: float | None = None) -> None:
        """Begin to count.

        Args:
            name: The model's name.
            version: Its version.
            expected_score: Mean of its scores on the validation part, where it is known.
        """
        self.threshold: float | None = None
        """The score from which on to act, where decisions are counted."""
        self.learned_until: datetime | None = None
        """The newest snapshot that it learned from, where it is known."""
        self._expected_score = expected_score
        self._labels = [name, version]
        self._requests: dict[tuple[str, str, bool], int] = {}
        self._seconds: dict[tuple[str, bool], Distribution] = {}
        self._scores: dict[bool, Distribution] = {}
        self._acted_on: dict[bool, int] = {}

    def observe_request(self, protocol: str, code: str, seconds: float, shadow: bool) -> None:
        """Count a request for predictions, whatever came of it.

        Args:
            protocol: `v1`, `v2` or `grpc`.
            code: HTTP's or gRPC's status code, as it is answered.
            seconds: From when it had arrived until its answer was ready.
            shadow: Whether nobody acts on the answer.
        """
        key = (protocol, code, shadow)
        self._requests[key] = self._requests.get(key, 0) + 1
        spread = self._seconds.get((protocol, shadow))
        if spread is None:
            spread = self._seconds[protocol, shadow] = Distribution(SECONDS_BUCKETS)
        spread.observe(seconds)

    def observe_scores(self, scores: NDArray[np.float64], shadow: bool) -> None:
        """Count what was answered."""
        spread = self._scores.get(shadow)
        if spread is None:
            spread = self._scores[shadow] = Distribution(SCORE_BUCKETS)
        if len(scores) == 1:
            score = float(scores[0])
            spread.observe(score)
            acted_on = int(self.threshold is not None and score >= self.threshold)
        else:
            spread.observe_all(scores)
            acted_on = 0 if self.threshold is None else int(np.count_nonzero(scores >= self.threshold))
        self._acted_on[shadow] = self._acted_on.get(shadow, 0) + acted_on

    def collect(self) -> Iterable[CounterMetricFamily | HistogramMetricFamily | GaugeMetricFamily]:
        """The metrics as of now."""
        of_model = ["model_name", "model_version"]
        requests = CounterMetricFamily(
            "inference_requests",
            "Requests for predictions, by what came of them",
            labels=[*of_model, "protocol", "code", "shadow"],
        )
        for (protocol, code, shadow), count in self._requests.items():
            requests.add_metric([*self._labels, protocol, code, str(shadow).lower()], count)
        seconds = HistogramMetricFamily(
            "inference_request_seconds",
            "Time from a request's arrival until its answer, waiting included",
            labels=[*of_model, "protocol", "shadow"],
        )
        for (protocol, shadow), spread in self._seconds.items():
            spread.add_to(seconds, [*self._labels, protocol, str(shadow).lower()])
        scores = HistogramMetricFamily(
            "prediction_score", "Scores the model answered with", labels=[*of_model, "shadow"]
        )
        for shadow, spread in self._scores.items():
            spread.add_to(scores, [*self._labels, str(shadow).lower()])
        decisions = CounterMetricFamily(
            "prediction_decisions",
            "Predictions by whether their score is one to act on",
            labels=[*of_model, "decision", "shadow"],
        )
        for shadow, acted_on in self._acted_on.items() if self.threshold is not None else ():
            for decision, count in (("true", acted_on), ("false", self._scores[shadow].count - acted_on)):
                decisions.add_metric([*self._labels, decision, str(shadow).lower()], count)
        expected = GaugeMetricFamily(
            "prediction_score_expected", "Mean of the model's scores on its validation part", labels=of_model
        )
        # Without it, the server is known to be there all the same.
        expected.add_metric(self._labels, math.nan if self._expected_score is None else self._expected_score)
        learned_until = GaugeMetricFamily(
            "model_learned_until_seconds",
            "Time (Unix) of the newest snapshot that the model learned from",
            labels=of_model,
        )
        if self.learned_until is not None:
            learned_until.add_metric(self._labels, self.learned_until.timestamp())
        return [requests, seconds, scores, decisions, expected, learned_until]
