"""Preflight: everything that a project lacks, found without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.compilation.definitions import read_definitions
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import CONFIGURATION_FILE, configuration_text, parse_configuration, parse_yaml

RULES = "rules.yaml"
FEATURES = "features.py"


@dataclass(frozen=True)
class Lack:
    """Something that a run would stop at."""

    where: str
    """The file or key."""
    what: str
    """The rule and the remedy."""


def lacks_of_files(project: Path, named: str) -> tuple[list[Lack], Configuration | None]:
    """What the project's own files lack.

    Args:
        project: Its folder.
        named: How a command names the project, such as `--project mine`; empty where it is the one here.

    Returns:
        What is lacking, and the configuration where it can be used.
    """
    try:
        text = configuration_text(project)
        values = parse_yaml(text, CONFIGURATION_FILE)
    except ConfigurationError as error:
        return [Lack(CONFIGURATION_FILE, str(error))], None
    found: list[Lack] = []
    configuration: Configuration | None = None
    try:
        configuration = parse_configuration(text)
    except ConfigurationError as error:
        lines = str(error).splitlines()[1:] or [str(error)]
        found += [Lack(CONFIGURATION_FILE, line.removeprefix("  - ")) for line in lines]
    found += _missing_files(project, values, named)
    if configuration is not None and not found:
        try:
            read_definitions(project, configuration)
        except ConfigurationError as error:
            found.append(Lack(CONFIGURATION_FILE, str(error)))
    return found, configuration


def _missing_files(project: Path, values: dict[str, Any], named: str) -> Iterator[Lack]:
    """Files that a project has, by what its configuration says so far; what it does not say is the default."""
    expectations = _setting(values, "validation", "expectations", "expectations")
    if not (project / expectations / RULES).is_file():
        yield Lack(
            f"{expectations}/{RULES}",
            "there is no such file: it lists what tables must be like beside their schemas. Write [] for no rule",
        )
    for table in _section(_section(values, "source"), "tables"):
        if not (project / expectations / f"{table}.pbtxt").is_file():
            yield Lack(
                f"{expectations}/{table}.pbtxt",
                "there is no such schema. A run reads the source and stops there; then "
                f"`lifecycle schema infer {table}{named}` proposes one",
            )
    features, label = _section(values, "features"), _section(values, "label")
    repository = _setting(values, "features", "repository", "feature_repo")
    if not features.get("tables") and not (project / repository / FEATURES).is_file():
        yield Lack(
            f"{repository}/{FEATURES}",
            "there is no such file: it defines the features. Where they are the columns of tables, name those with "
            "features.tables",
        )
    query = _setting(values, "label", "query", "feature_repo/label.sql")
    if not label.get("column") and not (project / query).is_file():
        yield Lack(
            query,
            "there is no such file: it says who is predicted for, and what came true. Where the label is a column, "
            "name that with label.column",
        )


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _setting(values: dict[str, Any], section: str, key: str, default: str) -> str:
    value = _section(values, section).get(key)
    # What is no path of the project is told as a mistake of the configuration.
    return value if isinstance(value, str) and not value.startswith("/") and ".." not in value else default
