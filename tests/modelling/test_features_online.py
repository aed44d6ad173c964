"""The online store answers as the training set would for the same moment, and never with another version's values."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from redis import Redis

from components.contract import ContractViolation
from components.deployment import registry
from components.features.build_training_set.training_set import build
from components.features.materialize_features.materialization import materialize
from components.features.online_store import OnlineStore
from project.stores import load_stores, save_stores
from serving.online_features import OnlineFeatures
from tests.lending_library import START, some_readers_and_loans, write_project, write_tables
from tests.redis_server import running_redis

DAY = timedelta(days=1)
CHANGED = {"feature_repo/features.py": ("/ 86400", "/ 3600")}


def tables_as_of(folder: Path, moment: datetime) -> Path:
    """All rows, with a manifest that ends at a moment: what is later has to stay out."""
    return write_tables(folder / f"tables-{moment:%Y%m%d}", *some_readers_and_loans(), as_of=moment)


def online(project: Path) -> OnlineFeatures:
    return OnlineFeatures(project, load_stores(project).online_store)


def test_online_equals_offline_bit_for_bit(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    build(project, tables_as_of(tmp_path, START + 60 * DAY), tmp_path / "training_set")
    rows = pd.read_parquet(tmp_path / "training_set" / "test.parquet")
    snapshot = rows.event_timestamp[0].to_pydatetime()
    assert (rows.event_timestamp == snapshot).all()

    materialize(project, tables_as_of(tmp_path, snapshot))
    names = [f["name"] for f in json.loads((tmp_path / "training_set" / "training_set.json").read_text())["features"]]
    offline = rows[names].astype(object).where(rows[names].notna(), None).to_dict("records")
    found = online(project).lookup(rows.reader_id.tolist(), snapshot)
    assert found == offline
    assert [list(row) for row in found] == [names] * len(rows)
    assert {type(value) for row in found for value in row.values()} == {float, str, type(None)}


def test_an_unknown_entity_has_no_features_and_a_wrong_key_is_refused(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    materialize(project, tables_as_of(tmp_path, START + 40 * DAY))
    features = online(project)
    [row] = features.lookup([123_456_789])
    assert set(row.values()) == {None}
    assert features.lookup(["7"], START + 40 * DAY) == features.lookup([7], START + 40 * DAY)
    assert features.lookup([]) == []
    with pytest.raises(ValueError, match="reader_id must be a whole number, not 'Ada'"):
        features.lookup(["Ada"])
    with pytest.raises(ValueError, match="whole number"):
        features.lookup([1.5])


def test_a_value_older_than_the_freshness_is_missing(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    as_of = START + 40 * DAY
    materialize(project, tables_as_of(tmp_path, as_of))
    [fresh] = online(project).lookup([7], as_of + 7 * DAY)
    [stale] = online(project).lookup([7], as_of + 7 * DAY + timedelta(seconds=1))
    assert fresh["loans"] is not None
    assert fresh["days_since_last_loan"] > 7
    assert set(stale.values()) == {None}


def test_the_present_is_the_clock_or_the_newest_row_as_the_project_says(tmp_path: Path) -> None:
    as_of = START + 40 * DAY
    now = write_project(tmp_path / "project")
    materialize(now, tables_as_of(tmp_path, as_of))
    assert set(online(now).lookup([7])[0].values()) == {None}
    data = write_project(
        tmp_path / "data", {"pipeline.yaml": ("freshness_days: 7", "freshness_days: 7, present: data")}
    )
    assert online(data).lookup([7]) == online(now).lookup([7], as_of)


def test_repeating_a_materialization_changes_nothing(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    tables = tables_as_of(tmp_path, START + 40 * DAY)
    first = materialize(project, tables)
    before = online(project).lookup(range(1, 41), START + 40 * DAY)
    assert materialize(project, tables) == {**first, "written": False}
    assert online(project).lookup(range(1, 41), START + 40 * DAY) == before
    assert first["rows"] == {"loans_so_far": 40}


def test_older_tables_do_not_replace_newer_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = write_project(tmp_path / "project")
    newer, older = START + 40 * DAY, START + 30 * DAY
    materialize(project, tables_as_of(tmp_path, newer))
    before = online(project).lookup([7], newer)
    written = materialize(project, tables_as_of(tmp_path, older))
    assert online(project).lookup([7], newer) == before
    assert written["as_of"] == newer.isoformat()
    assert not written["written"]
    assert "keeps its features as of" in capsys.readouterr().out


def test_sensitive_values_stay_out_of_the_online_store(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    materialize(project, tables_as_of(tmp_path, START + 40 * DAY))
    store = Path(load_stores(project).online_store)
    assert b"Lund" not in b"".join(file.read_bytes() for file in store.parent.iterdir())


def test_a_store_without_the_models_version_is_refused(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    with pytest.raises(ContractViolation, match=r"There is no online store .*library\.db.*materialization pipeline"):
        online(project)
    materialize(project, tables_as_of(tmp_path, START + 40 * DAY))
    changed = write_project(tmp_path / "changed", CHANGED)
    version = online(project).feature_version
    with pytest.raises(ContractViolation, match=rf"no features of version \w+, which.*it holds version {version}"):
        online(changed)


def test_versions_live_side_by_side(tmp_path: Path) -> None:
    as_of = START + 40 * DAY
    champion, candidate = write_project(tmp_path / "project"), write_project(tmp_path / "changed", CHANGED)
    materialize(champion, tables_as_of(tmp_path, as_of))
    before = online(champion).lookup([7], as_of)
    materialize(candidate, tables_as_of(tmp_path, as_of))
    [by_hours] = online(candidate).lookup([7], as_of)
    assert online(champion).lookup([7], as_of) == before
    assert by_hours["days_since_last_loan"] == pytest.approx(before[0]["days_since_last_loan"] * 24)


def test_the_store_answers_while_it_is_filled(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    as_of = START + 40 * DAY
    tables = tables_as_of(tmp_path, as_of)
    readers, loans = some_readers_and_loans()
    of_others = [loan for loan in loans if loan["reader_id"] != 8]
    others = write_tables(tmp_path / "others", readers, of_others, as_of)
    materialize(project, tables)
    expected = online(project).lookup([7], as_of)
    failures: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        features = online(project)
        while not done.is_set():
            try:
                if features.lookup([7], as_of) != expected:
                    failures.append("another answer")
            except Exception as error:
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(6):
            assert materialize(project, (others, tables)[number % 2])["written"]
    finally:
        done.set()
        asking.join()
    assert failures == []


@pytest.mark.parametrize("place", ["ftp://somewhere:21", "redis://", "redis://somewhere"])
def test_a_place_that_is_no_store_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ContractViolation, match=r"must be a SQLite file or redis://HOST:PORT"):
        OnlineFeatures(write_project(tmp_path / "project"), place)


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database, whatever its name says" * 100)
    with pytest.raises(ContractViolation, match=r"notes\.db cannot be used: file is not a database"):
        OnlineFeatures(write_project(tmp_path / "project"), str(tmp_path / "notes.db"))


def test_the_same_tables_are_written_once_and_corrected_ones_again(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    as_of = START + 40 * DAY
    assert materialize(project, tables_as_of(tmp_path, as_of))["written"]
    assert not materialize(project, tables_as_of(tmp_path, as_of))["written"]
    readers, loans = some_readers_and_loans()
    corrected = [{**loan, "pages": 7.0} for loan in loans]
    assert materialize(project, write_tables(tmp_path / "corrected", readers, corrected, as_of))["written"]
    later = {"pipeline.yaml": ("event_time: lent_at, arrival_time: recorded_at", "event_time: lent_at")}
    assert materialize(write_project(tmp_path / "later", later), tables_as_of(tmp_path, as_of))["written"]


def test_a_materialization_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = write_project(tmp_path / "project")
    as_of = START + 40 * DAY
    tables = tables_as_of(tmp_path, as_of)
    materialize(project, tables)
    with monkeypatch.context() as broken:
        broken.setattr(OnlineStore, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        corrected = write_tables(tmp_path / "corrected", *some_readers_and_loans(30), as_of)
        with pytest.raises(KeyboardInterrupt):
            materialize(project, corrected)
    assert materialize(project, tables)["written"]


def test_a_version_goes_when_it_is_old_and_no_registered_model_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: set[str] = set()
    monkeypatch.setattr(registry, "feature_versions", lambda *_: named)
    first = START + 40 * DAY
    project, changed = write_project(tmp_path / "project"), write_project(tmp_path / "changed", CHANGED)
    version = materialize(project, tables_as_of(tmp_path, first))["feature_version"]
    young = materialize(changed, tables_as_of(tmp_path, first + 6 * DAY))
    assert young["removed"] == [], "a candidate's features are filled in before it is registered"
    named.add(version)
    assert materialize(changed, tables_as_of(tmp_path, first + 7 * DAY))["removed"] == []
    named.clear()
    assert materialize(changed, tables_as_of(tmp_path, first + 8 * DAY))["removed"] == [version]
    with pytest.raises(ContractViolation, match=rf"no features of version {version}, which"):
        online(project)
    stored = sqlite3.connect(load_stores(project).online_store).execute("SELECT name FROM sqlite_master").fetchall()
    assert not [name for (name,) in stored if version in name]
    assert online(changed).lookup([7], first + 8 * DAY)[0]["loans"] is not None


def test_redis_holds_versions_apart_and_lets_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "feature_versions", lambda *_: set())
    with running_redis(tmp_path) as url:
        project, changed = write_project(tmp_path / "project"), write_project(tmp_path / "changed", CHANGED)
        for folder in (project, changed):
            save_stores(load_stores(folder).model_copy(update={"online_store": url}), folder)
        first = START + 40 * DAY
        version = materialize(project, tables_as_of(tmp_path, first))["feature_version"]
        rows = [online(project).lookup(range(1, 41), first)]
        written = materialize(changed, tables_as_of(tmp_path, first + 6 * DAY))
        assert [online(project).lookup(range(1, 41), first)] == rows
        assert materialize(changed, tables_as_of(tmp_path, first + 7 * DAY))["removed"] == [version]
        with pytest.raises(ContractViolation, match=f"it holds version {written['feature_version']}"):
            online(project)
        keys = Redis.from_url(url).keys()
        assert not [key for key in keys if f"library_{version}".encode() in key]
        assert len([key for key in keys if f"library_{written['feature_version']}".encode() in key]) == 40


@pytest.mark.slow
def test_the_registry_names_the_versions_that_models_were_trained_with(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model("library")
    for version in ("one", "other"):
        client.create_model_version("library", str(tmp_path), tags={"feature_version": version})
    assert registry.feature_versions(f"sqlite:///{tmp_path / 'mlflow.db'}", "library") == {"one", "other"}
    assert registry.feature_versions(f"sqlite:///{tmp_path / 'mlflow.db'}", "another") == set()
