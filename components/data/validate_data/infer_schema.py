"""Propose schemas from a good batch: `python -m components.data.validate_data.infer_schema TABLES OUTPUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data.tables import read_manifest, tables_database
from components.data.validate_data.table_statistics import is_time, table_statistics


def infer_schema(tables_folder: Path, output_folder: Path) -> list[Path]:
    """Write a TFDV schema for each table: types, presence, the values of text with few of them. Ranges are left open.

    A schema so made is a proposal. Review it: what else can rightly come, and what never may?

    Args:
        tables_folder: A finished folder of tables, such as a run's snapshot.
        output_folder: Where to write `<table>.pbtxt`; what is there is replaced.

    Returns:
        The files written.

    Raises:
        ContractViolation: the folder holds no finished tables.
    """
    manifest = read_manifest(tables_folder)
    output_folder.mkdir(parents=True, exist_ok=True)
    files = []
    with tables_database(tables_folder, manifest.tables) as connection:
        for name, summary in manifest.tables.items():
            schema = tfdv.infer_schema(table_statistics(connection, name, summary, sample=None))
            for feature in schema.feature:
                if is_time(summary.columns[feature.name]):
                    feature.time_domain.integer_format = schema_pb2.TimeDomain.UNIX_SECONDS
            file = output_folder / f"{name}.pbtxt"
            tfdv.write_schema_text(schema, str(file))
            files.append(file)
    return files


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m components.data.validate_data.infer_schema TABLES OUTPUT")
    for written in infer_schema(Path(sys.argv[1]), Path(sys.argv[2])):
        print(written)
