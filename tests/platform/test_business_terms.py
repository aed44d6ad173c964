"""Business metrics are read before anything runs: what is wrong with one is told with the columns there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfp_lifecycle.compilation.definitions import read_definitions
from kfp_lifecycle.config.business import BusinessMetric
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.monitoring.business_terms import DEFAULTS, known_columns, metrics_of, problems
from kfp_lifecycle.projects.lacks import lacks_of_files
from kfp_lifecycle.runtime.closure import ROOT

COLUMNS = known_columns(ROOT / "expectations")


def measuring(**metrics: BusinessMetric) -> Configuration:
    settings = load_configuration(ROOT)
    return settings.model_copy(update={"monitoring": settings.monitoring.model_copy(update={"business": metrics})})


@pytest.mark.parametrize(
    "value",
    [
        "outcome * saved",
        "decision AND NOT coalesce(hold_out, false)",
        "CASE WHEN score >= 0.5 THEN -action END",
        "customers.region = 'north'",
        "(SELECT count(*) FROM logins WHERE logins.customer_id::VARCHAR = entity AND logged_in_at > time)",
        "EXISTS (SELECT 1 FROM purchases AS p WHERE p.customer_id::VARCHAR = entity AND p.purchased_at <= horizon_end)",
        "(WITH found AS (SELECT * FROM logins) SELECT count(*) FROM found)",
    ],
)
def test_an_expression_of_one_prediction_is_taken(value: str) -> None:
    assert problems(measuring(metric=BusinessMetric(value=value, where=value)), COLUMNS) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("decison", "names decison, which is no column here; there are score, decision, .*Is decision meant"),
        ("customers.regon = 'n'", "customers.regon, which is no column here; there are .*Is customers.region meant"),
        ("logins.device = 'tv'", "no one row for each customer_id: write a query in parentheses.*customers, cancel"),
        ("truth.probability", "of truth there is no one row for each customer_id"),
        ("(SELECT count(*) FROM loginz)", "reads the table loginz; there are customers, subscriptions"),
        ("EXISTS (SELECT 1 FROM purchases WHERE purchesed_at > time)", "Is purchased_at meant"),
        ("sum(outcome)", r"adds up over rows \(SUM\(outcome\)\)"),
        ("now() > time", "is another value at another time"),
        ("outcome *", "is no expression of DuckDB's SQL"),
        ("SELECT 1", "is no value of one prediction"),
    ],
)
def test_what_is_wrong_with_an_expression_is_told_with_the_columns_there_are(value: str, told: str) -> None:
    configuration = measuring(metric=BusinessMetric(value="outcome", where=value))
    [(where, _)] = problems(configuration, COLUMNS)
    assert where == "monitoring.business.metric.where"
    with pytest.raises(ConfigurationError, match=told):
        read_definitions(ROOT, configuration)


def test_columns_that_nobody_knows_yet_are_left_to_the_run() -> None:
    metric = BusinessMetric(value="customers.anything", where="(SELECT any_thing FROM logins LIMIT 1) > 0")
    assert problems(measuring(metric=metric), {}) == []


def test_the_defaults_are_right_and_are_replaced_by_name() -> None:
    assert problems(measuring(**DEFAULTS), COLUMNS) == []
    own = BusinessMetric(value="outcome * 3", unit="money")
    metrics = metrics_of(measuring(value=own, tripled=own))
    assert [*metrics] == ["acted_upon", "events_where_acted", "events_where_not", "value", "tripled"]
    assert metrics["value"] == metrics["tripled"] == own


def test_check_tells_of_it(tmp_path: Path) -> None:
    text = (ROOT / "pipeline.yaml").read_text("utf-8")
    (tmp_path / "pipeline.yaml").write_text(f"{text}\nmonitoring: {{business: {{lost: {{value: outcom}}}}}}\n", "utf-8")
    for folder in ("feature_repo", "expectations"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    [lack], _ = lacks_of_files(tmp_path, "")
    assert "monitoring.business.lost.value: 'outcom' names outcom, which is no column here" in lack.what
