"""What monitoring a window of the prediction log costs beside a bare scan of it and Evidently on a sample. Run in the
modelling environment.

    python -m benchmarks.prediction_window [--rows N] [--entities N] [--keyless SHARE]

A log of a week: a Parquet file for each hour, thirty features (24 numbers, 6 texts), with the columns and by the writer
of the model server. Each way is a process of its own, on all cores, and all are measured in turn:

- `read`: ours types and checks every value, keeps one row of each entity and writes the table;
- `drift`: ours compares that table with a baseline of eight dates, with each caller left out, and asks Evidently for
  each column's distance;
- `scan`: DuckDB's own, which adds up every number and counts every text of the same columns and writes nothing;
- `evidently`: its preset for drift, on as many rows as ours compares;
- `nothing`: ours collects and judges a window in which nobody asked, which is what it costs however little there is.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
from pyarrow import parquet

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.drift import SCORE
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.monitoring.log_files import Window, log_files
from kfp_lifecycle.monitoring.log_window import open_log, served_versions, write_table
from kfp_lifecycle.serving.server.log_batch import log_schema
from tests.registered import make_champion
from tests.tiny_model import make

NUMBERS, TEXTS = 24, 6
INPUTS = [Feature(f"number_{number}", "numeric") for number in range(NUMBERS)]
INPUTS += [Feature(f"text_{number}", "categorical") for number in range(TEXTS)]
END = datetime(2026, 5, 20, tzinfo=UTC)
HOURS = 7 * 24
DATES, ROWS_OF_A_DATE = 8, 2_500
TABLE, BASELINE, SAMPLE = "predictions.parquet", "baseline.parquet", "sample.parquet"

# Two in a hundred numbers are missing.
NUMBER = "CASE WHEN hash(i, {n}) % 50 > 0 THEN (hash(i + {n}) % 100000) / 1000.0 END"
VALUES = {f"number_{n}": NUMBER.format(n=n) for n in range(NUMBERS)}
VALUES |= {f"text_{n}": f"'text ' || hash(i - {n}) % {5 * (n + 1)}" for n in range(TEXTS)}
SCORES = "(hash(-i) % 1000) / 1000.0"


def write_log(folder: Path, rows: int, entities: int, keyless: float) -> None:
    """A week of predictions, evenly over its hours; a baseline of the same world, and a sample of the log's size."""
    schema = log_schema(*([item.name for item in INPUTS if item.type == kind] for kind in ("numeric", "categorical")))
    values = ", ".join(f"{name} := {value}" for name, value in VALUES.items())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for hour in range(HOURS):
            begin = END - timedelta(hours=HOURS - hour)
            file = folder / "log" / "model" / f"{begin:%Y-%m-%d}" / f"{begin:%H}-1-host-1-1.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            table = connection.sql(
                f"SELECT '{begin:%Y-%m-%d %H}:00:00Z'::TIMESTAMPTZ + INTERVAL 1 SECOND * (i % 3600) AS time, "
                f"'request-' || i AS request_id, 'model' AS model, '1' AS version, "
                f"CASE WHEN hash(i, 'key') % 1000 >= {1000 * keyless} THEN (hash(i) % {entities})::VARCHAR END "
                f"AS entity, struct_pack({values}) AS features, {SCORES} AS score, i % 2 = 0 AS decision, "
                "NULL::BOOLEAN AS hold_out, 1.5 AS latency_ms, false AS shadow, 'caller ' || i % 4 AS caller "
                f"FROM range({rows * hour // HOURS}, {rows * (hour + 1) // HOURS}) n(i)"
            ).to_arrow_table()
            parquet.write_table(table.cast(schema), file, compression="zstd")
        columns = ", ".join(f"{value} AS {name}" for name, value in {**VALUES, SCORE: SCORES}.items())
        for name, count in ((BASELINE, DATES * ROWS_OF_A_DATE), (SAMPLE, 20_000)):
            connection.execute(
                f"COPY (SELECT {columns}, i % {DATES} AS event_timestamp FROM range(-{count}, 0) n(i)) "
                f"TO '{folder / name}' (FORMAT parquet)"
            )


def read(folder: Path, scratch: Path) -> int:
    """As monitoring reads it; rows of the table."""
    window = Window(END - timedelta(days=7), END, END)
    files = log_files(str(folder / "log"), "model", window, scratch)
    with open_log(files, scratch, writable=folder) as log:
        assert served_versions(log, window) == ["1"]
        return write_table(log, INPUTS, window, folder / TABLE).rows


def drift(folder: Path, scratch: Path) -> int:
    """As monitoring judges what it read; rows compared."""
    import pandas as pd

    from kfp_lifecycle.components.monitoring.detect_drift.callers import decisive_caller
    from kfp_lifecycle.components.monitoring.detect_drift.detection import independent, read_predictions
    from kfp_lifecycle.components.monitoring.detect_drift.distances import evidently_distance
    from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
    from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
    from kfp_lifecycle.config.monitoring import Monitoring

    rule = Monitoring()
    baseline = Baseline(pd.read_parquet(folder / BASELINE), INPUTS)
    compared = independent(read_predictions(folder / TABLE, INPUTS, "1"), seed=0)
    findings = baseline.compare(compared, rule, evidently_distance)
    judged = decide(findings, len(INPUTS), len(compared), rule)
    assert judged.decision == "keep", judged.sentence
    assert decisive_caller(baseline, compared, findings, judged, rule) is None
    return len(compared)


