"""How long a training set takes, beside the bare DuckDB query and beside Feast's default (file, dask) offline store.

Made-up events of many entities, four feature views, twelve snapshots; each way in a process of its own, which tells its
seconds (without imports), the processor time in them, and its peak resident memory. Where others take part of the cores
the ratio of processor time is the one to trust, for ways that use all cores alike:

- ours: `build_training_set`, all of it: labels, views, the join, checks, the skew gate, Parquet files;
- bare: the same views and labels in one DuckDB query for each snapshot, no Feast and no check, all cores;
- dask: Feast's default offline store joins the view values that were computed for ours: only the join, no view's SQL.
  It is held against our join of the same values.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.config.locations import local_locations
from tests.projects import read_project, save_locations

AS_OF = datetime(2026, 6, 30, tzinfo=UTC)
DAYS = 400
SNAPSHOTS, EVERY_DAYS, HORIZON_DAYS = 12, 10, 5

PIPELINE = f"""
name: speed
title: Speed
entity: {{name: user, key: user_id}}
source:
  url: file:///unused
  tables:
    users: {{key: [user_id], event_time: joined_at}}
    events: {{key: [event_id], event_time: happened_at, arrival_time: arrived_at}}
snapshots: {{every_days: {EVERY_DAYS}, count: {SNAPSHOTS}}}
label: {{name: silent, title: silent, horizon_days: {HORIZON_DAYS}}}
split: {{validation_snapshots: 1, test_snapshots: 1}}
features: {{service: speed, freshness_days: 35}}
gate: {{rules: [{{metric: performance.roc_auc, min: 0.5}}]}}
deployment: {{model: speed}}
"""

FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)


def view(name, **features):
    return FeatureView(
        name=name,
        entities=[user],
        schema=[Field(name="user_id", dtype=Int64), *(Field(name=n, dtype=t) for n, t in features.items())],
        source=FileSource(path=f"{name}.parquet", timestamp_field="event_timestamp"),
    )


counts = view("counts", events_7=Int64, events_30=Int64)
amounts = view("amounts", total=Float64, mean_90=Float64)
newest = view("newest", newest_kind=String, newest_amount=Float64)
kinds = view("kinds", kind_a=Int64, kind_b=Int64)
speed = FeatureService(name="speed", features=[counts, amounts, newest, kinds])
"""

VIEWS = {
    "counts": """
        SELECT user_id, count(*) FILTER (happened_at > $as_of - INTERVAL 7 DAY) AS events_7, count(*) AS events_30
        FROM events WHERE happened_at > $as_of - INTERVAL 30 DAY GROUP BY user_id""",
    "amounts": """
        SELECT user_id, sum(amount) AS total,
            avg(amount) FILTER (happened_at > $as_of - INTERVAL 90 DAY) AS mean_90
        FROM events GROUP BY user_id""",
    "newest": """
        SELECT user_id, arg_max(kind, event_id) AS newest_kind, arg_max(amount, event_id) AS newest_amount
        FROM events WHERE happened_at > $as_of - INTERVAL 30 DAY GROUP BY user_id""",
    "kinds": """
        SELECT user_id, count(*) FILTER (kind = 'a') AS kind_a, count(*) FILTER (kind = 'b') AS kind_b
        FROM events WHERE happened_at > $as_of - INTERVAL 90 DAY GROUP BY user_id""",
}

LABEL = """
SELECT user_id, (user_id NOT IN (
    SELECT user_id FROM events WHERE happened_at > $snapshot AND happened_at <= $horizon
))::INTEGER AS silent
FROM users WHERE joined_at <= $snapshot
"""

CUT = "CREATE OR REPLACE TEMP VIEW events AS FROM '{file}' WHERE happened_at <= $as_of AND arrived_at <= $as_of"


