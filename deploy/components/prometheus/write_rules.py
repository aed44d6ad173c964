"""Write rules.yaml, the PrometheusRule of monitoring/alerts.yaml, which is where the rules are kept."""

from __future__ import annotations

from pathlib import Path

import yaml

ALERTS = Path(__file__).resolve().parents[3] / "monitoring" / "alerts.yaml"
RULES = Path(__file__).with_name("rules.yaml")


def prometheus_rule() -> str:
    """The rules as an object of the Prometheus operator, whose specification is Prometheus's own file."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "kfp-lifecycle"},
        "spec": yaml.safe_load(ALERTS.read_text("utf-8")),
    }
    said = "# Written by write_rules.py from monitoring/alerts.yaml: change that one.\n"
    return said + yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=1000)


if __name__ == "__main__":
    RULES.write_text(prometheus_rule(), "utf-8")
