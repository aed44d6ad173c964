"""Alerting as resources of a cluster: a PrometheusRule and an AlertmanagerConfig, for the Prometheus operator."""

from __future__ import annotations

import re
from typing import Any

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.alert_rules import CRITICAL, GROUP, WARNING, alert_rules, inhibitions

# The secret that holds the address of a webhook under this key.
WEBHOOK_SECRET, WEBHOOK_KEY = "alert-webhook", "url"
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"(.*)"')


def prometheus_rule(alerts: Alerts) -> dict[str, Any]:
    """The rules, for the operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": GROUP},
        "spec": alert_rules(alerts),
    }


def alertmanager_config() -> dict[str, Any]:
    """Who is told, and what of one cause is told once, for the operator.

    By default the operator takes alerts alone that name its namespace, which those of models do not: its Alertmanager
    needs `alertmanagerConfigMatcherStrategy: {type: None}`, or its Prometheus `enforcedNamespaceLabel: namespace`.
    """
    told = {"name": "severity", "matchType": "=~", "value": f"{WARNING}|{CRITICAL}"}
    secret = {"name": WEBHOOK_SECRET, "key": WEBHOOK_KEY}
    return {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "AlertmanagerConfig",
        "metadata": {"name": GROUP},
        "spec": {
            "route": {
                "receiver": "team",
                "matchers": [told],
                "groupBy": ["alertname", "model_name", "project"],
                "groupWait": "30s",
                "groupInterval": "5m",
                "repeatInterval": "12h",
            },
            "receivers": [{"name": "team", "webhookConfigs": [{"urlSecret": secret, "sendResolved": True}]}],
            "inhibitRules": [
                {
                    "sourceMatch": [_matcher(text) for text in rule["source_matchers"]],
                    "targetMatch": [_matcher(text) for text in rule["target_matchers"]],
                    **({"equal": rule["equal"]} if "equal" in rule else {}),
                }
                for rule in inhibitions()
            ],
        },
    }


def _matcher(text: str) -> dict[str, str]:
    """As the operator has it: `alertname=~"A|B"` in three parts."""
    parts = _MATCHER.fullmatch(text)
    assert parts is not None, text
    return {"name": parts[1], "matchType": parts[2], "value": parts[3]}