def write_inputs(folder: Path, users: int, events: int) -> None:
    """The project, and validated tables of so many users and events."""
    import duckdb

    repository, tables = folder / "project" / "feature_repo", folder / "validated"
    repository.mkdir(parents=True)
    tables.mkdir()
    save_locations(local_locations(folder / "state", "speed"), folder / "project")
    (folder / "project" / "pipeline.yaml").write_text(PIPELINE)
    (repository / "features.py").write_text(FEATURES)
    (repository / "label.sql").write_text(LABEL)
    for name, sql in VIEWS.items():
        (repository / f"{name}.sql").write_text(sql)
    start = f"TIMESTAMP '{AS_OF - timedelta(days=DAYS):%Y-%m-%d}'"
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(folder)}) as connection:
        connection.execute(
            f"COPY (SELECT range AS user_id, {start} AS joined_at FROM range({users})) TO '{tables / 'users.parquet'}'"
        )
        # In the order of time, as ingested tables are.
        connection.execute(
            f"""COPY (SELECT range AS event_id, (hash(range) % {users})::BIGINT AS user_id,
                {start} + INTERVAL 1 SECOND * (range * {DAYS * 86_400} // {events}) AS happened_at,
                happened_at + INTERVAL 1 MINUTE * (hash(range + 1) % 600)::INTEGER AS arrived_at,
                (hash(range + 2) % 10000) / 100 AS amount, chr(97 + (hash(range + 3) % 4)::INTEGER) AS kind
            FROM range({events})) TO '{tables / "events.parquet"}' (COMPRESSION zstd)"""
        )
    summary = {name: TableSummary(rows=rows, columns={}) for name, rows in (("users", users), ("events", events))}
    Manifest(as_of=AS_OF, tables=summary).write(tables)


def snapshots() -> list[datetime]:
    """As the pipeline takes them."""
    newest = AS_OF - timedelta(days=HORIZON_DAYS)
    return [newest - timedelta(days=EVERY_DAYS) * back for back in reversed(range(SNAPSHOTS))]


def ours(folder: Path) -> int:
    """The whole step; rows of the training set, with those of snapshots that keep the parts apart."""
    from tests.feature_steps import build

    described = build(folder / "project", folder / "validated", folder / "ours")
    return int(sum(described.rows.values()) + described.rows_left_out)


