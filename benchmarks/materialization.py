"""How much of an online store a materialization writes, and how long that takes, beside filling an empty store.

Made-up events in four feature views with sliding windows. A store is filled as of one moment, then as of an hour and a
day later, and once more as of a moment at which nothing had changed. Beside each stands an empty store filled as of
the same moment, and every value that it has must be in the first one too. On SQLite, and on Redis and PostgreSQL where
there is a server.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.features import AS_OF, write_inputs
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.online_store import MaterializedFeatures
from kfp_lifecycle.config.locations import Locations
from tests import servers
from tests.feature_steps import materialize, served
from tests.projects import save_locations

STRIDES = {
    "an hour later": timedelta(hours=1),
    "a day later": timedelta(days=1),
    "nothing changed": timedelta(days=1, seconds=1),
}
COMPARED = 500


@contextlib.contextmanager
def empty_stores(kind: str, folder: Path) -> Iterator[Callable[[], str]]:
    """The location of an empty store each time that it is asked for."""
    number = itertools.count()
    if kind == "sqlite":
        yield lambda: str(folder / f"{next(number)}.db")
    elif kind == "redis":
        with servers.redis() as url:
            yield lambda: f"{url}/{next(number)}"
    else:
        with servers.postgresql() as server:
            os.environ["ONLINE_STORE_PASSWORD"] = servers.PASSWORD
            place = f"postgresql://postgres:${{ONLINE_STORE_PASSWORD}}@127.0.0.1:{server.port}/postgres"
            yield lambda: f"{place}?sslmode=disable&db_schema=store_{next(number)}"


def filled(folder: Path, location: str, as_of: datetime) -> tuple[MaterializedFeatures, float]:
    """Materialize as of a moment: what the step says, and its seconds."""
    project, manifest = folder / "project", folder / "validated" / "manifest.json"
    save_locations(
        Locations(tracking_uri="-", dataset_remote="-", online_store=location, prediction_log="-", serving="local:-"),
        project,
    )
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "as_of": as_of.isoformat()}))
    began = time.perf_counter()
    return materialize(project, folder / "validated"), time.perf_counter() - began


def measure(kind: str, folder: Path, empty: Callable[[], str]) -> list[Ratio]:
    """One kind of store."""
    kept, start = empty(), AS_OF - timedelta(days=2)
    done, seconds = filled(folder, kept, start)
    print(f"{kind:11} {'filled':16} {sum(done.written.values()):8,} rows {seconds:7.1f} s")
    ratios = []
    for name, after in STRIDES.items():
        done, seconds = filled(folder, kept, start + after)
        beside = empty()
        whole, of_whole = filled(folder, beside, start + after)
        online, anew = (served(folder / "project", location) for location in (kept, beside))
        for entity in range(COMPARED):
            [kept_row], [anew_row] = online.lookup([entity], start + after), anew.lookup([entity], start + after)
            # A view that has fallen silent about an entity leaves its last values, which an empty store never had.
            if any(repr(kept_row[feature]) != repr(value) for feature, value in anew_row.items() if value is not None):
                sys.exit(f"{kind}, {name}: entity {entity} has other features in a store that was filled anew")
        print(
            f"{kind:11} {name:16} {sum(done.written.values()):8,} rows {seconds:7.1f} s   "
            f"all: {sum(whole.written.values()):8,} rows {of_whole:7.1f} s"
        )
        ratios.append(Ratio(f"filling anew over filling on, {kind}, {name}", of_whole / seconds))
    return ratios


def main() -> None:
    """Measure each kind of store that there is a server for."""
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=400_000)
    options = parser.parse_args()
    ratios: list[Ratio] = []
    for kind in ("sqlite", "redis", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="materialization-") as temporary:
            folder = Path(temporary)
            write_inputs(folder, options.users, options.events)
            try:
                with empty_stores(kind, folder) as empty:
                    ratios += measure(kind, folder, empty)
            except servers.ServerMissing as missing:
                print(missing)
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
