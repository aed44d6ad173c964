"""`lifecycle alerts`: the alerting rules on a project's models, for whoever judges them."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfp_lifecycle.cli.console import Project, Settings, project_folder

if TYPE_CHECKING:
    from kfp_lifecycle.config.configuration import Configuration

RULES_FILE = "rules.yaml"


class Reader(StrEnum):
    """Who reads what is written."""

    prometheus = "prometheus"
    scrape = "scrape"
    operator = "operator"
    alertmanager = "alertmanager"
    alertmanager_operator = "alertmanager-operator"
    cloud_monitoring = "cloud-monitoring"


def alerts(
    reader: Annotated[
        Reader,
        typer.Option(
            "--for",
            help="`prometheus`: a file for its `rule_files`. `scrape`: a whole `prometheus.yml` for this machine, "
            f"which reads `{RULES_FILE}`, servers, fronts and `lifecycle dashboard`. `operator`: a PrometheusRule for "
            "`kubectl apply`. `alertmanager`: the `inhibit_rules` of its configuration, so that one cause is told "
            "once; `alertmanager-operator`: an AlertmanagerConfig with these and a webhook. `cloud-monitoring`: alert "
            "policies on Vertex AI's endpoints and recurring monitoring, a document each.",
        ),
    ] = Reader.prometheus,
    project: Project = None,
    settings: Settings = None,
) -> None:
    """Write Prometheus's alerting rules on models and recurring runs, with the thresholds of `alerts` in pipeline.yaml.

    What each alert means and what to do stands in docs/alerts.md.

    Example: `lifecycle alerts > rules.yaml && promtool check rules rules.yaml`

    Example: `lifecycle alerts --for scrape > prometheus.yml && promtool check config prometheus.yml`

    Example: `lifecycle alerts --for operator | kubectl apply --namespace churn -f -`

    Example: `lifecycle alerts --for cloud-monitoring > policies.yaml`

    Exit codes: 0 written, 2 the project is wrong.
    """
    import yaml

    from kfp_lifecycle.config.loading import load_configuration

    configuration = load_configuration(project_folder(project), settings or [])
    written = _written(reader, configuration)
    sys.stdout.write(yaml.safe_dump_all(written, sort_keys=False, allow_unicode=True, width=1000))


def _written(reader: Reader, configuration: Configuration) -> list[dict[str, Any]]:
    """What a reader is given: documents, of which most take one."""
    # These are of no use to other commands, which are to begin at once.
    from kfp_lifecycle.monitoring.alert_resources import alertmanager_config, prometheus_rule
    from kfp_lifecycle.monitoring.alert_rules import alert_rules, inhibitions
    from kfp_lifecycle.monitoring.cloud_monitoring import alert_policies
    from kfp_lifecycle.monitoring.scrape_targets import prometheus_configuration

    thresholds = configuration.alerts
    match reader:
        case Reader.prometheus:
            return [alert_rules(thresholds)]
        case Reader.scrape:
            return [prometheus_configuration(RULES_FILE)]
        case Reader.operator:
            return [prometheus_rule(thresholds)]
        case Reader.alertmanager:
            return [{"inhibit_rules": inhibitions()}]
        case Reader.alertmanager_operator:
            return [alertmanager_config()]
        case Reader.cloud_monitoring:
            return alert_policies(thresholds, configuration.name, configuration.schedules.monitoring)
