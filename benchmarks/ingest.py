"""Ingest from PostgreSQL beside the bare driver, and the memory that it takes for it: what the contract costs.

    python benchmarks/run.py ingest
    PYTHONPATH=. ENVIRONMENT/bin/python -m benchmarks.ingest --rows 50000000

Each reading is a process of its own, so that its peak memory is its own. The bare reading is what a person would write
by hand: ADBC's record batches into Parquet. Ingest does the same and then sorts, types, checks and summarises.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import yaml

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from project.stores import local_stores, save_stores
from tests.servers import PASSWORD, postgresql

ROWS = 2_000_000
MEMORY_MB = 1000

BARE = """
import sys
import pyarrow.parquet as parquet
from adbc_driver_postgresql import dbapi
with dbapi.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT * FROM events")
    reader = cursor.fetch_record_batch()
    with parquet.ParquetWriter(sys.argv[2], reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
"""
INGEST = """
import sys
from pathlib import Path
from components.data.ingest_data.ingestion import ingest
ingest(Path(sys.argv[1]), Path(sys.argv[2]))
"""
# Prints the wall-clock seconds of the code after its imports, and the process's peak resident memory in MB.
MEASURED = """
import resource, time
started = time.monotonic()
{code}
print(time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(code: str, *arguments: str) -> tuple[float, float]:
    """Run code in a process of its own: seconds, and peak MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(code=code), *arguments],
        env={**os.environ, "DB_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def make_project(folder: Path, port: int) -> Path:
    """A project whose only table is the server's events."""
    folder.mkdir()
    configuration = {
        "name": "events",
        "title": "Events",
        "entity": {"name": "customer", "key": "customer_id"},
        "source": {
            "url": f"postgresql://postgres:${{DB_PASSWORD}}@127.0.0.1:{port}/postgres",
            "tables": {"events": {"key": ["event_id"], "event_time": "happened_at"}},
        },
        "label": {"name": "left", "title": "leaves", "horizon_days": 30},
        "features": {"service": "events"},
        "gate": {"rules": [{"metric": "performance.roc_auc", "at_least": 0.5}]},
        "deployment": {"model": "events"},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    save_stores(local_stores(folder.parent / "state", "events"), folder)
    return folder


def main() -> None:
    """Measure and save the ratios."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of the table, {ROWS:,} by default")
    options = parser.parse_args()
    with postgresql() as server, tempfile.TemporaryDirectory(prefix="ingest-benchmark-") as name:
        folder = Path(name)
        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/postgres"
        fill(url, options.rows)
        bare, bare_memory = measure(BARE, url, str(folder / "bare.parquet"))
        whole, memory = measure(INGEST, str(make_project(folder / "project", server.port)), str(folder / "tables"))
        manifest = json.loads((folder / "tables" / "manifest.json").read_text())
        assert manifest["tables"]["events"]["rows"] == options.rows
        size = (folder / "tables" / "events.parquet").stat().st_size
    print(f"{options.rows:,} rows of 6 columns, {size / 1e6:,.0f} MB as sorted Parquet")
    print(f"bare ADBC   {bare:7.1f} s  {options.rows / bare:12,.0f} rows/s  peak {bare_memory:6.0f} MB")
    print(f"ingest      {whole:7.1f} s  {options.rows / whole:12,.0f} rows/s  peak {memory:6.0f} MB")
    ratios = [
        Ratio(f"ingest of {options.rows:,} rows from PostgreSQL, over the bare ADBC reading", whole / bare),
        Ratio(f"peak memory of that ingest, over {MEMORY_MB:,} MB", memory / MEMORY_MB, "at most 1, for any rows"),
    ]
    save_ratios(ratios, options.ratios)


def fill(url: str, rows: int) -> None:
    """Make a table of events in no order."""
    from adbc_driver_postgresql import dbapi

    started = time.monotonic()
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"""CREATE UNLOGGED TABLE events AS SELECT i::bigint AS event_id, (i * 7919 % 1000003)::int AS customer_id,
            timestamp '2025-01-01' + (i * 104729 % 31536000) * interval '1 second' AS happened_at,
            (i % 1000) / 7.0::float8 AS value, (i % 10000 / 100.0)::numeric(10, 2) AS amount,
            'kind ' || (i % 50) AS kind FROM generate_series(1::bigint, {rows}) i"""
        )
    print(f"made {rows:,} rows in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