def bare(folder: Path) -> int:
    """Labels and views of every snapshot, one query each."""
    import duckdb

    rows = 0
    (folder / "bare").mkdir()
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder)}) as connection:
        connection.execute(f"CREATE VIEW users AS FROM '{folder / 'validated' / 'users.parquet'}'")
        for number, snapshot in enumerate(snapshots()):
            moments = {"as_of": snapshot, "snapshot": snapshot, "horizon": snapshot + timedelta(days=HORIZON_DAYS)}

            def filled(sql: str, moments: dict[str, datetime] = moments) -> str:
                for name, moment in moments.items():
                    sql = sql.replace(f"${name}", f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'")
                return sql

            file = folder / "validated" / "events.parquet"
            label = LABEL.replace("FROM events", f"FROM '{file}'")
            connection.execute(filled(CUT.format(file=file)))
            joins = " ".join(f"LEFT JOIN ({sql}) AS {name} USING (user_id)" for name, sql in VIEWS.items())
            target = folder / "bare" / f"{number}.parquet"
            connection.execute(filled(f"COPY (FROM ({label}) AS label {joins} ORDER BY user_id) TO '{target}'"))
            rows += connection.execute(f"SELECT count(*) FROM '{target}'").fetchall()[0][0]
    return rows


def view_values(folder: Path) -> int:
    """The values that both joins read, one file for each view."""
    import duckdb

    from kfp_lifecycle.features.definitions import load_definitions
    from kfp_lifecycle.features.offline.point_in_time import write_view_values

    project = read_project(folder / "project")
    definitions, tables = load_definitions(project.feature_repo, project.settings), project.settings.source.tables
    write_view_values(folder / "validated", tables, definitions, VIEWS, snapshots(), folder / "values")
    for view in VIEWS:
        duckdb.sql(f"COPY (FROM '{folder}/values/{view}/*.parquet') TO '{folder}/values/{view}.parquet'")
    moments = " UNION ALL ".join(f"SELECT TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S}+00' AS t" for moment in snapshots())
    duckdb.sql(
        f"COPY (SELECT user_id, t AS event_timestamp FROM '{folder}/validated/users.parquet', ({moments}) "
        f"ORDER BY t, user_id) TO '{folder}/values/entities.parquet'"
    )
    return len(VIEWS)


def joined(folder: Path) -> int:
    """Our join of the view values, in bounded batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from kfp_lifecycle.features.definitions import load_definitions
    from kfp_lifecycle.features.offline.history import FeatureHistory
    from kfp_lifecycle.features.offline.point_in_time import BATCH_ROWS

    project = read_project(folder / "project")
    definitions = load_definitions(project.feature_repo, project.settings)
    history = FeatureHistory(definitions, folder / "values")
    batches = pq.ParquetFile(folder / "values" / "entities.parquet").iter_batches(BATCH_ROWS)
    return sum(len(history.features_of(pa.Table.from_batches([batch]), definitions.features)) for batch in batches)


def dask(folder: Path) -> int:
    """Feast's default offline store, as it comes."""
    import copy

    import pandas as pd
    from feast import FeatureStore, FileSource, RepoConfig

    from kfp_lifecycle.features.definitions import load_definitions

    project = read_project(folder / "project")
    definitions = load_definitions(project.feature_repo, project.settings)
    views = []
    for view in definitions.views.values():
        stored = copy.copy(view)
        path = str(folder / "values" / f"{view.name}.parquet")
        stored.batch_source = FileSource(path=path, timestamp_field="event_timestamp")
        views.append(stored)
    registry = {"path": str(folder / "dask.db")}
    store = FeatureStore(
        config=RepoConfig(
            project="dask", provider="local", registry=registry, online_store=None, entity_key_serialization_version=3
        )
    )
    store.apply([definitions.entity, *views])
    entities = pd.read_parquet(folder / "values" / "entities.parquet")
    features = definitions.sources(definitions.features)
    return len(store.get_historical_features(entity_df=entities, features=features).to_df())


WAYS = {"ours": ours, "bare": bare, "values": view_values, "join": joined, "dask": dask}


@dataclass(frozen=True)
class Taken:
    """What one way took, and gave."""

    seconds: float
    processor: float
    mb: float
    rows: int


def run_way(name: str, folder: Path) -> Taken:
    """One way, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.features", "--way", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken = Taken(**json.loads(done.stdout.strip().splitlines()[-1]))
    print(
        f"{name:7} {taken.seconds:8.1f} s {taken.processor:8.1f} s of processor time {taken.mb:7,.0f} MB "
        f"{taken.rows:10,} rows",
        flush=True,
    )
    return taken


def tell(name: str, folder: Path) -> None:
    """Do one way's work here, and say what it took. Imports are not part of it: every way imports Feast or DuckDB."""
    import kfp_lifecycle.components.features.build_training_set.training_set  # noqa: F401

    began, used = time.perf_counter(), time.process_time()
    rows = WAYS[name](folder)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "processor": processor, "mb": peak / 1024, "rows": rows}))


def main() -> None:
    """Measure all ways, one after the other."""
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, default=10_000, help="a twelfth of the labelled rows")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--without-dask", action="store_true")
    parser.add_argument("--way", choices=WAYS, help="only for the processes that this program starts")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        tell(options.way, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="features-") as temporary:
        folder = Path(temporary)
        write_inputs(folder, options.users, options.events)
        print(f"{options.users * SNAPSHOTS:,} labelled rows, {len(VIEWS)} views, {options.events:,} events", flush=True)
        step, query = run_way("ours", folder), run_way("bare", folder)
        run_way("values", folder)
        own_join = run_way("join", folder)
        ratios = [
            Ratio("build_training_set over the bare DuckDB query, seconds", step.seconds / query.seconds, "≤ 1.5"),
            Ratio("the same, processor time", step.processor / query.processor, "≤ 1.5"),
        ]
        if not options.without_dask:
            default = run_way("dask", folder)
            print(f"Feast's default store returned {default.rows:,} of {own_join.rows:,} rows")
            ratios.append(
                Ratio("Feast's default store over our join, seconds", default.seconds / own_join.seconds, "≥ 10")
            )
    save_ratios(ratios, options.ratios)
    for ratio in ratios:
        print(f"{ratio.what}: {ratio.value:.2f}")


if __name__ == "__main__":
    main()
