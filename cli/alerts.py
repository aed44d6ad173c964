"""`lifecycle alerts`: the Prometheus rules on a project's model servers, for whoever runs Prometheus."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml

from kfp_lifecycle.cli.console import Project, Settings, project_folder, refuse
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.monitoring.alert_rules import GROUP, alert_rules, inhibitions


class Reader(StrEnum):
    """Who reads the rules."""

    prometheus = "prometheus"
    operator = "operator"
    alertmanager = "alertmanager"


def alerts(
    reader: Annotated[
        Reader,
        typer.Option(
            "--for",
            help="`prometheus`: a file for its `rule_files`. `operator`: a PrometheusRule for `kubectl apply`. "
            "`alertmanager`: the `inhibit_rules` of its configuration, so that one cause is told once.",
        ),
    ] = Reader.prometheus,
    project: Project = None,
    settings: Settings = None,
) -> None:
    """Write Prometheus's alerting rules on what the model servers expose, with the thresholds of `alerts` in
    pipeline.yaml.

    What each alert means and what to do stands in docs/alerts.md.

    Example: `lifecycle alerts > rules.yaml && promtool check rules rules.yaml`

    Example: `lifecycle alerts --for operator | kubectl apply --namespace churn -f -`

    Exit codes: 0 written, 2 the project is wrong.
    """
    try:
        thresholds = load_configuration(project_folder(project), settings or []).alerts
    except ConfigurationError as error:
        refuse(str(error))
    written: dict[str, Any] = alert_rules(thresholds)
    if reader is Reader.operator:
        written = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": GROUP},
            "spec": written,
        }
    elif reader is Reader.alertmanager:
        written = {"inhibit_rules": inhibitions()}
    sys.stdout.write(yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=1000))
