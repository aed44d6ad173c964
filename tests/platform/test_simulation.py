"""Running the simulation: the same bytes each time, plain refusals, clean interruptions, bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kfp_lifecycle.simulation.business import CHUNK, simulate
from kfp_lifecycle.simulation.database import TABLES
from kfp_lifecycle.simulation.one_table import write_one_table

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{n}.duckdb" for n in (1, 2, 3))
    # Two chunks and several row groups: small files hide what a database decides at random.
    arguments: dict[str, Any] = {"customers": CHUNK + 2_000, "days": 240, "seed": 11}
    simulate(first, **arguments)
    simulate(second, **arguments)
    code = (
        "from pathlib import Path; from kfp_lifecycle.simulation.business import simulate; "
        f"simulate(Path({str(third)!r}), **{arguments})"
    )
    # Memory that was never written to holds something else there: none of it may reach the file.
    environment = {"PATH": "/usr/bin:/bin", "MALLOC_PERTURB_": "90", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() == third.read_bytes()


def test_another_seed_gives_another_history(tmp_path: Path) -> None:
    for seed in (1, 2):
        simulate(tmp_path / f"{seed}.duckdb", customers=50, days=120, seed=seed)
    assert (tmp_path / "1.duckdb").read_bytes() != (tmp_path / "2.duckdb").read_bytes()


def test_the_first_customers_live_the_same_however_many_follow(tmp_path: Path) -> None:
    simulate(tmp_path / "few.duckdb", customers=CHUNK, days=120)
    simulate(tmp_path / "many.duckdb", customers=CHUNK + 700, days=120)
    with duckdb.connect() as connection:
        for name in ("few", "many"):
            connection.execute(f"ATTACH '{tmp_path / name}.duckdb' AS {name} (READ_ONLY)")
        for table in TABLES:
            few, many = (
                connection.execute(
                    f"SELECT count(*), sum(hash(t)) FROM {name}.{table} t WHERE customer_id <= {CHUNK}"
                ).fetchall()
                for name in ("few", "many")
            )
            assert few == many, table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"customers": 0}, "customers must be at least 1, not 0"),
        ({"days": 119}, "days must be at least 120, not 119"),
        ({"days": 900_000}, "before the year 1"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"inject": ["outage", "flood"]}, "unknown injection flood; there are: price_rise, marketing_campaign"),
    ],
)
def test_an_impossible_request_is_refused_in_plain_words(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(tmp_path / "never.duckdb", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder; name a file"):
        simulate(tmp_path, customers=10, days=120)


def test_an_interruption_leaves_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    file = tmp_path / "business.duckdb"
    file.write_bytes(b"precious")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(file, customers=100, days=120, progress=interrupt)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"precious"


def test_an_old_file_is_replaced_with_the_journal_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "it's a business.duckdb"
    for name in (file.name, f"{file.name}.wal"):
        (tmp_path / name).write_bytes(b"left by an interrupted writer")
    simulate(file, customers=100, days=120)
    assert list(tmp_path.iterdir()) == [file]
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM customers").fetchone() == (100,)


def test_progress_counts_customers(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    simulate(tmp_path / "b.duckdb", customers=CHUNK + 1, days=120, progress=lambda *step: steps.append(step))
    assert steps == [(CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK + 1)]


def test_a_single_customer_makes_a_business(tmp_path: Path) -> None:
    assert simulate(tmp_path / "b.duckdb", customers=1, days=120).rows["customers"] == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_customers(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from kfp_lifecycle.simulation.business import simulate; "
        "simulate(Path(sys.argv[1]), customers=int(sys.argv[2]), days=365); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    one, eight = (
        int(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / f"{chunks}.duckdb"), str(chunks * CHUNK)],
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
            ).stdout
        )
        for chunks in (1, 8)
    )
    assert eight < 2 * one


def test_a_csv_is_one_flat_table_with_a_row_for_each_customer_and_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "one.csv", tmp_path / "a folder" / "it's another.csv"]
    rows = [write_one_table(file, customers=900, days=150, end=date(2026, 6, 30)) for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    query = "SELECT count(DISTINCT customer_id), list_sort(list(DISTINCT churned)), count(*) FROM "
    keys, labels, counted = duckdb.execute(f"{query} read_csv(?, all_varchar=true)", [str(files[0])]).fetchall()[0]
    assert (keys, counted, labels) == (rows[0], rows[0], ["no", "yes"])
    assert list(tmp_path.rglob("*.partial")) == []
