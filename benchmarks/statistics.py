"""What the statistics of a large table cost beside the best bare TFDV call. Run in the validation environment.

    python -m benchmarks.statistics [--rows N] [--repeats N]

A table of 20 columns (7 numbers, 7 whole numbers, 6 texts). Ours reads it with DuckDB, a share of the columns on each
core; the bare call reads it with Arrow and computes all columns in one process, which is faster than TFDV's own
`n_jobs`. Both begin with the Parquet file and end with the statistics, which have to be the same. Each is a process of
its own, the two in turn; the seconds leave out imports, but not the start of our other processes. Peak memory is that
of the process and of each that it started, taken together.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import cpu_count

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.tables import parquet_file
from kfp_lifecycle.data.table_statistics import Selection, Statistics, table_statistics
from kfp_lifecycle.data.tables import columns_of, tables_database
from kfp_lifecycle.data.tfdv import StatsOptions, generate_statistics_in_memory
from kfp_lifecycle.data.workers import workers

NUMBERS, WHOLE_NUMBERS, TEXTS = 7, 7, 6


TABLE = "large"


def write_table(folder: Path, rows: int) -> None:
    """The table, without missing values."""
    columns = [f"sin(i * {c + 1}) * {10**c} AS number_{c}" for c in range(NUMBERS)]
    columns += [f"(hash(i + {c}) % {10 ** (c + 1)})::BIGINT AS whole_{c}" for c in range(WHOLE_NUMBERS)]
    columns += [f"'text ' || hash(i - {c}) % {5 * (c + 1)} AS text_{c}" for c in range(TEXTS)]
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {', '.join(columns)} FROM range({rows}) n(i)) TO '{parquet_file(folder, TABLE)}' "
            "(FORMAT parquet)"
        )


def bare(folder: Path, rows: int) -> Statistics:
    """TFDV's statistics from Arrow's own reader: each cell a list of one, without a copy of the values."""
    table = pq.read_table(parquet_file(folder, TABLE)).combine_chunks()
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32))
    lists = [pa.ListArray.from_arrays(offsets, column.chunk(0)) for column in table.columns]
    return generate_statistics_in_memory(pa.RecordBatch.from_arrays(lists, names=table.column_names), StatsOptions())


def ours(folder: Path, rows: int) -> Statistics:
    """As validation computes them."""
    with tables_database(folder, [TABLE]) as connection:
        columns = columns_of(connection, f"SELECT * FROM {TABLE}")
        return table_statistics(connection, folder, Selection(TABLE, columns), rows)


WAYS = {"bare": bare, "ours": ours}


def run_one(way: str, folder: Path, rows: int) -> None:
    """Compute the statistics in this process, and print seconds and peak MB as JSON."""
    started = time.monotonic()
    found = WAYS[way](folder, rows)
    seconds = time.monotonic() - started
    (folder / f"{way}.pb").write_bytes(found.SerializeToString(deterministic=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "ours" and cpu_count() > 1:
        workers().shutdown()
        # That of the largest; their shares are alike.
        peak += (cpu_count() - 1) * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak": peak / 1024}))


def measure(way: str, folder: Path, rows: int) -> tuple[float, float]:
    """Seconds and peak MB of one way, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.statistics",
        "--rows",
        f"{rows}",
        "--way",
        way,
        "--folder",
        f"{folder}",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"{way}: {told['seconds']:.1f} s, peak {told['peak']:,.0f} MB", flush=True)
    return told["seconds"], told["peak"]


def main() -> None:
    """Print times, memory and their ratio."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="measure one in this process")
    parser.add_argument("--folder", type=Path, help="with --way: where the table is")
    arguments = parser.parse_args()
    if arguments.way:
        run_one(arguments.way, arguments.folder, arguments.rows)
        return
    with tempfile.TemporaryDirectory(prefix="statistics-") as place:
        folder = Path(place)
        write_table(folder, arguments.rows)
        pairs = [[measure(way, folder, arguments.rows) for way in WAYS] for _ in range(arguments.repeats)]
        if (folder / "bare.pb").read_bytes() != (folder / "ours.pb").read_bytes():
            raise SystemExit("the statistics differ")
    ratio = statistics.median(seconds / bare_seconds for (bare_seconds, _), (seconds, _) in pairs)
    columns = NUMBERS + WHOLE_NUMBERS + TEXTS
    what = f"statistics of {arguments.rows:,} x {columns}: ours / bare TFDV"
    print(f"{what}: {ratio:.2f} on {cpu_count()} cores, median of {len(pairs)} pairs; the same statistics")
    save_ratios([Ratio(what, ratio, "at most 1.1")], arguments.ratios)


if __name__ == "__main__":
    main()