def scan(folder: Path, scratch: Path) -> int:
    """DuckDB's scan of the same columns; rows of the log."""
    numbers = ", ".join(f"sum(features.{item.name})" for item in INPUTS if item.type == "numeric")
    texts = ", ".join(f"count(features.{item.name})" for item in INPUTS if item.type == "categorical")
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(scratch)}) as connection:
        found = connection.execute(
            f"SELECT count(*), max(time), count(request_id), count(version), count(entity), sum(score), "
            f"count(decision), count(shadow), count(caller), {numbers}, {texts} "
            f"FROM read_parquet('{folder}/log/model/*/*.parquet')"
        ).fetchone()
    assert found is not None
    return int(found[0])


def evidently(folder: Path, scratch: Path) -> int:
    """Evidently's preset for drift; rows compared."""
    import pandas as pd

    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = {
        "numerical_columns": [SCORE, *(item.name for item in INPUTS if item.type == "numeric")],
        "categorical_columns": [item.name for item in INPUTS if item.type == "categorical"],
    }
    definition = DataDefinition(**columns)
    before = pd.read_parquet(folder / BASELINE, filters=[("event_timestamp", "==", 0)])
    current = pd.read_parquet(folder / SAMPLE)
    Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(before, data_definition=definition),
    ).dict()
    return len(current)


def nothing(folder: Path, scratch: Path) -> int:
    """The steps `collect_predictions` and `detect_drift` on an empty log."""
    from kfp_lifecycle.components.monitoring.collect_predictions.collection import collect_predictions
    from kfp_lifecycle.components.monitoring.detect_drift.detection import detect_drift
    from kfp_lifecycle.config.locations import Locations
    from kfp_lifecycle.config.settings import given_settings

    reads = ("deployment.model", "monitoring", "training.seed")
    settings = given_settings({"deployment": {"model": "devices"}}, reads, "monitoring")
    locations = Locations(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        dataset_remote="-",
        online_store="-",
        prediction_log=str(folder / "empty"),
        serving="local:-",
    )
    collect_predictions(settings, locations, scratch / "predictions", now=END)
    detect_drift(settings, locations, scratch / "predictions", scratch / "drift")
    return 0


def write_champion(folder: Path) -> None:
    """A registry with a small model in production."""
    make(folder / "model")
    reference = {"temperature": [1.0, 2.0], "site": ["north", "south"], SCORE: [0.5, 0.6]}
    parquet.write_table(pa.table(reference), folder / "model" / "baseline" / "reference.parquet")
    make_champion(folder / "model", f"sqlite:///{folder / 'mlflow.db'}", "devices")


WAYS = {"scan": scan, "read": read, "evidently": evidently, "drift": drift, "nothing": nothing}


def measure(way: str, folder: Path) -> dict[str, float]:
    """One way in a process of its own: rows, seconds of the clock and of the processors, and peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "benchmarks.prediction_window", "--way", way, "--folder", str(folder)]
        printed = subprocess.run(
            [*command, "--scratch", scratch], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.splitlines()[-1]
    found: dict[str, float] = json.loads(printed)
    print(
        f"{way}: {found['rows']:,.0f} rows, {found['seconds']:.1f} s, {found['processor']:.2f} s of processors "
        f"({found['whole']:.2f} s with the start of its process), {found['mb']:,.0f} MB"
    )
    return found


def main() -> None:
    """Measure all in turn and print their ratios."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--keyless", type=float, default=0.01, help="share of the requests that name no entity")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--scratch", type=Path)
    given = parser.parse_args()
    if given.way:
        began, used = time.perf_counter(), time.process_time()
        rows = WAYS[given.way](given.folder, given.scratch)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        # All that the process used, its imports too.
        since_start = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": rows, "seconds": seconds, "processor": processor, "whole": since_start, "mb": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="prediction-window-") as place:
        folder = Path(place)
        write_log(folder, given.rows, given.entities, given.keyless)
        write_champion(folder)
        rounds = [{way: measure(way, folder) for way in WAYS} for _ in range(given.repeats)]
    what = f"window of {given.rows:,} predictions with 30 features, {given.keyless:.0%} without an entity"
    reading = [found["read"]["processor"] / found["scan"]["processor"] for found in rounds]
    whole = [
        sum(found[way]["processor"] for way in ("read", "drift"))
        / sum(found[way]["processor"] for way in ("scan", "evidently"))
        for found in rounds
    ]
    memory = max(found[way]["mb"] for found in rounds for way in ("read", "drift")) / 1000
    ratios = [
        Ratio(f"{what}: reading it, of DuckDB's scan, processor time", sorted(reading)[len(rounds) // 2], "<= 3"),
        Ratio("its reading and drift, of that scan and Evidently's preset", sorted(whole)[len(rounds) // 2], "<= 3"),
        Ratio("its peak memory, GB", memory, "<= 2"),
    ]
    save_ratios(ratios, given.ratios)
    for ratio, every in zip(ratios, (reading, whole), strict=False):
        print(f"{ratio.what}: {', '.join(f'{value:.2f}' for value in every)}")


if __name__ == "__main__":
    main()
