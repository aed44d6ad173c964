"""What decides whether a run reads and checks its data again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from shop import GOOD_ORDERS, ORDERS, file_url, make_database, make_project

from kfp_lifecycle.components.data.fingerprint_source.fingerprint import fingerprint
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.data.accepted import NOTHING, compared_with, newest_accepted, save_accepted
from kfp_lifecycle.data.source_version import source_version
from tests.projects import Project, read_project

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def shop(folder: Path, **source: object) -> Project:
    url = make_database(folder / "shop.duckdb", orders=GOOD_ORDERS)
    return read_project(make_project(folder / "shop", url, **source))


def found(project: Project, now: datetime = NOW) -> tuple[str, str]:
    return fingerprint(project.settings, project.locations, now)


def test_a_second_run_over_the_same_source_finds_the_same_and_one_over_more_does_not(tmp_path: Path) -> None:
    project = shop(tmp_path)
    remote = project.locations.dataset_remote
    first = found(project)
    assert first[1] == NOTHING
    # What validation does when it accepts.
    save_accepted(remote, {}, first[0], compared_with(remote, first[1]))
    assert found(project) == first, "the same parameters: every step is taken from the cache"
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(f"INSERT INTO orders {GOOD_ORDERS.replace('range(1000)', 'range(1000, 1100)')}")
    second = found(project)
    assert second[0] != first[0]
    assert second[1] == newest_accepted(remote).name, "the new data are compared with what was accepted"
    save_accepted(remote, {}, second[0], compared_with(remote, second[1]))
    assert found(project) == second


def test_the_same_source_under_other_limits_is_compared_with_what_it_was_compared_with(tmp_path: Path) -> None:
    project = shop(tmp_path)
    remote = project.locations.dataset_remote
    save_accepted(remote, {}, "an earlier source", "")
    earlier = newest_accepted(remote).name
    version, reference = found(project)
    assert reference == earlier
    for _ in range(3):
        save_accepted(remote, {}, version, compared_with(remote, reference))
        assert found(project) == (version, earlier)
    assert sorted(path.name for path in (Path(remote) / "accepted").iterdir()) == sorted(
        [earlier, newest_accepted(remote).name, "newest.json"]
    )


def test_a_reference_that_nobody_knows_is_the_newest(tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    assert compared_with(remote, "whatever") == ""
    save_accepted(remote, {})
    assert compared_with(remote, "whatever") == compared_with(remote, "") == newest_accepted(remote).name
    assert compared_with(remote, f"{NOTHING}@2026-01-01") == ""


def test_the_day_counts_where_a_table_must_be_fresh(tmp_path: Path) -> None:
    project = shop(tmp_path)
    assert "@" not in found(project)[1]
    text = (project.folder / "pipeline.yaml").read_text()
    (project.folder / "pipeline.yaml").write_text(f"{text}validation: {{bounds: {{orders: {{max_age_days: 2}}}}}}\n")
    fresh = read_project(project.folder)
    assert found(fresh)[1] == f"{NOTHING}@2026-03-01"
    assert found(fresh, datetime(2026, 3, 2, 5, tzinfo=UTC))[1] == f"{NOTHING}@2026-03-02"


def test_a_database_is_read_in_every_run(tmp_path: Path) -> None:
    project = read_project(make_project(tmp_path / "shop", "postgresql://127.0.0.1/shop"))
    versions = {found(project)[0] for _ in range(3)}
    assert len(versions) == 3
    assert all(version.startswith("unknown-") for version in versions)


def version_of(folder: Path, url: str) -> str:
    return source_version(load_configuration(make_project(folder / "project", url)).source)


def test_rows_in_a_write_ahead_log_are_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (order_id INTEGER, ordered_at TEXT)")
        connection.commit()
        before = version_of(tmp_path, f"sqlite:///{file}")
        connection.execute("INSERT INTO orders VALUES (1, '2025-01-01')")
        connection.commit()
        assert version_of(tmp_path, f"sqlite:///{file}") != before


def test_rows_in_duckdbs_log_are_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "shop.duckdb"
    url = make_database(file, orders=GOOD_ORDERS)
    before = version_of(tmp_path, url)
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET checkpoint_threshold = '1GB'")
        connection.execute(f"INSERT INTO orders {GOOD_ORDERS}")
        assert (tmp_path / "shop.duckdb.wal").stat().st_size
        assert version_of(tmp_path, url) != before


def test_a_file_with_the_times_of_another_is_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("order_id,ordered_at\n1,2025-01-01\n")
    before, times = version_of(tmp_path, file_url(file)), file.stat()
    file.write_text("order_id,ordered_at\n2,2025-01-01\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert version_of(tmp_path, file_url(file)) != before


def test_a_packages_file_is_known_by_its_content(tmp_path: Path) -> None:
    package = "package://lifetimes/datasets/CDNOW_master.txt"
    pytest.importorskip("lifetimes")
    version = source_version(
        load_configuration(make_project(tmp_path / "a", package, {"orders": ORDERS}, format="text")).source
    )
    assert len(version) == 12
    assert source_version(load_configuration(make_project(tmp_path / "b", "package://no_such/file.txt")).source) == ""
