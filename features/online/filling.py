"""Incremental write to the online store: the one way that a materialization and the skew check share.

Only what changed is written. Of each view the store's inventory holds a digest of every entity's values: what has
another digest is written, what has the same is left alone, and counts as known as of the new moment because the
store's own record says so. An entity that a view says nothing of any more keeps its last values until they are too
old, as the training set does; they are dated, so that the new moment is not taken for theirs. Where no table has times
it is forgotten at once.

What will be written is noted first. So whatever cuts a filling off, the next one knows which values to trust.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from kfp_lifecycle.artifacts.quality import FeatureQuality, ViewQuality
from kfp_lifecycle.artifacts.tables import TIMELESS, parquet_file
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.features.definitions import MODEL_TYPES, Definitions, ViewFeature
from kfp_lifecycle.features.offline.point_in_time import session, show_tables, view_values
from kfp_lifecycle.features.online.store import Inventory, Materialization, OnlineStore
from kfp_lifecycle.features.quality import described, newest_rows
from kfp_lifecycle.runtime.contract import ContractViolation

# Entities that are written at a time: a reader sees all of them change at once, or none.
ENTITIES_AT_ONCE = 10_000
# Entities that are read back, of those that need not be written: a server may have lost or been given other values.
READ_BACK = 100
# What has to be done with each entity. Its digest is NULL where the store's values are not certain: a filling that
# was cut off may have replaced them, so they are missing rather than wrong if the view says nothing of it any more.
_COMPARED = """
    CREATE OR REPLACE TEMP TABLE compared AS
    SELECT *, CASE
        WHEN digest IS NULL OR seen < $too_old THEN 'forget'
        WHEN gone AND (seen_before IS NULL OR NOT $finished) THEN 'date'
        WHEN NOT gone AND (digest IS DISTINCT FROM digest_before OR seen_before IS NOT NULL) THEN 'write'
        ELSE 'keep'
    END AS action
    FROM (
        SELECT
            coalesce(present.key, held.key) AS key,
            present.key IS NULL AS gone,
            coalesce(present.digest, held.digest) AS digest,
            CASE WHEN present.key IS NULL THEN coalesce(held.seen, $held_as_of) END AS seen,
            held.digest AS digest_before,
            held.seen AS seen_before
        FROM digests AS present
        FULL JOIN held ON held.key = present.key
    )
"""


@dataclass(frozen=True)
class Filled:
    """What a filling did."""

    materialization: Materialization
    """What the store now holds, and has noted."""
    written: Mapping[str, int]
    """By view, of how many entities something was written: those that are new, changed, back again or gone."""


def fill(
    store: OnlineStore,
    validated: Path,
    tables: Mapping[str, Table],
    definitions: Definitions,
    as_of: datetime,
    tables_digest: str = "",
    only: Collection[Any] | None = None,
) -> Filled:
    """Compute the stored features of the service as of a moment, and write to a store what is new in them.

    Args:
        store: The online store, open for this version of the definitions.
        validated: The tables artifact.
        tables: The tables of the configuration.
        definitions: The project's feature definitions.
        as_of: The moment: no row later than it is seen. In whole seconds, as the store keeps times.
        tables_digest: What to note of the tables: see `digest_of`.
        only: Keys of the entities to write; all by default.

    Raises:
        ContractViolation: a table or a view's SQL is at fault, or the store cannot be reached.
    """
    rows: dict[str, int] = {}
    written: dict[str, int] = {}
    quality: list[ViewQuality] = []
    example = None
    newest = newest_rows(validated, tables, definitions, as_of)
    before = store.materialized()
    if before is not None:
        # Until all is written the store holds some of both.
        store.note(replace(before, tables_digest=""))
    with session(validated) as connection:
        show_tables(connection, validated, tables, as_of)
        for view in definitions.views_of(definitions.features):
            values = view_values(connection, definitions, view, as_of)
            with contextlib.closing(connection.cursor()) as cursor:
                rows[view], first = _show_values(cursor, definitions, view, values, only)
                written[view] = _write_changes(cursor, store, definitions, view, as_of)
                features = _described(cursor, definitions, view)
                quality.append(ViewQuality(view=view, newest_row=newest.get(view), features=features))
            example = first if example is None else example
    materialization = Materialization(definitions.version, as_of, tables_digest, rows, example, quality)
    store.note(materialization)
    return Filled(materialization, written)


def _show_values(
    cursor: duckdb.DuckDBPyConnection,
    definitions: Definitions,
    view: str,
    values: pa.RecordBatchReader,
    only: Collection[Any] | None,
) -> tuple[int, Any]:
    """Make the tables `present`, a view's values, and `digests` of them; how many there are, and the first key."""
    key = quoted(definitions.key)
    cursor.register("given", values)
    chosen = ""
    if only is not None:
        cursor.register("chosen", pa.table({"key": pa.array(only, values.schema.field(definitions.key).type)}))
        chosen = f"WHERE {key} IN (SELECT key FROM chosen)"
    cursor.execute(f"CREATE TEMP TABLE present AS SELECT * FROM given {chosen}")
    named = ", ".join(f"{quoted(field.name)} := {quoted(field.name)}" for field in definitions.views[view].features)
    # JSON tells all values apart, to the last bit: 0.0 from -0.0, and both from a missing one.
    cursor.execute(
        f"CREATE TEMP TABLE digests AS SELECT {key} AS key, "
        f"md5_number_lower(to_json(struct_pack({named}))::VARCHAR) AS digest FROM present"
    )
    [(rows, first)] = cursor.execute("SELECT count(*), min(key) FROM digests").fetchall()
    return rows, first


