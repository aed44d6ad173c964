"""A person in the online store of this machine, a SQLite file of Feast's: values, and what the store notes of them."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from feast.protos.feast.types.Value_pb2 import Value
from pyarrow import compute

from kfp_lifecycle.artifacts.entity_key import WHOLE, entity_key
from kfp_lifecycle.features.online.reading import EntityKeys
from kfp_lifecycle.runtime.contract import ContractViolation

BUSY_SECONDS = 60.0


def stored_rows(file: Path, key_column: str, key: str, *, remove: bool) -> int:
    """How many values and notes of an entity a store holds, or held before they were removed, all at once.

    Values are deleted; the notes by which a materialization finds out what changed are written anew without the
    entity. So the next materialization brings it back as long as the source has it.

    Args:
        file: The store's file; none need be there.
        key_column: The project's entity key.
        key: The entity.
        remove: Whether to remove it; the freed pages are overwritten.

    Raises:
        ContractViolation: the store cannot be read or written.
    """
    if not file.is_file():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE" if remove else "BEGIN")
            rows = 0
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if table.endswith("_journal"):
                    rows += _notes(connection, table, key, remove)
                else:
                    rows += _values(connection, table, key_column, key, remove)
            connection.execute("COMMIT")
            if remove:
                # What was written lies in the log beside the file until then.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise ContractViolation(
            f"The online store {file} cannot be used ({error}). See that nobody locks it."
        ) from error
    return rows


def _values(connection: sqlite3.Connection, table: str, column: str, key: str, remove: bool) -> int:
    rows = 0
    for serialized in _serialized(column, key):
        given = (serialized,)
        found = connection.execute(f'SELECT count(*) FROM "{table}" WHERE entity_key = ?', given).fetchone()
        rows += found[0]
        if remove:
            connection.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', given)
    return rows


def _serialized(column: str, key: str) -> Iterator[bytes]:
    """The entity as Feast writes it, whatever type its key has."""
    for kind in (*WHOLE, "VARCHAR"):
        with contextlib.suppress(ValueError):
            yield EntityKeys(column, kind).serialized(entity_key(column, kind, key))


def _notes(connection: sqlite3.Connection, table: str, key: str, remove: bool) -> int:
    rows = 0
    for rowid, name, stored in connection.execute(f'SELECT rowid, feature_name, value FROM "{table}"').fetchall():
        value = Value.FromString(stored)
        if name == "page" and value.bytes_val:
            entities = pq.read_table(io.BytesIO(value.bytes_val))
            named = compute.equal(entities["key"].cast("string"), key)
            held = compute.sum(named).as_py() or 0
            page = io.BytesIO()
            pq.write_table(entities.filter(compute.invert(named)), page, compression="zstd")
            without = Value(bytes_val=page.getvalue())
        elif name == "record" and value.string_val.startswith("{"):
            record = json.loads(value.string_val)
            held = int(str(record.get("example_entity")) == key)
            without = Value(string_val=json.dumps({**record, "example_entity": None}))
        else:
            continue
        rows += held
        if remove and held:
            given = (without.SerializeToString(), rowid)
            connection.execute(f'UPDATE "{table}" SET value = ? WHERE rowid = ?', given)
    return rows
