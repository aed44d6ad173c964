"""From tables to the online store: the one way that a materialization and the skew gate share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
    data_version: str = "",
    only: Collection[Any] | None = None,
) -> Materialization:
    """Compute the stored features of the service as of a moment, and write them to a store.

    Args:
        store: The online store, open for this version of the definitions.
        validated: The tables artifact.
        tables: The tables of the configuration.
        definitions: The project's feature definitions.
        as_of: The moment: no row later than it is seen. In whole seconds, as the store keeps times.
        data_version: Version of the tables.
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
        store.note(replace(before, data_version=""))
    with session(validated) as connection:
        show_tables(connection, validated, tables, as_of)
        for view in rows:
            for batch in view_values(connection, definitions, view, as_of):
                chosen = batch if only is None else those_of(batch, definitions.key, only)
                store.write(view, chosen)
                rows[view] += chosen.num_rows
                if example is None and chosen.num_rows:
                    example = chosen[definitions.key][0].as_py()
    written = Materialization(definitions.version, as_of, data_version, rows, example)
    store.note(written)
    return written


def those_of(batch: pa.RecordBatch, key: str, entities: Collection[Any]) -> pa.RecordBatch:
    """The rows of some entities."""
    return batch.filter(pc.is_in(batch[key], pa.array(entities, batch[key].type)))
