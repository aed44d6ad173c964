"""Alert policies of Google's Cloud Monitoring on Vertex AI's endpoints, with the project's thresholds.

Of the alerts those that Vertex AI counts itself: time to an answer, failures, predictions a second. What servers say at
`/metrics` nobody reads there.
"""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.alert_rules import CRITICAL, WARNING, alert_rules

ONLINE = "aiplatform.googleapis.com/prediction/online"
ENDPOINT = "resource.label.endpoint_id"
PERIOD = "300s"


def alert_policies(alerts: Alerts) -> list[dict[str, Any]]:
    """Policies, each for `gcloud monitoring policies create --policy-from-file`; one incident for each endpoint.

    Args:
        alerts: The project's thresholds.
    """
    slow = {
        "filter": f'{_metric("prediction_latencies")} AND metric.label.latency_type = "total"',
        "aggregations": [_aggregation("ALIGN_DELTA", "REDUCE_PERCENTILE_95")],
        "comparison": "COMPARISON_GT",
        "thresholdValue": alerts.max_latency_p95_ms,
        "duration": PERIOD,
        "trigger": {"count": 1},
    }
    failing = {
        "filter": _metric("error_count"),
        "aggregations": [_aggregation("ALIGN_RATE", "REDUCE_SUM")],
        "denominatorFilter": _metric("response_count"),
        "denominatorAggregations": [_aggregation("ALIGN_RATE", "REDUCE_SUM")],
        "comparison": "COMPARISON_GT",
        "thresholdValue": alerts.max_error_rate,
        "duration": PERIOD,
        "trigger": {"count": 1},
    }
    few = {
        "filter": _metric("prediction_count"),
        "aggregations": [_aggregation("ALIGN_RATE", "REDUCE_SUM")],
        "comparison": "COMPARISON_LT",
        "thresholdValue": alerts.min_predictions_per_second,
        "duration": PERIOD,
        "trigger": {"count": 1},
        # An endpoint of which nothing is heard is asked little, too.
        "evaluationMissingData": "EVALUATION_MISSING_DATA_ACTIVE",
    }
    conditions = {"PredictionsSlow": slow, "PredictionsFailing": failing}
    if alerts.min_predictions_per_second:
        conditions["PredictionsFew"] = few
    rules = {rule["alert"]: rule for rule in alert_rules(alerts)["groups"][0]["rules"]}
    return [_policy(rules[name], condition) for name, condition in conditions.items()]


def _policy(rule: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    told = rule["annotations"]
    return {
        "displayName": f"kfp-lifecycle {rule['alert']}",
        "combiner": "OR",
        "severity": {WARNING: "WARNING", CRITICAL: "CRITICAL"}[rule["labels"]["severity"]],
        "documentation": {
            "content": f"{told['description']}\n\nWhat to do: {told['runbook_url']}",
            "mimeType": "text/markdown",
        },
        "conditions": [{"displayName": rule["alert"], "conditionThreshold": condition}],
    }


def _metric(name: str) -> str:
    return f'resource.type = "aiplatform.googleapis.com/Endpoint" AND metric.type = "{ONLINE}/{name}"'


def _aggregation(aligner: str, reducer: str) -> dict[str, Any]:
    return {
        "alignmentPeriod": PERIOD,
        "perSeriesAligner": aligner,
        "crossSeriesReducer": reducer,
        "groupByFields": [ENDPOINT],
    }
