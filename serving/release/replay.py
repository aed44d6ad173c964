"""Replay of the prediction log: what people asked before, as they asked it, where nobody asks now.

A row that names an entity becomes a request by its key alone, any other one a request with the logged features. Read
are finished segments (Parquet) and growing ones (Arrow streams without their end), the newest first; of a log in an
object store the finished ones, which is all it has. See `serving/server/log_segment.py` for how they are written.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.prediction_log import DAYS, FINISHED, GROWING
from kfp_lifecycle.connections.object_store import is_object_store
from kfp_lifecycle.serving.client import v2_request

# So many different requests are what a champion is usually asked; more would be asked too seldom to prove anything.
MOST_REQUESTS = 200
# Of a growing segment the last batches, each of a second at the most.
LAST_BATCHES = 20
# Of an object store: an hour of one writer each.
NEWEST_OBJECTS = 5


@dataclass(frozen=True)
class Replayed:
    """A request that somebody asked before."""

    request: dict[str, Any]
    inputs: frozenset[str]
    """The features that the version which answered it was given."""


def replayed_requests(
    prediction_log: str, model: str, inputs: Sequence[Feature], entity_key: str = ""
) -> list[Replayed]:
    """Different requests of people out of the log, at most MOST_REQUESTS; none where it cannot be read from here.

    Args:
        prediction_log: Where servers write to, a folder or an object store.
        model: Whose log.
        inputs: What kinds features are of; others are taken for what their values are.
        entity_key: The name under which a request names its entity; empty where the log does not name it plainly.
    """
    if is_object_store(prediction_log):
        with tempfile.TemporaryDirectory() as folder:
            _fetch(f"{prediction_log.rstrip('/')}/{model}", Path(folder) / model)
            return replayed_requests(folder, model, inputs, entity_key)
    kinds = {item.name: item for item in inputs}
    found: dict[str, Replayed] = {}
    for file in _newest_first(Path(prediction_log) / model):
        try:
            rows = _finished(file) if file.suffix == FINISHED else _growing(file)
        # DuckDB's and Arrow's errors are of no narrower kind, and a file that is broken stops no release.
        except Exception as error:
            print(f"{file} is not replayed: {str(error).splitlines()[0]:.200}", file=sys.stderr, flush=True)
            continue
        random.Random(0).shuffle(rows)
        for row in rows:
            replayed = _request(row, kinds, entity_key)
            if replayed is not None and len(found) < MOST_REQUESTS:
                found.setdefault(repr(replayed.request), replayed)
        if len(found) >= MOST_REQUESTS:
            break
    return list(found.values())


def _fetch(log: str, folder: Path) -> None:
    """Bring the newest segments of a model's log to a folder, by their days."""
    import obstore

    from kfp_lifecycle.connections.buckets import store_of

    try:
        store, prefix = store_of(log)
        there = [item["path"] for page in obstore.list(store, prefix=prefix) for item in page]
        for path in sorted(path for path in there if path.endswith(FINISHED))[-NEWEST_OBJECTS:]:
            place = folder / Path(path).parent.name / Path(path).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(obstore.get(store, path).bytes())
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        print(f"{log} is not replayed: {str(error).splitlines()[0]:.200}", file=sys.stderr, flush=True)


def _newest_first(folder: Path) -> Iterator[Path]:
    for day in sorted((day for day in folder.glob(DAYS) if day.is_dir()), reverse=True):
        yield from sorted((file for file in day.iterdir() if file.suffix in (GROWING, FINISHED)), reverse=True)


def _finished(file: Path) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        sample = "SELECT * FROM read_parquet($file) WHERE NOT shadow USING SAMPLE reservoir(500 ROWS) REPEATABLE (0)"
        found = connection.execute(sample, {"file": str(file)})
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _growing(file: Path) -> list[dict[str, Any]]:
    import nanoarrow

    last: deque[Any] = deque(maxlen=LAST_BATCHES)
    with (
        file.open("rb") as stream,
        nanoarrow.ArrayStream.from_readable(stream) as batches,
        # Its writer was killed within a batch, or is writing it: those before are whole.
        contextlib.suppress(RuntimeError),
    ):
        last.extend(batches.iter_chunks())
    return [row for batch in last for row in batch.to_pylist() if not row["shadow"]]


def _request(row: dict[str, Any], kinds: Mapping[str, Feature], entity_key: str) -> Replayed | None:
    values = row.get("features") or {}
    if row["entity"] is not None:
        if entity_key:
            tensor = {"name": entity_key, "datatype": "BYTES", "shape": [1], "data": [row["entity"]]}
            return Replayed({"inputs": [tensor]}, frozenset(values))
        if values.keys() != kinds.keys():
            # Its features were looked up: whoever asked by a key needs not send those that the candidate has more.
            return None
    features = [
        kinds.get(name) or Feature(name, "categorical" if isinstance(value, str) else "numeric")
        for name, value in values.items()
    ]
    return Replayed(v2_request(features, [values]), frozenset(values)) if features else None