def _write_changes(
    cursor: duckdb.DuckDBPyConnection, store: OnlineStore, definitions: Definitions, view: str, as_of: datetime
) -> int:
    """Write what the store does not hold yet of the values that `_show_values` made; of how many entities."""
    held = store.inventory(view)
    if held is None:
        none = cursor.sql("SELECT key, digest, NULL::TIMESTAMPTZ AS seen FROM digests LIMIT 0").to_arrow_table()
        held = Inventory(as_of, True, none, "")
    cursor.register("held", held.entities)
    # Without times nothing would ever tell that the values of who is gone are old.
    too_old = as_of + timedelta(seconds=1) if as_of == TIMELESS else as_of - definitions.freshness
    moments = {"too_old": too_old, "held_as_of": held.as_of}
    cursor.execute(_COMPARED, {**moments, "finished": held.finished})
    if not _is_held(cursor, store, definitions, view):
        print(f"The online store no longer has all values of {view} that it had noted: all are written anew.")
        cursor.register("held", cursor.sql("SELECT key, NULL::UBIGINT AS digest, seen FROM held").to_arrow_table())
        cursor.execute(_COMPARED, {**moments, "finished": False})
    [(touched,)] = cursor.execute("SELECT count(*) FROM compared WHERE action <> 'keep'").fetchall()
    by, noted_by = uuid.uuid4().hex, held.by
    if touched:
        planned = cursor.sql(
            "SELECT key, CASE WHEN action <> 'write' THEN digest END AS digest, "
            "CASE WHEN gone THEN seen ELSE seen_before END AS seen FROM compared"
        )
        store.note_inventory(view, Inventory(as_of, False, planned.to_arrow_table(), by))
        noted_by = by
        key = quoted(definitions.key)
        changed = f"SELECT * FROM present WHERE {key} IN (SELECT key FROM compared WHERE action = 'write')"
        for batch in _batches(cursor, changed):
            store.write(view, batch)
        # Only now: values of the past must not be taken for those of the present.
        back_again = "SELECT key, seen FROM compared WHERE action = 'write' AND seen_before IS NOT NULL"
        for query in (back_again, "SELECT key, seen FROM compared WHERE action = 'date'"):
            for batch in _batches(cursor, query):
                store.date(view, batch["key"].to_pylist(), batch["seen"].to_pylist())
        for batch in _batches(cursor, "SELECT key FROM compared WHERE action = 'forget'"):
            store.forget(view, batch["key"].to_pylist())
    if store.filled_by(view) != noted_by:
        _doubt(cursor, store, view, as_of, by)
        raise ContractViolation(
            f"Another materialization fills the view {view} in {store.location} at the same time, and neither knows "
            "what the other wrote. Let one run at a time; the next one writes again what both did."
        )
    now = cursor.sql("SELECT key, digest, seen FROM compared WHERE action <> 'forget'").to_arrow_table()
    store.note_inventory(view, Inventory(as_of, True, now, by))
    return int(touched)


def _is_held(cursor: duckdb.DuckDBPyConnection, store: OnlineStore, definitions: Definitions, view: str) -> bool:
    """Whether the store has what it noted, by a sample of the entities that would not be written."""
    names = [field.name for field in definitions.views[view].features]
    kept = f"SELECT key FROM compared WHERE action = 'keep' AND NOT gone USING SAMPLE {READ_BACK} ROWS"
    rows = cursor.sql(f"FROM present WHERE {quoted(definitions.key)} IN ({kept})").to_arrow_table().to_pylist()
    found = store.read(store.reader({view: names}, {}), [row[definitions.key] for row in rows])
    return all(stored[view][name] == row[name] for row, stored in zip(rows, found, strict=True) for name in names)


def _doubt(cursor: duckdb.DuckDBPyConnection, store: OnlineStore, view: str, as_of: datetime, by: str) -> None:
    """Note that no value of a view is certain, so that the next filling writes them all."""
    other = store.inventory(view)
    cursor.register("other", cursor.sql("FROM held").to_arrow_table() if other is None else other.entities)
    doubted = cursor.sql(
        "SELECT key, NULL::UBIGINT AS digest, max(seen) AS seen "
        "FROM (SELECT key, seen FROM compared UNION ALL SELECT key, seen FROM other) GROUP BY key ORDER BY key"
    )
    store.note_inventory(view, Inventory(as_of, False, doubted.to_arrow_table(), by))
    noted = store.materialized()
    if noted is not None:
        store.note(replace(noted, tables_digest=""))


def _described(cursor: duckdb.DuckDBPyConnection, definitions: Definitions, view: str) -> list[FeatureQuality]:
    """What the features of a view that a model can be given are like, one column in memory at a time."""
    features = [
        ViewFeature(view, field.name, MODEL_TYPES[field.dtype])
        for field in definitions.views[view].features
        if field.dtype in MODEL_TYPES
    ]
    return [described(feature, _column(cursor, feature)) for feature in features]


def _column(cursor: duckdb.DuckDBPyConnection, feature: ViewFeature) -> pa.ChunkedArray:
    values = cursor.sql(f"SELECT {quoted(feature.name)} FROM present").to_arrow_table()[0]
    return values.cast(pa.float64()) if feature.type == "numeric" else values


def _batches(cursor: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    return iter(cursor.sql(query).to_arrow_reader(ENTITIES_AT_ONCE))


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
