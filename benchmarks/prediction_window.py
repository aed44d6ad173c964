"""What a window of the prediction log costs beside a bare scan of the same columns. Run in the modelling environment.

    python -m benchmarks.prediction_window [--rows N] [--entities N]

A log of a week: a Parquet file for each hour, thirty features (24 numbers, 6 texts), as servers write them. Ours reads,
types and checks every value, keeps one row of each entity and writes the table; the scan is DuckDB's own, which adds up
every number and counts every text of the same columns and writes nothing. Each is a process of its own, on all cores.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.monitoring.log_files import Window, log_files
from kfp_lifecycle.monitoring.log_window import write_table

NUMBERS, TEXTS = 24, 6
INPUTS = [Feature(f"number_{number}", "numeric") for number in range(NUMBERS)]
INPUTS += [Feature(f"text_{number}", "categorical") for number in range(TEXTS)]
END = datetime(2026, 5, 20, tzinfo=UTC)
HOURS = 7 * 24


def write_log(log: Path, rows: int, entities: int) -> None:
    """A week of predictions, evenly over its hours."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        features = [f"number_{n} := (hash(i + {n}) % 100000) / 1000.0" for n in range(NUMBERS)]
        features += [f"text_{n} := 'text ' || hash(i - {n}) % {5 * (n + 1)}" for n in range(TEXTS)]
        for hour in range(HOURS):
            begin = END - timedelta(hours=HOURS - hour)
            file = log / "model" / f"{begin:%Y-%m-%d}" / f"{begin:%H}-1-host-1-1.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(
                f"COPY (SELECT '{begin:%Y-%m-%d %H}:00:00Z'::TIMESTAMPTZ + INTERVAL 1 SECOND * (i % 3600) AS time, "
                f"'request-' || i AS request_id, 'model' AS model, '1' AS version, "
                f"(hash(i) % {entities})::VARCHAR AS entity, struct_pack({', '.join(features)}) AS features, "
                "(hash(-i) % 1000) / 1000.0 AS score, i % 2 = 0 AS decision, 1.5 AS latency_ms, false AS shadow "
                f"FROM range({rows * hour // HOURS}, {rows * (hour + 1) // HOURS}) n(i)) "
                f"TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
            )


def ours(log: Path, scratch: Path) -> int:
    """As monitoring reads it; rows of the table."""
    window = Window(END - timedelta(days=7), END, END)
    files = log_files(str(log), "model", window, scratch)
    return write_table(files, INPUTS, window, scratch / "predictions.parquet", scratch).rows


def scan(log: Path, scratch: Path) -> int:
    """DuckDB's scan of the same columns; rows of the log."""
    numbers = ", ".join(f"sum(features.{item.name})" for item in INPUTS if item.type == "numeric")
    texts = ", ".join(f"count(features.{item.name})" for item in INPUTS if item.type == "categorical")
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(scratch)}) as connection:
        found = connection.execute(
            f"SELECT count(*), max(time), count(request_id), count(version), count(entity), sum(score), "
            f"count(decision), count(shadow), {numbers}, {texts} FROM read_parquet('{log}/model/*/*.parquet')"
        ).fetchone()
    assert found is not None
    return int(found[0])


WAYS = {"ours": ours, "scan": scan}


def measure(way: str, log: Path) -> dict[str, float]:
    """One way in a process of its own: rows, seconds of the clock and of the processors, and peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        command = [sys.executable, "-m", "benchmarks.prediction_window", "--way", way, "--log", str(log)]
        printed = subprocess.run(
            [*command, "--scratch", scratch], check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
    found: dict[str, float] = json.loads(printed)
    return found


def main() -> None:
    """Measure both in turn and print their ratio."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--scratch", type=Path)
    given = parser.parse_args()
    if given.way:
        began, used = time.perf_counter(), time.process_time()
        rows = WAYS[given.way](given.log, given.scratch)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": rows, "seconds": seconds, "processor": processor, "mb": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="prediction-window-") as folder:
        log = Path(folder) / "log"
        write_log(log, given.rows, given.entities)
        ratios = []
        for _ in range(given.repeats):
            scanned, read = measure("scan", log), measure("ours", log)
            for name, found in (("scan", scanned), ("ours", read)):
                print(
                    f"{name}: {found['rows']:,.0f} rows, {found['seconds']:.1f} s, {found['processor']:.1f} s of "
                    f"processors, {found['mb']:,.0f} MB"
                )
            ratios.append(read["processor"] / scanned["processor"])
    what = f"window of {given.rows:,} predictions with 30 features: processor time over DuckDB's scan of them"
    save_ratios(
        [
            Ratio(what, sorted(ratios)[len(ratios) // 2], "<= 3"),
            Ratio("its peak memory, GB", read["mb"] / 1000, "<= 2"),
        ],
        given.ratios,
    )
    print(f"{what}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
