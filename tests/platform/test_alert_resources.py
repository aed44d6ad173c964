"""`lifecycle alerts` for clusters: the Prometheus operator's resources, and policies of Cloud Monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.monitoring.alert_rules import inhibitions

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
    limits = {name: policy["conditions"][0]["conditionThreshold"] for name, policy in policies.items()}
    assert {name: (limit["comparison"], limit["thresholdValue"]) for name, limit in limits.items()} == {
        "kfp-lifecycle PredictionsSlow": ("COMPARISON_GT", 250),
        "kfp-lifecycle PredictionsFailing": ("COMPARISON_GT", 0.01),
        "kfp-lifecycle PredictionsFew": ("COMPARISON_LT", 2),
    }
    for policy in policies.values():
        assert "docs/alerts.md#predictions" in policy["documentation"]["content"]
        assert policy["severity"] in ("WARNING", "CRITICAL")
