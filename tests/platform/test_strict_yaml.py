"""YAML 1.2: every scalar is what it looks like, no key stands twice, and what is written reads the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration, parse_configuration
from kfp_lifecycle.config.strict_yaml import dump_yaml, load_yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pipeline.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("012", 12), ("0o12", 10), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1_000", "1_000"), ("0b11", "0b11"),
        ("12:30", "12:30"), ("1:2:3", "1:2:3"), ("1e5", 1e5), ("1.", 1.0), (".5", 0.5), ("-.inf", -math.inf),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("True", True), ("false", False),
        ("tRUE", "tRUE"), ("~", None), ("null", None), ("", None), ("nULL", "nULL"), ("2025-01-01", "2025-01-01"),
        ("2025-01-01 10:00:00", "2025-01-01 10:00:00"), ("=", "="), ("inf", "inf"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = load_yaml(f"key: {text}\n")["key"]
    assert (found, type(found)) == (value, type(value))
    assert load_yaml(dump_yaml({"key": text}))["key"] == text, "a text stays a text when it is written"


def test_what_is_not_a_number_stays_one() -> None:
    assert math.isnan(load_yaml(".nan"))
    assert math.isnan(load_yaml(dump_yaml(math.nan)))


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "top:\n  - {x: 1, x: 2}\n", "1: a\n1: b\n", "{a: 1, 'a': 2}"])
def test_a_key_that_stands_twice_is_an_error_with_both_places(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"stands here first(.|\n)*line \d+(.|\n)*and again(.|\n)*line \d+"):
        load_yaml(text)


def test_a_section_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"the key 'gate' stands here first"):
        parse_configuration(f"{TEXT}\ngate: {{rules: [{{metric: performance.roc_auc, min: 0.1}}]}}\n")


def test_values_of_the_command_line_follow_the_same_rules() -> None:
    assert load_configuration(ROOT, ["training.seed=012"]).training.seed == 12
    with pytest.raises(ConfigurationError):
        load_configuration(ROOT, ["training.seed=12:30"])


@pytest.mark.parametrize("project", [ROOT, *sorted((ROOT / "examples").glob("*/pipeline.yaml"))])
def test_the_projects_read_as_before(project: Path) -> None:
    folder = project if project.is_dir() else project.parent
    text = (folder / "pipeline.yaml").read_text("utf-8")
    plain = yaml.safe_load(text)
    assert load_yaml(dump_yaml(load_yaml(text))) == load_yaml(text)
    assert load_configuration(folder).name == plain["name"]


def test_objects_of_python_are_not_made() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.system [echo]")
