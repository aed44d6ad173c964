"""Ingest from PostgreSQL and MariaDB beside the bare drivers, and the memory that it takes: what the contract costs.

    python benchmarks/run.py ingest
    PYTHONPATH=. ENVIRONMENT/bin/python -m benchmarks.ingest --rows 50000000

Each reading is a process of its own, so that its peak memory is its own. The bare reading is what a person would write
by hand: ADBC's record batches into Parquet; PyMySQL's rows, kept nowhere. Ingest sorts, types and checks as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import yaml

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.config.locations import local_locations
from tests.projects import save_locations
from tests.servers import PASSWORD, ServerMissing, mariadb, postgresql

ROWS = 2_000_000
# PyMySQL makes an object of every cell, which takes several times as long: an eighth of the rows will do.
MARIADB_SHARE = 8
MEMORY_MB = 1000

BARE_ADBC = """
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
BARE_PYMYSQL = """
import sys
import pymysql
from pymysql.cursors import SSCursor
connection = pymysql.connect(
    host="127.0.0.1", port=int(sys.argv[1]), user="reader", password=sys.argv[2], database="shop", cursorclass=SSCursor
)
cursor = connection.cursor()
cursor.execute("SELECT * FROM events")
while cursor.fetchmany(2000):
    pass
"""
INGEST = """
import sys
from pathlib import Path
from kfp_lifecycle.components.data.ingest_data.ingestion import ingest
from tests.projects import read_project
project = read_project(Path(sys.argv[1]))
ingest(project.settings, project.locations, project.expectations, Path(sys.argv[2]))
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


def make_project(folder: Path, url: str) -> Path:
    """A project whose only table is the server's events."""
    folder.mkdir()
    configuration = {
        "name": "events",
        "title": "Events",
        "entity": {"name": "customer", "key": "customer_id"},
        "source": {
            "url": url,
            "tables": {"events": {"key": ["event_id"], "event_time": "happened_at"}},
        },
        "label": {"name": "left", "title": "leaves", "horizon_days": 30},
        "features": {"service": "events"},
        "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.5}]},
        "deployment": {"model": "events"},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    save_locations(local_locations(folder.parent / "state", "events"), folder)
    return folder


def compare(driver: str, bare: str, arguments: list[str], url: str, rows: int) -> tuple[float, float]:
    """Read a server's events by its bare driver and by ingest: seconds over seconds, and ingest's peak MB."""
    with tempfile.TemporaryDirectory(prefix="ingest-benchmark-") as name:
        folder = Path(name)
        bare_seconds, bare_memory = measure(bare, *arguments, str(folder / "bare.parquet"))
        seconds, memory = measure(INGEST, str(make_project(folder / "project", url)), str(folder / "tables"))
        assert Manifest.read(folder / "tables").tables["events"].rows == rows
    print(f"{rows:,} rows of 6 columns")
    for what, took, peak in ((f"bare {driver}", bare_seconds, bare_memory), ("ingest", seconds, memory)):
        print(f"{what:12} {took:7.1f} s  {rows / took:12,.0f} rows/s  peak {peak:6.0f} MB", flush=True)
    return seconds / bare_seconds, memory


def from_postgresql(rows: int) -> list[Ratio]:
    """PostgreSQL, by ADBC."""
    from adbc_driver_postgresql import dbapi

    with postgresql() as server:
        address = f"127.0.0.1:{server.port}/postgres"
        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@{address}"
        with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"""CREATE UNLOGGED TABLE events AS SELECT i AS event_id, (i * 7919 % 1000003)::int AS customer_id,
                timestamp '2025-01-01' + (i * 104729 % 31536000) * interval '1 second' AS happened_at,
                (i % 1000) / 7.0::float8 AS value, (i % 10000 / 100.0)::numeric(10, 2) AS amount,
                'kind ' || (i % 50) AS kind FROM generate_series(1::bigint, {rows}) i"""
            )
        source = f"postgresql://postgres:${{DB_PASSWORD}}@{address}"
        ratio, memory = compare("ADBC", BARE_ADBC, [url], source, rows)
    return [
        Ratio(f"ingest of {rows:,} rows from PostgreSQL, over the bare ADBC reading", ratio),
        Ratio(f"peak memory of that ingest, over {MEMORY_MB:,} MB", memory / MEMORY_MB, "at most 1, for any rows"),
    ]


def from_mariadb(rows: int) -> list[Ratio]:
    """MariaDB, by PyMySQL."""
    import pymysql

    with mariadb() as server:
        with pymysql.connect(
            host="127.0.0.1", port=server.port, user="reader", password=PASSWORD, database="shop", autocommit=True
        ) as connection:
            connection.cursor().execute(
                f"""CREATE TABLE events AS SELECT seq AS event_id, seq * 7919 % 1000003 AS customer_id,
                TIMESTAMP'2025-01-01 00:00:00' + INTERVAL (seq * 104729 % 31536000) SECOND AS happened_at,
                seq % 1000 / 7.0e0 AS value, CAST(seq % 10000 / 100 AS DECIMAL(10, 2)) AS amount,
                CONCAT('kind ', seq % 50) AS kind FROM seq_1_to_{rows}"""
            )
        source = f"mariadb://reader:${{DB_PASSWORD}}@127.0.0.1:{server.port}/shop"
        ratio, memory = compare("PyMySQL", BARE_PYMYSQL, [str(server.port), PASSWORD], source, rows)
    return [
        Ratio(f"ingest of {rows:,} rows from MariaDB, over the bare PyMySQL reading", ratio),
        Ratio(f"peak memory of that ingest, over {MEMORY_MB:,} MB", memory / MEMORY_MB, "at most 1, for any rows"),
    ]


def main() -> None:
    """Measure and save the ratios; a server that this machine does not have is left out, saying so."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows in PostgreSQL, {ROWS:,} by default")
    options = parser.parse_args()
    ratios: list[Ratio] = []
    for reading, rows in ((from_postgresql, options.rows), (from_mariadb, options.rows // MARIADB_SHARE)):
        try:
            ratios += reading(rows)
        except ServerMissing as missing:
            print(missing)
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
