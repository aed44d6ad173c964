"""From tables to the online store: the one way that a materialization and the skew gate share."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.data.tables import parquet_file
from components.features.definitions import Definitions
from components.features.online_store import Materialization, OnlineStore
from components.features.point_in_time import session, show_tables, view_values
from project.data import Table


def fill(
    store: OnlineStore,
    validated: Path,
    tables: Mapping[str, Table],
    definitions: Definitions,
    as_of: datetime,
    tables_digest: str = "",
    only: Collection[Any] | None = None,
) -> Materialization:
    """Compute the stored features of the service as of a moment, and write them to a store.

    Args:
        store: The online store, open for this version of the definitions.
        validated: The tables artifact.
        tables: The tables of the configuration.
        definitions: The project's feature definitions.
        as_of: The moment: no row later than it is seen. In whole seconds, as the store keeps times.
        tables_digest: What to note of the tables: see `digest_of`.
        only: Keys of the entities to write; all by default.

    Returns:
        What the store now holds, and has noted.

    Raises:
        ContractViolation: a table or a view's SQL is at fault, or the store cannot be reached.
    """
    rows = dict.fromkeys(definitions.views_of(definitions.features), 0)
    example = None
    before = store.materialized()
    if before is not None:
        # Until all is written the store holds some of both.
        store.note(replace(before, tables_digest=""))
    with session(validated) as connection:
        show_tables(connection, validated, tables, as_of)
        for view in rows:
            for batch in view_values(connection, definitions, view, as_of):
                chosen = batch if only is None else those_of(batch, definitions.key, only)
                store.write(view, chosen)
                rows[view] += chosen.num_rows
                if example is None and chosen.num_rows:
                    example = chosen[definitions.key][0].as_py()
    written = Materialization(definitions.version, as_of, tables_digest, rows, example)
    store.note(written)
    return written


def digest_of(validated: Path, tables: Mapping[str, Table]) -> str:
    """Digest (24 hexadecimal digits of BLAKE2) of all that features are computed from beside their definitions: the
    files of the tables, and by which times they are cut."""
    digest = hashlib.blake2b(digest_size=12)
    for name, table in tables.items():
        if not table.label_only:
            digest.update(f"{name}\0{table.event_time}\0{table.arrival_time}\0".encode())
            with parquet_file(validated, name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def those_of(batch: pa.RecordBatch, key: str, entities: Collection[Any]) -> pa.RecordBatch:
    """The rows of some entities."""
    return batch.filter(pc.is_in(batch[key], pa.array(entities, batch[key].type)))
