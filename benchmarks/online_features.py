"""How long one entity's features take in process, beside Feast's own `get_online_features` on the very same store.

The reference project's service, five stored views and one on-demand view, over a store of made-up values; 200 answers
are compared, bit for bit. On SQLite, and on Redis, PostgreSQL and Bigtable's emulator where they are.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureStore, RepoConfig
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.features.definitions import TIMESTAMP, Definitions, load_definitions
from kfp_lifecycle.features.online.store import Materialization, OnlineStore
from tests.feature_steps import served
from tests.projects import read_project
from tests.servers import PASSWORD, ServerMissing, bigtable, postgresql, redis

PROJECT = Path(__file__).resolve().parent.parent
AS_OF = datetime(2026, 6, 30, 12, tzinfo=UTC)
MISSING = 0.05

Lookup = Callable[[Any], dict[str, Any]]


def made_up(feast_type: FeastType, rows: int, chance: random.Random) -> pa.Array:
    """Values of a type, some of them missing."""
    makers: dict[FeastType, tuple[Callable[[], Any], pa.DataType]] = {
        Int32: (lambda: chance.randrange(100), pa.int32()),
        Int64: (lambda: chance.randrange(100), pa.int64()),
        Float32: (lambda: chance.gauss(0, 1), pa.float32()),
        Float64: (lambda: chance.gauss(0, 1), pa.float64()),
        Bool: (lambda: chance.random() < 0.5, pa.bool_()),
        String: (lambda: chance.choice(["basic", "plus", "premium"]), pa.string()),
        UnixTimestamp: (lambda: AS_OF - timedelta(seconds=chance.randrange(10_000_000)), pa.timestamp("us", "UTC")),
    }
    make, kind = makers[feast_type]
    return pa.array([None if chance.random() < MISSING else make() for _ in range(rows)], kind)


def fill(location: str, name: str, definitions: Definitions, entities: int) -> OnlineStore:
    """A store with made-up values of every view that the service needs."""
    store, chance = OnlineStore(location, name, definitions, create=True), random.Random(7)
    views = definitions.views_of(definitions.features)
    for view in views:
        columns = {definitions.key: pa.array(range(entities), pa.int64())}
        columns |= {f.name: made_up(f.dtype, entities, chance) for f in definitions.views[view].features}
        columns[TIMESTAMP] = pa.array([AS_OF] * entities, pa.timestamp("us", "UTC"))
        store.write(view, pa.RecordBatch.from_pydict(columns))
    store.note(Materialization(definitions.version, AS_OF, "", dict.fromkeys(views, entities), 0))
    return store


def feasts_own(store: OnlineStore, configuration: Configuration, definitions: Definitions, folder: Path) -> Lookup:
    """Feast's way to the same values: its registry, its service, its response."""
    settings = store.configuration
    feast = FeatureStore(
        config=RepoConfig(
            project=settings.project,
            provider="local",
            registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
            online_store=settings.online_store.model_dump(),
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=settings.entity_key_serialization_version,
        )
    )
    feast.apply([definitions.entity, *definitions.views.values(), *definitions.on_demand.values(), definitions.service])
    service = feast.get_feature_service(configuration.features.service)

    def lookup(key: Any) -> dict[str, Any]:
        row = {definitions.key: key, "request_time": AS_OF}
        answer = feast.get_online_features(features=service, entity_rows=[row]).to_dict()
        return {name: values[0] for name, values in answer.items()}

    return lookup


def same(definitions: Definitions, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether both give the same features, to the bit; Feast gives whole numbers as such."""
    return all(
        repr(ours[f.name]) == repr(float(value) if f.type == "numeric" and value is not None else value)
        for f in definitions.features
        for value in [theirs[f.name]]
    )


def timed(lookups: dict[str, Lookup], keys: list[int]) -> dict[str, np.ndarray]:
    """Microseconds of each request; the ways take turns, so that whatever else the machine does meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in lookups}
    for key in keys:
        for name, lookup in lookups.items():
            began = time.perf_counter_ns()
            lookup(key)
            taken[name].append((time.perf_counter_ns() - began) / 1000)
    return {name: np.array(values) for name, values in taken.items()}


def measure(kind: str, location: str, entities: int, requests: int, folder: Path) -> list[Ratio]:
    """One kind of store."""
    project = read_project(PROJECT)
    configuration, definitions = project.settings, load_definitions(project.feature_repo, project.settings)
    store = fill(location, configuration.name, definitions, entities)
    online = served(PROJECT, location)
    lookups: dict[str, Lookup] = {
        "ours": lambda key: online.lookup([key], AS_OF)[0],
        "feast": feasts_own(store, configuration, definitions, folder),
    }
    for key in range(min(entities, 200)):
        if not same(definitions, lookups["ours"](key), lookups["feast"](key)):
            sys.exit(f"{kind}: entity {key} has other features by get_online_features")
    chance = random.Random(1)
    taken = timed(lookups, [chance.randrange(entities) for _ in range(requests)])
    for name, values in taken.items():
        print(f"{kind:11} {name:8} p50 {np.quantile(values, 0.5):8,.0f} µs   p99 {np.quantile(values, 0.99):8,.0f} µs")
    return [
        Ratio(
            f"get_online_features over ours, {kind}, p{quantile * 100:.0f}",
            float(np.quantile(taken["feast"], quantile) / np.quantile(taken["ours"], quantile)),
            "≥ 5" if quantile == 0.5 and kind in ("sqlite", "redis") else "",
        )
        for quantile in (0.5, 0.99)
    ]


@contextlib.contextmanager
def location_of(kind: str, folder: Path) -> Iterator[str]:
    """An empty store of a kind."""
    if kind == "sqlite":
        yield str(folder / "online.db")
    elif kind == "redis":
        with redis() as url:
            yield url
    elif kind == "bigtable":
        with bigtable() as address:
            os.environ["BIGTABLE_EMULATOR_HOST"] = address
            yield "bigtable://benchmark/instance"
    else:
        with postgresql() as server:
            os.environ["ONLINE_STORE_PASSWORD"] = PASSWORD
            yield f"postgresql://postgres:${{ONLINE_STORE_PASSWORD}}@127.0.0.1:{server.port}/postgres?sslmode=disable"


def main() -> None:
    """Measure each kind of store that there is a server for."""
    parser = argument_parser(__doc__)
    parser.add_argument("--entities", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=2_000)
    options = parser.parse_args()
    ratios: list[Ratio] = []
    for kind in ("sqlite", "redis", "postgresql", "bigtable"):
        with tempfile.TemporaryDirectory(prefix="online-features-") as temporary:
            folder = Path(temporary)
            try:
                with location_of(kind, folder) as location:
                    ratios += measure(kind, location, options.entities, options.requests, folder)
            except ServerMissing as missing:
                print(missing)
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
