"""Prometheus alerting rules on a project's models and their recurring runs, with the project's thresholds.

Drift is not among them: the monitoring pipeline decides it, since it takes the baseline and a test to tell it from
chance. That it did not run is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.dashboards.panels import (
    FRONT_FAILURES,
    PREDICTIONS,
    REAL,
    SERVER_FAILURES,
    latency_ms,
)
from kfp_lifecycle.monitoring.scrape_targets import OWN, SERVERS

GROUP = "kfp-lifecycle"
WARNING, CRITICAL = "warning", "critical"
# What each alert means and what to do is written there, under its name.
RUNBOOK = "docs/alerts.md"
HOUR, DAY = 3600, 86_400
UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True)
class Pace:
    """How long the rules look back and wait: a minute takes a minute, or less where a rehearsal is to see them end."""

    minute_seconds: float = 60.0

    def span(self, minutes: float) -> str:
        """So many minutes as Prometheus writes a duration, in the largest unit that divides it."""
        milliseconds = round(self.seconds(minutes) * 1000)
        unit, size = next((unit, size) for unit, size in UNITS_MS.items() if milliseconds % size == 0)
        return f"{milliseconds // size}{unit}"

    def seconds(self, minutes: float) -> float:
        """So many minutes."""
        return minutes * self.minute_seconds


AS_WRITTEN = Pace()


def alert_rules(alerts: Alerts, pace: Pace = AS_WRITTEN) -> dict[str, Any]:
    """A Prometheus rules file.

    Args:
        alerts: The project's thresholds.
        pace: How long the rules look back and wait.

    Returns:
        `groups` as Prometheus reads them, and a PrometheusRule's `spec`; a rule whose threshold is 0 is left out.
    """
    rules = [
        _server_down(pace),
        _slow(alerts, pace),
        _failing(alerts, pace),
        *_few(alerts, pace),
        _scores_moved(alerts, pace),
        *_model_stale(alerts, pace),
        _log_incomplete(pace),
        *_store(alerts, pace),
        _monitoring_missed(alerts),
        _rolled_back(pace),
        _dashboard_down(pace),
    ]
    for rule in rules:
        rule["annotations"]["runbook_url"] = f"{alerts.runbook_url}#{rule['alert'].lower()}"
    return {"groups": [{"name": GROUP, "rules": rules}]}


def inhibitions() -> list[dict[str, Any]]:
    """Alertmanager's inhibition rules: one cause is told once, and not by all that it brings about."""
    return [
        {
            "source_matchers": ['alertname="ModelServerDown"'],
            "target_matchers": ['alertname=~"Predictions.*|ScoresMoved|OnlineFeature.*"'],
            "equal": ["model_name"],
        },
        {
            "source_matchers": ['alertname="PredictionsFailing"'],
            "target_matchers": ['alertname=~"PredictionsSlow|PredictionsFew"'],
            "equal": ["model_name"],
        },
        {
            "source_matchers": ['alertname="OnlineFeaturesExpired"'],
            "target_matchers": ['alertname=~"OnlineFeaturesStale|OnlineFeatureMissing"'],
            "equal": ["model_name"],
        },
        {
            "source_matchers": ['alertname="DashboardDown"'],
            "target_matchers": ['alertname=~"MonitoringMissed|ReleaseRolledBack"'],
        },
    ]


