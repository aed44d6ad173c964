"""Read a project's configuration, with errors that name the key, the rule and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.problems import describe_error
from kfp_lifecycle.config.strict_yaml import dump_yaml, load_yaml

CONFIGURATION_FILE = "pipeline.yaml"


def load_configuration(project: Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read `pipeline.yaml` of a project folder.

    Args:
        project: The project's folder.
        overrides: `KEY=VALUE` pairs, the key dotted (`training.seed=7`), the value YAML.

    Raises:
        ConfigurationError: the folder or file is missing, is not YAML, or breaks a rule of the configuration.
    """
    return parse_configuration(configuration_text(project), overrides, where=str(project / CONFIGURATION_FILE))


def configuration_text(project: Path) -> str:
    """The text of a project's `pipeline.yaml`.

    Raises:
        ConfigurationError: there is no such folder or file, or it is not UTF-8.
    """
    file = project / CONFIGURATION_FILE
    if not file.is_file():
        raise ConfigurationError(
            f"{project} is not a project: it has no {CONFIGURATION_FILE}. Name a project's folder with --project."
        )
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def parse_configuration(text: str, overrides: Sequence[str] = (), where: str = CONFIGURATION_FILE) -> Configuration:
    """Parse and validate the text of a `pipeline.yaml`.

    Raises:
        ConfigurationError: as `load_configuration`.
    """
    values = parse_yaml(text, where)
    for override in overrides:
        apply_override(values, override)
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        lines = [describe_error(detail) for detail in error.errors()]
        raise ConfigurationError(f"{where} cannot be used:\n" + "\n".join(f"  - {line}" for line in lines)) from error


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """YAML text as a dictionary.

    Raises:
        ConfigurationError: it is not YAML, or not a mapping.
    """
    try:
        values = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{where} must hold keys and values, such as `name: churn`; it holds {values!r:.60}")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `KEY=VALUE` in place; numbers in the key are positions in a list.

    Raises:
        ConfigurationError: there is no `=`, the value is not YAML, or the key goes through something without keys.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(f"--set {override!r} must look like KEY=VALUE, such as training.seed=7")
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {key}: {text!r} is not a YAML value: {error}") from error
    *path, last = key.strip().split(".")
    place: Any = values
    for part in path:
        if isinstance(place, list):
            place = _element(place, part, key)
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
        else:
            raise ConfigurationError(f"--set {key}: {part} is inside a plain value, which has no keys")
    if isinstance(place, list):
        _element(place, last, key)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigurationError(f"--set {key}: {last} is inside a plain value, which has no keys")


def _element(items: list[Any], part: str, key: str) -> Any:
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigurationError(f"--set {key}: {part!r} is not a position in a list of {len(items)} (0 is the first)")
    return items[int(part)]


def configuration_schema() -> dict[str, Any]:
    """JSON Schema of `pipeline.yaml`, for editors (`docs/pipeline.schema.json`)."""
    return Configuration.model_json_schema()


def dump_configuration(configuration: Configuration) -> str:
    """The configuration as YAML, defaults left out, for the run's lineage."""
    values: Mapping[str, Any] = configuration.model_dump(mode="json", exclude_unset=True)
    return dump_yaml(dict(values))
