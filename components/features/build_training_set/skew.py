"""Training-serving skew check: some training rows, asked of the online path, have to come back bit for bit."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.training_set import SkewCheck
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import SplitBy
from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.offline.point_in_time import moment_of
from kfp_lifecycle.features.offline.store import DUCKDB
from kfp_lifecycle.features.online.filling import fill, those_of
from kfp_lifecycle.features.online.store import OnlineStore
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.online_features import OnlineFeatures

SHOWN = 5
TOLERANCE = 1e-9
"""How far a floating-point value of a warehouse may be off DuckDB's, of its size or of 1."""


def check_skew(
    configuration: Configuration,
    definitions: Definitions,
    validated: Path,
    snapshot: datetime,
    rows: pa.Table,
    scratch: Path,
    offline_store: str,
) -> SkewCheck:
    """Ask the server's own code for the features of training rows, over a store filled as a materialization fills it.

    The views' SQL runs anew on the tables as of the snapshot, and each entity is asked for alone, as requests do: so
    SQL that gives another result when it is repeated, a function that looks beyond its row, and a store that rounds
    are all found out. The store is filled by DuckDB, whatever computed the training set: so a definition that means
    something else in a warehouse is found out too. A warehouse adds numbers in an order of its own, so that floating-
    point values of its may be off by TOLERANCE; all others have to be the same.

    Args:
        configuration: What the step was given of the configuration.
        definitions: The project's feature definitions.
        validated: The validated tables.
        snapshot: The moment that the rows are of.
        rows: Training rows of that snapshot.
        scratch: What `compute_view_values` wrote; the store is written beside it.
        offline_store: What computed it.

    Raises:
        ContractViolation: a value differs in one bit; the message shows entity, feature and both values.
    """
    sample = evenly_spaced(rows, configuration.features.skew_sample)
    keys = sample[definitions.key].to_pylist()
    place = scratch / "skew.db"
    store = OnlineStore(str(place), configuration.name, definitions, create=True)
    write_earlier_values(store, definitions, snapshot, keys, scratch)
    fill(store, validated, configuration.source.tables, definitions, snapshot, only=keys)
    online = OnlineFeatures(definitions.folder, configuration, str(place))
    names = [feature.name for feature in definitions.features]
    same = same_bits if offline_store == DUCKDB else nearly_same
    differences = [
        f"{definitions.key} {key!r}: {name} is {offline[name]!r} in training and {answer[name]!r} online"
        for key, offline in zip(keys, sample.select(names).to_pylist(), strict=True)
        for answer in online.lookup([key], snapshot)
        for name in names
        if not same(offline[name], answer[name])
    ]
    if differences:
        raise ContractViolation(
            f"The model would get other features online than it is trained on: {len(differences):,} of the "
            f"{len(keys) * len(names):,} values compared differ, as of {snapshot:%Y-%m-%d %H:%M:%S} UTC.\n  "
            + "\n  ".join([*differences[:SHOWN], *(["…"] if len(differences) > SHOWN else [])])
            + f"\nMend the definition in {configuration.features.repository}: SQL has to give the same result each "
            "time (an ORDER BY that leaves no ties), and an on-demand function may look at nothing but its own row."
            + ("" if same is same_bits else " It has to mean the same in DuckDB and in the offline store, too.")
        )
    by_time = configuration.split.by is SplitBy.time
    return SkewCheck(snapshot=f"{snapshot:%Y-%m-%d}" if by_time else None, entities=len(keys), features=len(names))


def write_earlier_values(
    store: OnlineStore, definitions: Definitions, snapshot: datetime, keys: list[Any], scratch: Path
) -> None:
    """Write what earlier materializations would have left of entities that a view says nothing of any more: the
    training set falls back on it until it is too old."""
    for view in definitions.views_of(definitions.features):
        silent = set(keys)
        for file in sorted((scratch / view).glob("*.parquet"), reverse=True):
            moment = moment_of(file)
            if moment > snapshot or moment < snapshot - definitions.freshness or not silent:
                continue
            for batch in pq.ParquetFile(file).iter_batches():
                known = those_of(batch, definitions.key, silent)
                silent -= set(known[definitions.key].to_pylist())
                if moment < snapshot:
                    store.write(view, known)


def evenly_spaced(rows: pa.Table, most: int) -> pa.Table:
    """At most so many of the rows, the first and the last among them."""
    count = min(most, len(rows))
    return rows.take([round(place * (len(rows) - 1) / max(count - 1, 1)) for place in range(count)])


def same_bits(offline: Any, online: Any) -> bool:
    """Whether two values are one: 0.0 is not -0.0, and None is None alone."""
    return type(offline) is type(online) and repr(offline) == repr(online)


def nearly_same(offline: Any, online: Any) -> bool:
    """Whether two values are one, or numbers that differ by TOLERANCE at the most."""
    if isinstance(offline, float) and isinstance(online, float):
        return math.isclose(offline, online, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return same_bits(offline, online)
