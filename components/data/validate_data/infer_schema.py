"""Propose a TFDV schema for tables from good data."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.tables import read_manifest, tables_database
from components.data.validate_data.table_statistics import is_time, table_statistics
from components.data.validate_data.tfdv import infer_schema


def propose_schemas(tables_folder: Path, tables: Collection[str] = ()) -> dict[str, schema_pb2.Schema]:
    """A schema for each table: types, presence, the values of text with few of them. Ranges are left open.

    A schema so made is a proposal. Review it: what else can rightly come, and what never may?

    Args:
        tables_folder: A finished folder of tables, such as a run's snapshot.
        tables: Those to look at; all when empty.

    Returns:
        The proposals by table.

    Raises:
        ContractViolation: the folder holds no finished tables.
    """
    manifest = read_manifest(tables_folder)
    proposals = {}
    with tables_database(tables_folder, manifest.tables) as connection:
        for name, summary in manifest.tables.items():
            if tables and name not in tables:
                continue
            schema = infer_schema(table_statistics(connection, tables_folder, name, summary))
            for feature in schema.feature:
                if is_time(summary.columns[feature.name]):
                    feature.time_domain.integer_format = schema_pb2.TimeDomain.UNIX_SECONDS
            proposals[name] = schema
    return proposals


def write_schema(schema: schema_pb2.Schema, file: Path) -> None:
    """Write a schema in text form, as people review it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text_format.MessageToString(schema), encoding="utf-8")
