"""Alert policies of Google's Cloud Monitoring on Vertex AI, with the project's thresholds.

Of the alerts those that Vertex AI counts itself: time to an answer, failures, predictions a second; and a monitoring
run that did not happen, by the metric that every run leaves at its end. What servers say at `/metrics` nobody reads
there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.monitoring.alert_rules import CRITICAL, GROUP, HOUR, WARNING, alert_rules
from kfp_lifecycle.runtime.states import RUN_FINISHED, RunState

ONLINE = "aiplatform.googleapis.com/prediction/online"
ENDPOINT = "resource.label.endpoint_id"
PERIOD = "300s"
# How PromQL names a metric of one's own there.
FINISHED = f"custom_googleapis_com:{RUN_FINISHED}"
# A run that ended longer ago is not found: an incident that nobody attended to ends by then.
LOOKED_BACK = timedelta(days=92)
# Long enough that every schedule shows its longest pause, a leap day and both changes of clocks among them.
YEARS = datetime(2027, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


def alert_policies(alerts: Alerts, project: str, monitoring: Schedule | None) -> list[dict[str, Any]]:
    """Policies, each for `gcloud monitoring policies create --policy-from-file`; one incident for each endpoint.

    Args:
        alerts: The project's thresholds.
        project: Its name, which runs on Vertex AI carry as a label.
        monitoring: When it is monitored; without a schedule no run is missed.
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
    conditions = {"PredictionsSlow": _threshold(slow), "PredictionsFailing": _threshold(failing)}
    if alerts.min_predictions_per_second:
        conditions["PredictionsFew"] = _threshold(few)
    if monitoring is not None:
        conditions["MonitoringMissed"] = _missed(alerts, project, monitoring)
    rules = {rule["alert"]: rule for rule in alert_rules(alerts)["groups"][0]["rules"]}
    return [_policy(rules[name], condition) for name, condition in conditions.items()]


def _missed(alerts: Alerts, project: str, schedule: Schedule) -> dict[str, Any]:
    """No run of monitoring came to a good end for longer than its schedule ever pauses.

    By PromQL, which alone looks back further than a day: an absence may last 23.5 hours there, a period and its
    duration 25 together, and metrics made of logs are refused to PromQL beyond these 25, too. Nothing is told of a
    project that was never monitored.
    """
    limit = longest_pause(schedule) + timedelta(hours=alerts.max_monitoring_delay_hours)
    runs = f'{FINISHED}{{project="{project}",pipeline="monitoring",state="{RunState.done}"}}'
    looked_back = max(LOOKED_BACK, 3 * limit)
    query = f"time() - max by (project) (max_over_time({runs}[{looked_back.days}d])) > {limit.total_seconds():.0f}"
    return {
        "conditionPrometheusQueryLanguage": {
            "query": query,
            "duration": "0s",
            "evaluationInterval": f"{HOUR // 4}s",
            "ruleGroup": GROUP,
            "alertRule": "MonitoringMissed",
            # The metric is there with the first run that ends.
            "disableMetricValidation": True,
        }
    }


def longest_pause(schedule: Schedule) -> timedelta:
    """The longest time between two moments at which a pipeline is due; two years where it is due once or never."""
    first, last = YEARS
    due = schedule.between(first, last)
    return max((later - sooner for sooner, later in pairwise(due)), default=last - first)


def _threshold(condition: dict[str, Any]) -> dict[str, Any]:
    return {"conditionThreshold": condition}


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
        "conditions": [{"displayName": rule["alert"], **condition}],
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