def _rule(name: str, severity: str, expression: str, wait: str, summary: str, description: str) -> dict[str, Any]:
    waits = {"for": wait} if wait else {}
    return {
        "alert": name,
        "expr": " ".join(expression.split()),
        **waits,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _server_down(pace: Pace) -> dict[str, Any]:
    return _rule(
        "ModelServerDown",
        CRITICAL,
        f"""max by (model_name) (up{{job="{SERVERS}",model_name!=""}}) == 0
        or count by (model_name) (last_over_time(prediction_score_expected[{pace.span(60)}]))
        unless count by (model_name) (prediction_score_expected)""",
        pace.span(2),
        "No server of {{ $labels.model_name }} answers Prometheus",
        "It was there within the last hour, or should be by what is released. Look whether its servers run and whether "
        "Prometheus reaches them.",
    )


def _slow(alerts: Alerts, pace: Pace) -> dict[str, Any]:
    return _rule(
        "PredictionsSlow",
        WARNING,
        f"({latency_ms(0.95).promql(pace.span(5))}) > {alerts.max_latency_p95_ms:g}",
        pace.span(5),
        "{{ $labels.model_name }} answers slowly",
        f"One request in twenty takes longer than {alerts.max_latency_p95_ms:g} ms. Look at the load and the number of "
        "replicas.",
    )


def _failing(alerts: Alerts, pace: Pace) -> dict[str, Any]:
    limit, window = f"> {alerts.max_error_rate:g}", pace.span(5)
    return _rule(
        "PredictionsFailing",
        CRITICAL,
        f"({FRONT_FAILURES.promql(window)}) {limit} or ({SERVER_FAILURES.promql(window)}) {limit}",
        window,
        "{{ $labels.model_name }} fails",
        f"More than {alerts.max_error_rate * 100:g}% of its answers are failures of its own. Look at its log; "
        "if it began with a release, roll back with `lifecycle rollback`.",
    )


def _few(alerts: Alerts, pace: Pace) -> list[dict[str, Any]]:
    if not alerts.min_predictions_per_second:
        return []
    return [
        _rule(
            "PredictionsFew",
            WARNING,
            f"{PREDICTIONS.promql(pace.span(5))} < {alerts.min_predictions_per_second:g}",
            pace.span(5),
            "{{ $labels.model_name }} is asked little",
            f"Fewer than {alerts.min_predictions_per_second:g} predictions a second. Look at the route and at the "
            "callers; where that many are usual at this hour, lower alerts.min_predictions_per_second.",
        )
    ]


def _scores_moved(alerts: Alerts, pace: Pace) -> dict[str, Any]:
    of_version, window = "sum by (model_name, model_version)", pace.span(30)
    return _rule(
        "ScoresMoved",
        WARNING,
        f"""abs(
          {of_version} (increase(prediction_score_sum{{{REAL}}}[{window}]))
          / {of_version} (increase(prediction_score_count{{{REAL}}}[{window}]))
          / max by (model_name, model_version) (prediction_score_expected) - 1
        ) > {alerts.max_score_change:g}
        and {of_version} (increase(prediction_score_count{{{REAL}}}[{window}])) >= {alerts.min_window}""",
        window,
        "Scores of {{ $labels.model_name }} version {{ $labels.model_version }} have moved",
        f"Their mean is more than {alerts.max_score_change:.0%} from that of the model's validation part. Run the "
        "monitoring pipeline: it tells what moved.",
    )


def _model_stale(alerts: Alerts, pace: Pace) -> list[dict[str, Any]]:
    if not alerts.max_model_age_days:
        return []
    return [
        _rule(
            "ModelStale",
            WARNING,
            f"time() - max by (model_name) (model_learned_until_seconds) > {alerts.max_model_age_days * DAY:g}",
            pace.span(60),
            "{{ $labels.model_name }} has not learned for long",
            f"What happened in the last {alerts.max_model_age_days:g} days it has not seen. Train it again, with data "
            "that is newer.",
        )
    ]


def _log_incomplete(pace: Pace) -> dict[str, Any]:
    return _rule(
        "PredictionLogIncomplete",
        WARNING,
        f"sum by (model_name, model_version) (increase(prediction_log_dropped_total[{pace.span(15)}])) > 0",
        "",
        "Predictions of {{ $labels.model_name }} version {{ $labels.model_version }} are not logged",
        "Monitoring does not see them. Look at the disk of the prediction log: full, slow or not writable.",
    )


def _store(alerts: Alerts, pace: Pace) -> list[dict[str, Any]]:
    hour, week = pace.span(60), pace.span(7 * 24 * 60)
    missing = "sum by (model_name, feature) (rate(online_features_missing_total[{0}])) "
    missing += "/ on (model_name) group_left () sum by (model_name) (rate(online_features_entities_total[{0}]))"
    return [
        _rule(
            "OnlineFeaturesStale",
            WARNING,
            "time() - online_features_as_of_seconds > 0.5 * online_features_freshness_seconds",
            pace.span(30),
            "The online store that {{ $labels.instance }} reads was not filled for too long",
            "More than half of features.freshness_days has passed; after all of it every stored feature is missing. "
            "Look at the recurring materialization pipeline.",
        ),
        _rule(
            "OnlineFeaturesExpired",
            CRITICAL,
            "time() - online_features_as_of_seconds > online_features_freshness_seconds",
            "",
            "All stored features are missing for {{ $labels.instance }}",
            "The online store was not filled within features.freshness_days: requests with a key alone are scored "
            "without features. Run the materialization pipeline.",
        ),
        _rule(
            "OnlineFeatureMissing",
            WARNING,
            f"""{missing.format(hour)} - {missing.format(week)} > {alerts.max_missing_rise:g}
            and on (model_name)
            sum by (model_name) (increase(online_features_entities_total[{hour}])) >= {alerts.min_window}""",
            pace.span(30),
            "{{ $labels.feature }} is missing more often than it was",
            f"Its share of missing values in the last hour is more than {alerts.max_missing_rise:g} above that of the "
            "last week. Look at the view's tables (online_features_newest_row_seconds) and at which entities are asked "
            "for.",
        ),
    ]


def _monitoring_missed(alerts: Alerts) -> dict[str, Any]:
    return _rule(
        "MonitoringMissed",
        WARNING,
        f"""time() - max by (project) (lifecycle_run_overdue_since_seconds{{pipeline="monitoring"}})
        > {alerts.max_monitoring_delay_hours * HOUR:g}""",
        "",
        "{{ $labels.project }} is not monitored",
        "The monitoring pipeline was due by its schedule and has not run to a good end since. Look at `lifecycle runs` "
        "and `lifecycle schedule list`.",
    )


def _rolled_back(pace: Pace) -> dict[str, Any]:
    return _rule(
        "ReleaseRolledBack",
        WARNING,
        f"""time() - max by (model_name) (lifecycle_release_seconds{{outcome=~"rolled back|returned"}})
        < {pace.seconds(60):g}""",
        "",
        "A release of {{ $labels.model_name }} was rolled back",
        "All traffic is with the version from before. Look at `lifecycle releases`: it says why, and on what evidence.",
    )


def _dashboard_down(pace: Pace) -> dict[str, Any]:
    return _rule(
        "DashboardDown",
        WARNING,
        f'up{{job="{OWN}"}} == 0',
        pace.span(10),
        "Nobody tells Prometheus of runs and releases",
        "Missed monitoring runs and rollbacks would not be told. Start `lifecycle dashboard` again.",
    )
