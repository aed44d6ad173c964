"""The three dashboards of a served model: the service, the model, the business.

Each query is of metrics that the model server, the front before it, or `lifecycle dashboard` expose; see
docs/dashboards.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from kfp_lifecycle.monitoring.dashboards.queries import (
    Age,
    FirstOf,
    Newest,
    Quantile,
    Query,
    Rate,
    Ratio,
    Scaled,
    Share,
)
from kfp_lifecycle.serving.status_codes import FAILURES

# What people asked; what a release asks or a front copies is not told of.
REAL = 'shadow="false"'
OF_VERSION = ("model_name", "model_version")
SERVER_LATENCY = f"inference_request_seconds_bucket{{{REAL}}}"
SERVERS = 'job="model-servers"'
VERSION = "{{model_name}} {{model_version}}"
# Knative's proxy counts in milliseconds up to 1.18, and from 1.19 on as OpenTelemetry has it.
PROXY = "http_server_request_duration_seconds"
FRONTS = 'job="fronts"'


def latency_ms(share: float) -> FirstOf:
    """A quantile of the time to an answer as the front sees it: Envoy, or Knative's queue-proxy; else the server."""
    return FirstOf(
        (
            Quantile(share, "envoy_http_downstream_rq_time_bucket"),
            Quantile(share, "revision_request_latencies_bucket"),
            Scaled(Quantile(share, f"{PROXY}_bucket{{{FRONTS}}}"), 1000),
            Scaled(Quantile(share, SERVER_LATENCY), 1000),
        )
    )


FRONT_FAILURES = FirstOf(
    (
        Share(Rate('envoy_http_downstream_rq_xx{envoy_response_code_class="5"}'), Rate("envoy_http_downstream_rq_xx")),
        Share(Rate('revision_request_count{response_code_class="5xx"}'), Rate("revision_request_count")),
        Share(Rate(f'{PROXY}_count{{{FRONTS},http_response_status_code=~"5.."}}'), Rate(f"{PROXY}_count{{{FRONTS}}}")),
    )
)
SERVER_FAILURES = Share(
    Rate(f'inference_requests_total{{{REAL},code=~"{FAILURES}"}}'), Rate(f"inference_requests_total{{{REAL}}}")
)
PREDICTIONS = Rate(f"prediction_score_count{{{REAL}}}")


@dataclass(frozen=True)
class Shown:
    """A query of a panel."""

    query: Query
    legend: str
    """What its lines are called; `{{label}}` is a label's value."""


@dataclass(frozen=True)
class Panel:
    """A plot."""

    title: str
    about: str
    """What it shows, and what to make of it."""
    unit: str
    """`ms`, `s`, `share`, `bytes`, `cores`, `per second`, `number` or `score`."""
    shown: tuple[Shown, ...]
    limit: str = ""
    """The key of `alerts` that tells beyond it; empty where none does."""
    figure: bool = False
    """Whether the newest value is what counts, not its course."""


@dataclass(frozen=True)
class Dashboard:
    """Plots that belong together."""

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]


