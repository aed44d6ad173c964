"""What people asked of each version on a cluster, by the Prometheus that scrapes the model servers.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (instant queries). Each pod's counters are followed
on their own, so that pods that come, go or begin anew bend nothing; `increase()` would extrapolate. Pods are scraped at
different moments, so two versions' counts are of the same time to within a scrape's interval.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.release.traffic import Counts, Tally
from kfp_lifecycle.serving.status_codes import is_failure, is_refusal

REQUESTS, SECONDS = "inference_requests_total", "inference_request_seconds_bucket"
ANSWER_SECONDS = 10.0
# What a series has beside its pod's labels.
OWN_LABELS = frozenset(("__name__", "protocol", "code", "le"))


class Prometheus:
    """The requests of people to the versions of one model."""

    def __init__(self, address: str, namespace: str, model: str) -> None:
        """Note where to ask.

        Args:
            address: Of Prometheus, such as `http://prometheus.monitoring:9090`; empty: nobody counts.
            namespace: Where the model is served.
            model: Its name.
        """
        self.address, self._namespace, self._model = address.rstrip("/"), namespace, model
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

    def counts(self, version: str) -> Counts:
        """What people asked of a version so far.

        Raises:
            ContractViolation: Prometheus does not answer.
        """
        if not self.address:
            return Counts()
        return self._tallies[version].take(by_pod(self._asked(self._query(version))))

    def _query(self, version: str) -> str:
        # Whoever scrapes without Kubernetes' labels has no namespace.
        labels = {"__name__": f"{REQUESTS}|{SECONDS}", "namespace": f"{self._namespace}|"}
        exact = {"model_name": self._model, "model_version": version, "shadow": "false"}
        matchers = [f"{name}=~{json.dumps(value)}" for name, value in labels.items()]
        matchers += [f"{name}={json.dumps(value)}" for name, value in exact.items()]
        return "{" + ", ".join(matchers) + "}"

    def _asked(self, query: str) -> list[dict[str, Any]]:
        url = f"{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError) as error:
            raise ContractViolation(
                f"Prometheus at {self.address} does not tell what people ask of {self._model} ({error}): let this step "
                "reach it, or leave targets.kubeflow.servers.prometheus out, and the release's own requests decide."
            ) from error
        return result


def by_pod(series: Iterable[Mapping[str, Any]]) -> dict[Hashable, Counts]:
    """The counts of each pod, out of the samples of an instant query."""
    found: defaultdict[Hashable, list[tuple[dict[str, str], int]]] = defaultdict(list)
    for item in series:
        labels = item["metric"]
        pod = frozenset((name, value) for name, value in labels.items() if name not in OWN_LABELS)
        found[pod].append((labels, int(float(item["value"][1]))))
    return {pod: _counts(samples) for pod, samples in found.items()}


def _counts(samples: list[tuple[dict[str, str], int]]) -> Counts:
    requests = [(labels["code"], count) for labels, count in samples if labels["__name__"] == REQUESTS]
    within: defaultdict[float, int] = defaultdict(int)
    for labels, count in samples:
        if labels["__name__"] == SECONDS:
            within[float(labels["le"])] += count
    everyone = within.pop(float("inf"), 0)
    return Counts(
        requests=sum(count for _, count in requests),
        server_errors=sum(count for code, count in requests if is_failure(code)),
        client_errors=sum(count for code, count in requests if is_refusal(code)),
        slower={bound * 1000: everyone - count for bound, count in within.items()},
    )
