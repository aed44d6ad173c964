"""Grafana dashboards from the panels, by Grafana's own SDK."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.common import GraphThresholdsStyleConfig, ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard as DashboardBuilder
from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.monitoring.dashboards.panels import DASHBOARDS, Dashboard, Panel

UNITS = {
    "ms": "ms",
    "s": "s",
    "share": "percentunit",
    "bytes": "bytes",
    "cores": "none",
    "per second": "reqps",
    "number": "none",
    "score": "none",
}
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 12, 8
BLUE, RED = "blue", "red"


def grafana_dashboards(alerts: Alerts) -> dict[str, dict[str, Any]]:
    """The dashboards' JSON models, by name.

    Args:
        alerts: The project's thresholds, which are drawn as lines.
    """
    return {dashboard.name: _dashboard(dashboard, alerts) for dashboard in DASHBOARDS}


def config_map(alerts: Alerts) -> dict[str, Any]:
    """A ConfigMap that Grafana's sidecar finds by its label (`grafana_dashboard`, as the charts of Grafana have it)."""
    files = {
        f"kfp-lifecycle-{name}.json": json.dumps(model, indent=1) + "\n"
        for name, model in grafana_dashboards(alerts).items()
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "grafana-dashboards", "labels": {"grafana_dashboard": "1"}},
        "data": files,
    }


def _dashboard(dashboard: Dashboard, alerts: Alerts) -> dict[str, Any]:
    builder = (
        DashboardBuilder(f"kfp-lifecycle: {dashboard.title}")
        .uid(f"kfp-lifecycle-{dashboard.name}")
        .description(dashboard.about)
        .tags(["kfp-lifecycle"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for panel in dashboard.panels:
        builder = builder.with_panel(_panel(panel, alerts))
    model: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(builder.build()))
    return model


def _panel(panel: Panel, alerts: Alerts) -> stat.Panel | timeseries.Panel:
    limit = float(getattr(alerts, panel.limit)) if panel.limit else None
    steps = [Threshold(value=None, color=BLUE)]
    if limit is not None:
        steps.append(Threshold(value=limit, color=RED))
    thresholds = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    if panel.figure:
        built: stat.Panel | timeseries.Panel = stat.Panel().reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        built = timeseries.Panel().fill_opacity(5).show_points(VisibilityMode.NEVER).min(0)
        if limit is not None:
            built = built.thresholds_style(GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE))
    built = (
        built.title(panel.title)
        .description(panel.about)
        .datasource(DATASOURCE)
        .unit(UNITS[panel.unit])
        .thresholds(thresholds)
        .span(WIDTH)
        .height(HEIGHT)
    )
    for place, shown in enumerate(panel.shown):
        query = Dataquery().ref_id(chr(ord("A") + place)).expr(shown.query.promql("$__rate_interval"))
        built = built.with_target(query.legend_format(shown.legend).datasource(DATASOURCE).range())
    return built