SERVICE = Dashboard(
    "service",
    "Service",
    "How the endpoint answers, as callers see it, and what its servers have left.",
    (
        Panel(
            "Time to an answer",
            "As the front sees it, waiting included; where no front is asked, as the server does.",
            "ms",
            tuple(Shown(latency_ms(share), f"{{{{model_name}}}} p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
            "max_latency_p95_ms",
        ),
        Panel(
            "Failures",
            "Share of answers that are the service's own fault: 5xx at the front, and the servers' own.",
            "share",
            (
                Shown(FRONT_FAILURES, "{{model_name}} at the front"),
                Shown(SERVER_FAILURES, "{{model_name}} at its servers"),
            ),
            "max_error_rate",
        ),
        Panel(
            "Answers by code",
            "As the servers count them: 4xx are clients' mistakes, 429 is more than may wait.",
            "per second",
            (Shown(Rate(f"inference_requests_total{{{REAL}}}", ("model_name", "code")), "{{model_name}} {{code}}"),),
        ),
        Panel(
            "Answers by class, at the front",
            "What callers were answered, servers that are down included.",
            "per second",
            (
                Shown(
                    Rate("envoy_http_downstream_rq_xx", ("model_name", "envoy_response_code_class")),
                    "{{model_name}} {{envoy_response_code_class}}xx",
                ),
            ),
        ),
        Panel(
            "Requests at once",
            "Under way at the front. Many while few are answered: the servers are saturated.",
            "number",
            (Shown(Newest("envoy_http_downstream_rq_active", function="sum"), "{{model_name}}"),),
        ),
        Panel(
            "Processor",
            "Cores that each server uses; one answers on one core.",
            "cores",
            (
                Shown(
                    Rate(f"process_cpu_seconds_total{{{SERVERS}}}", OF_VERSION),
                    VERSION,
                ),
            ),
        ),
        Panel(
            "Memory",
            "Resident, of each server.",
            "bytes",
            (
                Shown(
                    Newest(f"process_resident_memory_bytes{{{SERVERS}}}", OF_VERSION),
                    VERSION,
                ),
            ),
        ),
        Panel(
            "Prediction log",
            "Predictions written, and those that were lost, which monitoring does not see.",
            "per second",
            (
                Shown(Rate("prediction_log_written_total"), "{{model_name}} written"),
                Shown(Rate("prediction_log_dropped_total"), "{{model_name}} lost"),
            ),
        ),
    ),
)

MODEL = Dashboard(
    "model",
    "Model",
    "What the model answers, what it is fed, and how old it is.",
    (
        Panel(
            "Predictions",
            "By version: a release moves them from one to the other.",
            "per second",
            (Shown(Rate(f"prediction_score_count{{{REAL}}}", OF_VERSION), VERSION),),
            "min_predictions_per_second",
        ),
        Panel(
            "Mean score",
            "Beside the mean on the model's validation part, from which it should not move.",
            "score",
            (
                Shown(
                    Ratio(
                        Rate(f"prediction_score_sum{{{REAL}}}", OF_VERSION),
                        Rate(f"prediction_score_count{{{REAL}}}", OF_VERSION),
                    ),
                    VERSION,
                ),
                Shown(Newest("prediction_score_expected", OF_VERSION), f"{VERSION} in validation"),
            ),
        ),
        Panel(
            "Spread of scores",
            "Quantiles: a model that answers the same for all has them together.",
            "score",
            tuple(
                Shown(Quantile(share, f"prediction_score_bucket{{{REAL}}}"), f"{{{{model_name}}}} p{share * 100:g}")
                for share in (0.1, 0.5, 0.9)
            ),
        ),
        Panel(
            "Missing features",
            "Share of looked-up entities that lack a feature, or have one that is too old.",
            "share",
            (
                Shown(
                    Ratio(
                        Rate("online_features_missing_total", ("model_name", "feature")),
                        Rate("online_features_entities_total"),
                    ),
                    "{{feature}}",
                ),
            ),
        ),
        Panel(
            "Age of the online store",
            "Since the moment as of which it was filled.",
            "s",
            (Shown(Age(Newest("online_features_as_of_seconds")), "{{model_name}}"),),
            figure=True,
        ),
        Panel(
            "Age of the model",
            "Since the newest snapshot that it learned from.",
            "s",
            (Shown(Age(Newest("model_learned_until_seconds", OF_VERSION)), VERSION),),
            figure=True,
        ),
        Panel(
            "Last good run",
            "Since each pipeline last ran to a good end.",
            "s",
            (
                Shown(
                    Age(Newest('lifecycle_run_finished_seconds{state="done"}', ("project", "pipeline"))),
                    "{{project}} {{pipeline}}",
                ),
            ),
            figure=True,
        ),
    ),
)

BUSINESS = Dashboard(
    "business",
    "Business",
    "What is done with the predictions, and what became of those they were about.",
    (
        Panel(
            "Acted on",
            "Share of predictions at or above the model's threshold.",
            "share",
            (
                Shown(
                    Share(
                        Rate(f'prediction_decisions_total{{{REAL},decision="true"}}', OF_VERSION),
                        Rate(f"prediction_decisions_total{{{REAL}}}", OF_VERSION),
                    ),
                    VERSION,
                ),
            ),
        ),
        Panel(
            "What monitoring measured",
            "The key figures of the newest monitoring run: outcomes observed and expected, performance, what drifted.",
            "number",
            (Shown(Newest("lifecycle_monitoring", ("project", "figure")), "{{project}} {{figure}}"),),
            figure=True,
        ),
        Panel(
            "Releases",
            "Since each kind of release event.",
            "s",
            (Shown(Age(Newest("lifecycle_release_seconds", ("model_name", "outcome"))), "{{model_name}} {{outcome}}"),),
            figure=True,
        ),
    ),
)

DASHBOARDS = (SERVICE, MODEL, BUSINESS)
