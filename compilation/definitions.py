"""Definitions of a project: feature definitions, label query and expectations, each an artifact of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kfp_lifecycle.compilation.refusals import refuse_wrong_metrics
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import CONFIGURATION_FILE
from kfp_lifecycle.features.flat_table import label_sql

# More than this is data, which belongs into the source.
LARGEST_FILE_BYTES = 1_000_000
CARRIED_SUFFIXES = {".py", ".sql", ".yaml", ".yml", ".json", ".pbtxt", ".md", ".txt"}
DEFINITIONS = ("feature_repo", "label_query", "expectations")

FLAT = "The features are columns of tables (features.tables): the steps make their definitions of them.\n"


def read_definitions(project: Path, configuration: Configuration) -> dict[str, dict[str, bytes]]:
    """The files of each definition of a project.

    Returns:
        Content by path, by definition. The one file of `label_query` has the path of its name.

    Raises:
        ConfigurationError: a file or folder that the configuration names is missing, too large, or a link that leads
            out of the project; or an expression of `monitoring.business` is wrong.
    """
    repository, query = configuration.features.repository, configuration.label.query
    expectations = configuration.validation.expectations
    flat, column = configuration.features.tables, configuration.label.column
    for key, place in (
        ("features.repository", None if flat else repository),
        ("label.query", None if column else query),
        ("validation.expectations", expectations),
    ):
        if place is not None and not (project / place).exists():
            raise ConfigurationError(f"{project / CONFIGURATION_FILE}: {key} names {place}, which is not in {project}")
    refuse_wrong_metrics(configuration, project / expectations)
    if column:
        label = {Path(query).name: label_sql(configuration).encode()}
    else:
        label = {Path(query).name: _content(project / query, project)}
    # The types of flat tables' columns are the data's: their definitions are made where they are known.
    features = {"README.md": FLAT.encode()} if flat else _files(project / repository, project)
    # The label's query is no feature: a change of it is none of theirs.
    features.pop(Path(query).relative_to(repository).as_posix() if Path(query).is_relative_to(repository) else "", None)
    return {"feature_repo": features, "label_query": label, "expectations": _files(project / expectations, project)}


def _files(folder: Path, project: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): _content(file, project) for file in _carried(folder)}


def _carried(place: Path) -> Iterator[Path]:
    for file in sorted(place.rglob("*")):
        if file.is_file() and file.suffix in CARRIED_SUFFIXES and "__pycache__" not in file.parts:
            yield file


def _content(file: Path, project: Path) -> bytes:
    if not file.resolve().is_relative_to(project.resolve()):
        raise ConfigurationError(f"{file} is a link out of the project. Put the file itself into {project}.")
    content = file.read_bytes()
    if len(content) > LARGEST_FILE_BYTES:
        raise ConfigurationError(
            f"{file} has {len(content):,} bytes; each step that reads it fetches it, so a file may have at "
            f"most {LARGEST_FILE_BYTES:,}. Keep data in the source, not in the project."
        )
    return content
