"""What the statistics of a large table cost beside the best bare TFDV call. Run in the validation environment.

    python -m benchmarks.statistics [--rows N]

A table of 20 columns (7 numbers, 7 whole numbers, 6 texts). Ours reads it with DuckDB, a share of the columns on each
core; the bare call reads it with Arrow and computes all columns in one process, which is faster than TFDV's own
`n_jobs`. Both begin with the Parquet file and end with the statistics, which have to be the same; the seconds leave out
imports, but not the start of our other processes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from components.data.tables import TableSummary, parquet_file, tables_database
from components.data.validate_data.table_statistics import Selection, Statistics, table_statistics
from components.data.validate_data.tfdv import StatsOptions, generate_statistics_in_memory
from components.data.validate_data.workers import cores

NUMBERS, WHOLE_NUMBERS, TEXTS = 7, 7, 6


def write_table(folder: Path, rows: int) -> TableSummary:
    """The table, without missing values."""
    columns = [f"sin(i * {c + 1}) * {10**c} AS number_{c}" for c in range(NUMBERS)]
    columns += [f"hash(i + {c}) % {10 ** (c + 1)} AS whole_{c}" for c in range(WHOLE_NUMBERS)]
    columns += [f"'text ' || hash(i - {c}) % {5 * (c + 1)} AS text_{c}" for c in range(TEXTS)]
    file = parquet_file(folder, "large")
    with duckdb.connect() as connection:
        casts = [column.replace(" AS whole", "::BIGINT AS whole") for column in columns]
        connection.execute(f"COPY (SELECT {', '.join(casts)} FROM range({rows}) n(i)) TO '{file}' (FORMAT parquet)")
        described = connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
    return TableSummary(rows=rows, columns={name: kind for name, kind, *_ in described})


def bare(file: Path) -> Statistics:
    """TFDV's statistics from Arrow's own reader: each cell a list of one, without a copy of the values."""
    table = pq.read_table(file).combine_chunks()
    offsets = pa.array(np.arange(table.num_rows + 1, dtype=np.int32))
    lists = [pa.ListArray.from_arrays(offsets, column.chunk(0)) for column in table.columns]
    return generate_statistics_in_memory(pa.RecordBatch.from_arrays(lists, names=table.column_names), StatsOptions())


def main() -> None:
    """Print both times and their ratio."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="statistics-") as place:
        folder = Path(place)
        summary = write_table(folder, arguments.rows)
        started = time.monotonic()
        theirs = bare(parquet_file(folder, "large"))
        bare_seconds = time.monotonic() - started
        started = time.monotonic()
        with tables_database(folder, ["large"]) as connection:
            ours = table_statistics(connection, folder, Selection("large", summary.columns), summary.rows)
        seconds = time.monotonic() - started
    same = _by_name(ours) == _by_name(theirs)
    print(f"{arguments.rows:,} x {len(summary.columns)}: bare TFDV {bare_seconds:.1f} s, ours {seconds:.1f} s "
          f"on {cores()} cores; the same statistics: {same}")  # fmt: skip
    if not same:
        raise SystemExit("the statistics differ")
    what = f"statistics of {arguments.rows:,} x {len(summary.columns)}: ours / bare TFDV"
    save_ratios([Ratio(what, seconds / bare_seconds, "at most 1.1")], arguments.ratios)


def _by_name(statistics: Statistics) -> dict[str, bytes]:
    return {
        feature.path.step[0]: feature.SerializeToString(deterministic=True)
        for feature in statistics.datasets[0].features
    }


if __name__ == "__main__":
    main()
