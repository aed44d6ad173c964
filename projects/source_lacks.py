"""Whether a project's source is there and has the columns that the configuration names.

`lifecycle check` runs it under the environment that reads sources; `python -m … PROJECT` prints JSON. Of a database one
row of each table is asked for, once.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kfp_lifecycle.components.data.ingest_data.checks import check_columns
from kfp_lifecycle.components.data.ingest_data.expected import expected_table
from kfp_lifecycle.components.data.ingest_data.extraction import dialect_of
from kfp_lifecycle.components.data.ingest_data.files import nearest
from kfp_lifecycle.components.data.ingest_data.source import OpenSource, open_source
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.data import DATABASE_SCHEMES, Table
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.data.source_version import local_source
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.features.flat_table import flat_definitions
from kfp_lifecycle.runtime.contract import ContractViolation

PATIENCE_SECONDS = 20.0


def source_lacks(project: Path) -> list[tuple[str, str]]:
    """What a project's source lacks: the key of the configuration, and the reason in words."""
    configuration = load_configuration(project)
    source = local_source(configuration.source, project)
    found: list[tuple[str, str]] = []
    columns: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="check-") as work:
        for number, (connection, place) in enumerate(source.places().items()):
            scratch, writable = Path(work) / f"read-{number}", Path(work) / f"written-{number}"
            scratch.mkdir()
            writable.mkdir()
            asked = place.model_copy(
                update={"attempts": 1, "timeout_seconds": min(PATIENCE_SECONDS, place.timeout_seconds)}
            )
            try:
                with open_source(asked, scratch, writable) as opened:
                    for name, table in source.tables.items():
                        if table.connection == connection:
                            found += _table_lacks(opened, configuration, project, name, table, columns)
                            opened.discard()
            except ContractViolation as violation:
                where = "source.url" if connection is None else f"source.connections.{connection}"
                found.append((where, str(violation)))
    if configuration.features.tables and columns.keys() >= set(configuration.features.tables):
        found += _flat_lacks(configuration, {table: columns[table] for table in configuration.features.tables})
    return found


def _flat_lacks(configuration: Configuration, columns: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """Why the columns of `features.tables` cannot be the features."""
    names = [*dict.fromkeys(name for of_table in columns.values() for name in of_table)]
    known = {*names, *(f"{table}.{name}" for table, of_table in columns.items() for name in of_table)}
    unknown = [name for name in configuration.features.leave_out if name not in known]
    told = [("features.leave_out", name) for name in unknown]
    told += [("features.titles", name) for name in configuration.features.titles if name not in names]
    for setting, name in told:
        yield setting, f"{' and '.join(columns)} has no column {name}; {nearest(name, names)}"
    if not unknown:
        try:
            flat_definitions(configuration, columns)
        except ContractViolation as violation:
            yield "features.tables", str(violation)


def _table_lacks(
    source: OpenSource,
    configuration: Configuration,
    project: Path,
    name: str,
    table: Table,
    read: dict[str, dict[str, str]],
) -> Iterator[tuple[str, str]]:
    """What a table lacks; its columns are put into `read` where it can be read."""
    schema = project / configuration.validation.expectations / f"{name}.pbtxt"
    expected = expected_table(schema) if source.reads_text and not table.query else None
    if source.scheme in DATABASE_SCHEMES:
        statement = dialect_of(source.scheme, source.location).statement(name, table.extract, None, None)
        table = table.model_copy(update={"extract": f"{statement} LIMIT 1"})
    try:
        query = source.select(name, table, expected, None)
        with source.reading(f"table {name}"):
            columns = read[name] = columns_of(source.connection, query)
            check_columns(source.connection, name, table, query, columns)
    except ContractViolation as violation:
        yield f"source.tables.{name}", str(violation)
        return
    for key, column in _named_columns(configuration, name):
        if column not in columns:
            yield key, f"{name} has no column {column}; {nearest(column, columns)}"


def _named_columns(configuration: Configuration, table: str) -> Iterator[tuple[str, str]]:
    """Columns of a table that other sections name, and where."""
    label_table, label_column = configuration.label.place
    if label_table == table:
        yield "label.column", label_column
        if configuration.split.group is not None:
            yield "split.group", configuration.split.group
    if table in configuration.features.tables:
        for reference in configuration.features.sensitive:
            view, _, column = reference.partition(":")
            if view == table:
                yield "features.sensitive", column


if __name__ == "__main__":
    print(json.dumps(source_lacks(Path(sys.argv[1]))))
