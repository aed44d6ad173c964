"""The files of a project that travel in a pipeline: configuration, feature definitions, label and expectations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import (
    CONFIGURATION_FILE,
    apply_override,
    configuration_text,
    parse_configuration,
    parse_yaml,
)

# All of it is embedded in one step's code, which a cluster passes as one process argument.
LARGEST_FILE_BYTES = 200_000
CARRIED_SUFFIXES = {".py", ".sql", ".yaml", ".yml", ".json", ".pbtxt", ".md", ".txt"}


def pack_project(project: Path, overrides: Sequence[str] = ()) -> tuple[Configuration, dict[str, bytes]]:
    """Read a project for embedding.

    Args:
        project: The project's folder.
        overrides: `KEY=VALUE` pairs, written into the embedded `pipeline.yaml`.

    Returns:
        The configuration, and each file's content by its path in the project.

    Raises:
        ConfigurationError: the configuration cannot be used, or a file it names is missing, too large, or a link
            that leads out of the project.
    """
    text = configuration_text(project)
    configuration = parse_configuration(text, overrides, where=str(project / CONFIGURATION_FILE))
    if overrides:
        values = parse_yaml(text, CONFIGURATION_FILE)
        for override in overrides:
            apply_override(values, override)
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    files = {CONFIGURATION_FILE: text.encode()}
    for key, place in (
        ("features.repository", configuration.features.repository),
        ("label.query", configuration.label.query),
        ("validation.expectations", configuration.validation.expectations),
    ):
        if not (project / place).exists():
            raise ConfigurationError(f"{project / CONFIGURATION_FILE}: {key} names {place}, which is not in {project}")
        for file in _carried(project / place):
            files[file.relative_to(project).as_posix()] = _content(file, project)
    return configuration, files


def _carried(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for file in sorted(place.rglob("*")):
        if file.is_file() and file.suffix in CARRIED_SUFFIXES and "__pycache__" not in file.parts:
            yield file


def _content(file: Path, project: Path) -> bytes:
    if not file.resolve().is_relative_to(project.resolve()):
        raise ConfigurationError(f"{file} is a link out of the project. Put the file itself into {project}.")
    content = file.read_bytes()
    if len(content) > LARGEST_FILE_BYTES:
        raise ConfigurationError(
            f"{file} has {len(content):,} bytes; a project travels inside the pipeline, so a file may have at most "
            f"{LARGEST_FILE_BYTES:,}. Keep data in the source, not in the project."
        )
    return content
