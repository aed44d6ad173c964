"""`lifecycle add` writes into a project's files, remarks and all, only what can be read afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from command_line import ROOT

from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.projects.additions import add_feature, add_rule, add_schedule, add_source
from kfp_lifecycle.projects.place import Place


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "cdnow"
    shutil.copytree(ROOT / "examples" / "cdnow", copy, ignore=shutil.ignore_patterns("__pycache__", ".lifecycle"))
    return copy


def test_a_feature_gets_its_sql_its_definition_and_its_place_in_the_service(project: Path) -> None:
    query, definitions = add_feature(
        project, load_configuration(project), "purchases", "largest_purchase", "max(amount)", "Float64"
    )
    assert query.read_text() == (
        'SELECT\n    "customer_id",\n    max(amount) AS "largest_purchase"\nFROM "purchases"\nGROUP BY "customer_id"\n'
    )
    text = definitions.read_text()
    assert 'Field(name="largest_purchase", dtype=Float64)' in text
    service = text[text.index("FeatureService(", text.index("largest_purchase = ")) :]
    assert "largest_purchase" in service
    before = (ROOT / "examples" / "cdnow" / "feature_repo" / "features.py").read_text().splitlines()
    assert len(set(before) - set(text.splitlines())) == 1, "one line is another: the service's last"
    with pytest.raises(ConfigurationError, match="is there already"):
        add_feature(project, load_configuration(project), "purchases", "largest_purchase", "max(amount)", "Float64")


def test_a_rule_is_a_warning_with_a_remedy_behind_those_there_are(project: Path) -> None:
    before = yaml.safe_load((project / "expectations" / "rules.yaml").read_text())
    file = add_rule(project, load_configuration(project), "purchases", 'no "free" CDs', "SELECT 1 WHERE false", "")
    *same, added = yaml.safe_load(file.read_text())
    assert same == before
    assert (added["rule"], added["severity"]) == ('no "free" CDs', "warning")
    with pytest.raises(ConfigurationError, match=r"source\.tables has no orders; it has purchases"):
        add_rule(project, load_configuration(project), "orders", "none", "", "")


def test_the_first_rule_takes_the_place_of_the_empty_list(project: Path) -> None:
    (project / "expectations" / "rules.yaml").write_text("# none yet\n[]\n")
    file = add_rule(project, load_configuration(project), "purchases", "first", "", "")
    assert file.read_text().startswith("# none yet\n\n- table:")
    assert len(yaml.safe_load(file.read_text())) == 1


def test_a_table_and_a_schedule_come_into_the_configuration_and_its_remarks_stay(project: Path) -> None:
    remarks = [line for line in (project / "pipeline.yaml").read_text().splitlines() if line.strip().startswith("#")]
    place = Place("/data/returns.csv", "", "returns")
    add_source(project, load_configuration(project), "returns", ["return_id"], "returned_at", place, {"decimal": ","})
    file = add_schedule(project, "training", "0 5 * * 1")
    written = load_configuration(project)
    assert written.source.tables["returns"].event_time == "returned_at"
    assert written.source.places()["returns"].decimal == ","
    assert written.schedules.training is not None
    assert written.schedules.training.cron == "0 5 * * 1"
    assert [line for line in file.read_text().splitlines() if line.strip().startswith("#")] == remarks
    with pytest.raises(ConfigurationError, match=r"schedules\.training is there already"):
        add_schedule(project, "training", "0 6 * * 1")


def test_what_cannot_be_read_afterwards_is_not_written(project: Path) -> None:
    before = (project / "pipeline.yaml").read_text()
    with pytest.raises(ConfigurationError, match="schedules"):
        add_schedule(project, "training", "at five")
    with pytest.raises(ConfigurationError):
        add_source(project, load_configuration(project), "no name", ["id"], "", Place("/data/no.csv", "", "no"))
    with pytest.raises(ConfigurationError, match=r"is one file.*which is purchases: say where returns is with --url"):
        add_source(project, load_configuration(project), "returns", ["id"], "")
    assert (project / "pipeline.yaml").read_text() == before


def test_of_a_flat_table_it_is_said_where_a_feature_is_added(project: Path) -> None:
    configuration = load_configuration(project)
    flat = configuration.model_copy(
        update={"features": configuration.features.model_copy(update={"tables": ["purchases"]})}
    )
    with pytest.raises(ConfigurationError, match=r'SELECT \*, age / 10 AS "decade" FROM source'):
        add_feature(project, flat, "purchases", "decade", "age / 10", "Float64")
