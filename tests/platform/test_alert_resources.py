"""`lifecycle alerts` for clusters: the Prometheus operator's resources, and policies of Cloud Monitoring."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.monitoring.alert_rules import inhibitions
from kfp_lifecycle.monitoring.cloud_monitoring import FINISHED, alert_policies, longest_pause

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / ".lifecycle" / "go" / "monitoring.coreos.com_alertmanagerconfigs.yaml"


def told(*words: str) -> list[Any]:
    """The documents that `lifecycle alerts …` writes for this project."""
    done = CliRunner().invoke(app, ["alerts", "--project", str(ROOT), *words])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_what_the_operator_is_told_is_what_alertmanager_is() -> None:
    """Against the operator's own definition, where `.ci/go/build` has put it."""
    (given,) = told("--for", "alertmanager-operator")
    texts = [
        f'{match["name"]}{match["matchType"]}"{match["value"]}"'
        for rule in given["spec"]["inhibitRules"]
        for match in (*rule["sourceMatch"], *rule["targetMatch"])
    ]
    expected = inhibitions()
    assert texts == [text for rule in expected for text in (*rule["source_matchers"], *rule["target_matchers"])]
    if not OPERATOR.exists():
        pytest.skip(f"the Prometheus operator's definition is not here: {OPERATOR} (.ci/go/build)")
    (version,) = yaml.load(OPERATOR.read_text("utf-8"), Definitions)["spec"]["versions"]
    # It is not checked itself: some of its patterns are Go's.
    schema = jsonschema.Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))
    schema.validate(given)
    given["spec"]["route"]["groupby"] = given["spec"]["route"].pop("groupBy")
    with pytest.raises(jsonschema.ValidationError, match="groupby"):
        schema.validate(given)


class Definitions(yaml.CSafeLoader):
    """Reads `=` as the text that Kubernetes takes it for."""


Definitions.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def closed(schema: Any) -> Any:
    """A definition's schema that takes no other fields than it names, as `kubectl apply --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    # `metadata` is every object's, and not the definition's to describe.
    return {**parts, "additionalProperties": False} if schema.get("properties") else parts


def test_vertex_is_told_of_what_it_counts_itself_with_the_projects_limits() -> None:
    words = ("--set", "alerts.max_latency_p95_ms=250", "--set", "alerts.min_predictions_per_second=2")
    policies = {policy["displayName"]: policy for policy in told("--for", "cloud-monitoring", *words)}
    conditions = {name: policy["conditions"][0] for name, policy in policies.items()}
    limits = {name: told["conditionThreshold"] for name, told in conditions.items() if "conditionThreshold" in told}
    assert {name: (limit["comparison"], limit["thresholdValue"]) for name, limit in limits.items()} == {
        "kfp-lifecycle PredictionsSlow": ("COMPARISON_GT", 250),
        "kfp-lifecycle PredictionsFailing": ("COMPARISON_GT", 0.01),
        "kfp-lifecycle PredictionsFew": ("COMPARISON_LT", 2),
    }
    for policy in policies.values():
        name = policy["displayName"].removeprefix("kfp-lifecycle ")
        assert f"docs/alerts.md#{name.lower()}" in policy["documentation"]["content"]
        assert policy["severity"] in ("WARNING", "CRITICAL")


def test_vertex_is_told_of_a_monitoring_run_that_did_not_happen_by_the_projects_schedule() -> None:
    def missed(*settings: str) -> list[str]:
        words = [word for setting in settings for word in ("--set", setting)]
        policies = told("--for", "cloud-monitoring", *words)
        conditions = [policy["conditions"][0].get("conditionPrometheusQueryLanguage") for policy in policies]
        return [condition["query"] for condition in conditions if condition]

    runs = 'custom_googleapis_com:lifecycle_run_finished_seconds{project="churn",pipeline="monitoring",state="done"}'
    newest = f"time() - max by (project) (max_over_time({runs}[92d]))"
    assert missed() == [f"{newest} > {30 * 3600}"]
    assert missed("schedules.monitoring=0 6 * * 1", "alerts.max_monitoring_delay_hours=1") == [
        f"{newest} > {169 * 3600}"
    ]
    assert missed("schedules.monitoring=null") == []


@pytest.mark.parametrize(
    ("cron", "zone", "hours"),
    [
        ("0 6 * * 1-5", "UTC", 72),
        ("0 6 * * *", "Europe/Berlin", 25),
        ("0 6 1 * *", "UTC", 31 * 24),
        ("0 6 29 2 *", "UTC", 731 * 24),
    ],
)
def test_a_schedules_longest_pause_is_what_clocks_and_calendars_make_of_it(cron: str, zone: str, hours: int) -> None:
    assert longest_pause(Schedule(cron=cron, zone=zone)) == timedelta(hours=hours)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_the_query_about_a_missed_run_is_quiet_fires_and_ends_in_a_real_prometheus(tmp_path: Path) -> None:
    """Cloud Monitoring's PromQL is Prometheus's; the series are those that `notify` writes, a point a run."""
    (condition,) = [
        condition
        for policy in alert_policies(Alerts(), "churn", Schedule(cron="0 6 * * *"))
        if (condition := policy["conditions"][0].get("conditionPrometheusQueryLanguage"))
    ]
    rule = {"alert": condition["alertRule"], "expr": condition["query"]}
    labels = {"project": "churn", "pipeline": "monitoring", "state": "done"}
    series = f"{FINISHED}{{{','.join(f'{key}={value!r}' for key, value in labels.items())}}}".replace("'", '"')
    other = series.replace("churn", "cdnow")
    # A day's run at its beginning; the third day's is missed; it is made up for 40 hours after the second.
    runs = {series: "0 _x23 86400 _x39 230400 _x20", other: "_x80"}
    raised = {"exp_labels": {"project": "churn"}}
    hours: dict[int, list[Any]] = {1: [], 53: [], 55: [raised], 63: [raised], 65: [], 80: []}
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1h",
        "tests": [
            {
                "interval": "1h",
                "input_series": [{"series": name, "values": values} for name, values in runs.items()],
                "alert_rule_test": [
                    {"eval_time": f"{hour}h", "alertname": "MonitoringMissed", "exp_alerts": alerts}
                    for hour, alerts in hours.items()
                ],
            }
        ],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "missed", "rules": [rule]}]}), "utf-8")
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests), "utf-8")
    tried = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
