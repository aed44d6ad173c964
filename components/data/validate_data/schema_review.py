"""Propose schemas from good data, put them in words, and say how they differ from newer data.

`lifecycle schema` runs it under the environment that has TFDV; `python -m … ACTION DATA EXPECTATIONS [TABLE …]` prints
JSON, by table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.components.data.validate_data.schema import TYPE_WORDS, allowed_values, load_schemas, schema_checks
from kfp_lifecycle.data.table_statistics import (
    Selection,
    Statistics,
    is_time,
    table_statistics,
)
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.data.tfdv import infer_schema, update_schema
from kfp_lifecycle.runtime.contract import ContractViolation

EXAMPLES = 3


def propose_schemas(folder: Path, tables: Collection[str] = ()) -> dict[str, schema_pb2.Schema]:
    """A schema for each table: types, presence, the values of text with few of them. Ranges are left open.

    A schema so made is a proposal. Review it: what else can rightly come, and what never may?

    Args:
        folder: A finished folder of tables, such as a run's dataset.
        tables: Those to look at; all when empty.

    Returns:
        The proposals by table.

    Raises:
        ContractViolation: the folder holds no finished tables, or not these.
    """
    manifest = _chosen(folder, tables)
    return {
        name: _with_times(infer_schema(statistics), manifest.tables[name].columns)
        for name, statistics in _statistics(folder, manifest).items()
    }


def differences(folder: Path, expectations: Path, tables: Collection[str] = ()) -> dict[str, list[str]]:
    """What of each table is not as its schema says, in sentences with rows and examples.

    Raises:
        ContractViolation: the folder holds no finished tables, or not these, or a schema is missing or cannot be read.
    """
    manifest = _chosen(folder, tables)
    schemas = load_schemas(expectations, manifest.tables)
    found = {}
    with tables_database(folder, manifest.tables) as connection:
        for name, summary in manifest.tables.items():
            statistics = table_statistics(connection, folder, Selection(name, summary.columns), summary.rows)
            checks = schema_checks(connection, name, summary, schemas[name], statistics, EXAMPLES, sampled=False)
            found[name] = [check.sentence for check in checks if not check.passed]
    return found


def accepting_schemas(folder: Path, expectations: Path, tables: Collection[str] = ()) -> dict[str, schema_pb2.Schema]:
    """Each schema, changed as little as TFDV can so that the table is as it says.

    Raises:
        ContractViolation: as `differences`.
    """
    manifest = _chosen(folder, tables)
    schemas = load_schemas(expectations, manifest.tables)
    return {
        name: _with_times(update_schema(schemas[name], statistics), manifest.tables[name].columns)
        for name, statistics in _statistics(folder, manifest).items()
    }


def in_words(schema: schema_pb2.Schema) -> list[str]:
    """A line for each column: type, presence, and what its values may be."""
    return [f"{feature.name}: {', '.join(_words(feature, schema))}" for feature in schema.feature]


def _words(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> Iterator[str]:
    yield "a time" if feature.HasField("time_domain") else TYPE_WORDS[feature.type]
    least = feature.presence.min_fraction
    yield "in every row" if least == 1 else f"in at least {least:.4g} of rows" if least else "may be missing"
    for name in ("int_domain", "float_domain"):
        if feature.HasField(name):
            domain = getattr(feature, name)
            if domain.HasField("min"):
                yield f"at least {domain.min:g}"
            if domain.HasField("max"):
                yield f"at most {domain.max:g}"
    values = allowed_values(feature, schema)
    if values:
        yield f"one of {', '.join(values)}"


def as_text(schema: schema_pb2.Schema) -> str:
    """A schema in text form, as people review and commit it."""
    return str(text_format.MessageToString(schema))


def _chosen(folder: Path, tables: Collection[str]) -> Manifest:
    manifest = Manifest.read(folder)
    unknown = sorted(set(tables) - set(manifest.tables))
    if unknown:
        raise ContractViolation(
            f"the data has no table {', '.join(unknown)}; it has {', '.join(manifest.tables)}. Name one of these."
        )
    return Manifest(
        as_of=manifest.as_of,
        tables={name: summary for name, summary in manifest.tables.items() if not tables or name in tables},
    )


def _statistics(folder: Path, manifest: Manifest) -> dict[str, Statistics]:
    with tables_database(folder, manifest.tables) as connection:
        return {
            name: table_statistics(connection, folder, Selection(name, summary.columns), summary.rows)
            for name, summary in manifest.tables.items()
        }


def _with_times(schema: schema_pb2.Schema, columns: dict[str, str]) -> schema_pb2.Schema:
    for feature in schema.feature:
        if feature.name in columns and is_time(columns[feature.name]):
            feature.time_domain.integer_format = schema_pb2.TimeDomain.UNIX_SECONDS
    return schema


def main(action: str, folder: Path, expectations: Path, tables: Collection[str]) -> dict[str, object]:
    """What `lifecycle schema` asks for, by table."""
    if action == "show":
        known = tables or sorted(file.stem for file in expectations.glob("*.pbtxt"))
        return {name: in_words(schema) for name, schema in load_schemas(expectations, known).items()}
    if action == "diff":
        return {name: {"differences": found} for name, found in differences(folder, expectations, tables).items()}
    if action == "infer":
        return {
            name: {"text": as_text(schema), "words": in_words(schema)}
            for name, schema in propose_schemas(folder, tables).items()
        }
    changed = accepting_schemas(folder, expectations, tables)
    return {
        name: {"differences": found, "text": as_text(changed[name])}
        for name, found in differences(folder, expectations, tables).items()
    }


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])))
    except ContractViolation as violation:
        sys.exit(str(violation))
