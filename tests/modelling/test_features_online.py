"""The online store answers as the training set would for the same moment, and never with another version's values."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast.infra.online_stores.sqlite import SqliteOnlineStore as FeastSqlite
from mlflow import MlflowClient
from redis import Redis

from kfp_lifecycle.features.online import filling
from kfp_lifecycle.features.online.store import OnlineStore
from kfp_lifecycle.registry import versions as registry
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.online_features import OnlineFeatures
from tests.feature_steps import build, definitions_of, materialize, served
from tests.lending_library import START, Row, expected_features, some_readers_and_loans, write_project, write_tables
from tests.online_stores import place, places, store_places
from tests.projects import load_locations, save_locations
from tests.servers import running

__all__ = ["place", "store_places"]

DAY = timedelta(days=1)
CHANGED = {"feature_repo/features.py": ("/ 86400", "/ 3600")}


def tables_as_of(folder: Path, moment: datetime) -> Path:
    """All rows, with a manifest that ends at a moment: what is later has to stay out."""
    return write_tables(folder / f"tables-{moment:%Y%m%d}", *some_readers_and_loans(), as_of=moment)


def project_on(place: str, folder: Path, changes: dict[str, tuple[str, str] | str | None] | None = None) -> Path:
    """A project whose online store is somewhere else."""
    project = write_project(folder, changes)
    save_locations(load_locations(project).model_copy(update={"online_store": place}), project)
    return project


def online(project: Path) -> OnlineFeatures:
    return served(project, load_locations(project).online_store)


def test_online_equals_offline_bit_for_bit(tmp_path: Path, place: str) -> None:
    project = project_on(place, tmp_path / "project")
    build(project, tables_as_of(tmp_path, START + 60 * DAY), tmp_path / "training_set")
    rows = pd.read_parquet(tmp_path / "training_set" / "test.parquet")
    snapshot = rows.event_timestamp[0].to_pydatetime()
    assert (rows.event_timestamp == snapshot).all()

    # Filled in two strides, so that some values are of the first and some of the second.
    materialize(project, tables_as_of(tmp_path, snapshot - DAY))
    materialize(project, tables_as_of(tmp_path, snapshot))
    names = [f["name"] for f in json.loads((tmp_path / "training_set" / "training_set.json").read_text())["features"]]
    offline = rows[names].astype(object).where(rows[names].notna(), None).to_dict("records")
    found = online(project).lookup(rows.reader_id.tolist(), snapshot)
    assert found == offline
    assert [repr(list(row.values())) for row in found] == [repr(list(row.values())) for row in offline]
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
    assert materialize(project, tables) == first.model_copy(update={"written": {"loans_so_far": 0}})
    assert online(project).lookup(range(1, 41), START + 40 * DAY) == before
    assert first.rows == first.written == {"loans_so_far": 40}


def test_a_materialization_describes_the_features_of_all_entities_in_the_store(tmp_path: Path) -> None:
    as_of = START + 40 * DAY
    readers, loans = some_readers_and_loans()
    expected = expected_features(readers, loans, as_of)
    project = write_project(tmp_path / "project")
    [view] = materialize(project, write_tables(tmp_path / "tables", readers, loans, as_of)).quality
    newest = max(row["lent_at"] for row in loans if row["lent_at"] <= as_of >= row["recorded_at"])
    assert (view.view, view.newest_row) == ("loans_so_far", newest)
    of = {feature.feature: feature for feature in view.features}
    assert list(of) == ["loans", "pages", "average_pages", "likes_poetry", "genre"]
    assert of["genre"].missing == sum(row["genre"] is None for row in expected.values()) / len(expected)
    assert of["loans"].mean == pytest.approx(sum(row["loans"] for row in expected.values()) / len(expected))
    assert of["loans"].quantiles[-1] == max(row["loans"] for row in expected.values())
    # The store tells the server, also when nothing had to be written.
    assert materialize(project, tmp_path / "tables").quality == [view]


def test_older_tables_do_not_replace_newer_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = write_project(tmp_path / "project")
    newer, older = START + 40 * DAY, START + 30 * DAY
    materialize(project, tables_as_of(tmp_path, newer))
    before = online(project).lookup([7], newer)
    written = materialize(project, tables_as_of(tmp_path, older))
    assert online(project).lookup([7], newer) == before
    assert written.as_of == newer
    assert written.written == {"loans_so_far": 0}
    assert "keeps its features as of" in capsys.readouterr().out


def test_sensitive_values_stay_out_of_the_online_store(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    materialize(project, tables_as_of(tmp_path, START + 40 * DAY))
    store = Path(load_locations(project).online_store)
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
    changed = [loan if loan["reader_id"] == 7 else {**loan, "pages": 9.0} for loan in loans]
    others = write_tables(tmp_path / "others", readers, changed, as_of)
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
            assert materialize(project, (others, tables)[number % 2]).written["loans_so_far"] > 20
    finally:
        done.set()
        asking.join()
    assert failures == []


@pytest.mark.parametrize(
    "place",
    ["ftp://somewhere:21", "redis://", "redis://somewhere", "postgresql://h/d", "bigtable://project", "feast://"],
)
def test_a_place_that_is_no_store_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ContractViolation, match=r"must be a SQLite file, redis://HOST:PORT"):
        served(write_project(tmp_path / "project"), place)


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database, whatever its name says" * 100)
    with pytest.raises(ContractViolation, match=r"notes\.db cannot be used: file is not a database"):
        served(write_project(tmp_path / "project"), str(tmp_path / "notes.db"))


def known_rows(as_of: datetime, readers: Sequence[Row], loans: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """What is known at a moment, and stays the same however much later the tables end."""
    return (
        [reader for reader in readers if reader["recorded_at"] <= as_of],
        [loan for loan in loans if loan["recorded_at"] <= as_of],
    )


def answers(project: Path, moment: datetime) -> list[dict[str, Any]]:
    return online(project).lookup(range(1, 41), moment)


def test_only_entities_whose_values_changed_are_written(tmp_path: Path, place: str) -> None:
    project = project_on(place, tmp_path / "project")
    first, second = START + 40 * DAY, START + 41 * DAY
    readers, loans = known_rows(first, *some_readers_and_loans())
    filled = materialize(project, write_tables(tmp_path / "first", readers, loans, first))
    assert filled.written == filled.rows == {"loans_so_far": len(readers)}
    more = [*loans, {**loans[-1], "loan_id": 10**6, "reader_id": 7, "lent_at": second, "recorded_at": second}]
    assert materialize(project, write_tables(tmp_path / "second", readers, more, second)).written == {"loans_so_far": 1}
    # As fresh as if all had been written.
    anew = project_on(str(tmp_path / "anew" / "online.db"), tmp_path / "anew" / "project")
    materialize(anew, tmp_path / "second")
    for moment in (second, second + 7 * DAY, second + 7 * DAY + timedelta(seconds=1)):
        assert answers(project, moment) == answers(anew, moment)
    assert materialize(project, write_tables(tmp_path / "third", readers, more, second + DAY)).written == {
        "loans_so_far": 0
    }
    assert online(project).lookup([7], second + 8 * DAY)[0]["loans"] is not None


def test_an_entity_that_is_gone_stays_until_it_is_too_old_and_may_come_back(tmp_path: Path, place: str) -> None:
    project = project_on(place, tmp_path / "project")
    last_seen = START + 40 * DAY
    readers, loans = known_rows(last_seen, *some_readers_and_loans())
    without = [reader for reader in readers if reader["reader_id"] != 7]

    def fill(name: str, present: Sequence[Row], as_of: datetime) -> int:
        return materialize(project, write_tables(tmp_path / name, present, loans, as_of)).written["loans_so_far"]

    fill("seen", readers, last_seen)
    [values] = online(project).lookup([7], last_seen + 7 * DAY)
    assert values["loans"] is not None
    assert fill("gone", without, last_seen + DAY) == 1
    assert online(project).lookup([7], last_seen + 7 * DAY) == [values]
    assert set(online(project).lookup([7], last_seen + 7 * DAY + timedelta(seconds=1))[0].values()) == {None}
    assert fill("still gone", without, last_seen + 2 * DAY) == 0
    assert fill("back", readers, last_seen + 3 * DAY) == 1
    assert online(project).lookup([7], last_seen + 10 * DAY)[0]["loans"] == values["loans"]
    assert fill("gone again", without, last_seen + 4 * DAY) == 1
    assert fill("too old", without, last_seen + 20 * DAY) == 1, "its values are overwritten"
    assert set(online(project).lookup([7], last_seen + 4 * DAY)[0].values()) == {None}
    assert fill("forgotten", without, last_seen + 21 * DAY) == 0


def test_the_same_tables_are_written_once_and_corrected_ones_again(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    as_of = START + 40 * DAY
    materialize(project, tables_as_of(tmp_path, as_of))
    assert materialize(project, tables_as_of(tmp_path, as_of)).written == {"loans_so_far": 0}
    readers, loans = some_readers_and_loans()
    corrected = [{**loan, "pages": 7.0} for loan in loans]
    written = materialize(project, write_tables(tmp_path / "corrected", readers, corrected, as_of)).written
    having_borrowed = {loan["reader_id"] for loan in loans if loan["lent_at"] <= as_of >= loan["recorded_at"]}
    assert written == {"loans_so_far": len(having_borrowed)}
    later = {"pipeline.yaml": ("event_time: lent_at, arrival_time: recorded_at", "event_time: lent_at")}
    assert materialize(write_project(tmp_path / "later", later), tables_as_of(tmp_path, as_of)).written != written


def test_a_value_that_differs_in_its_sign_alone_is_written(tmp_path: Path) -> None:
    # A sum, and so a mean, is never -0.0.
    project = write_project(tmp_path / "project", {"feature_repo/loans_so_far.sql": ("avg(pages)", "max(pages)")})
    as_of = START + 40 * DAY
    readers, loans = some_readers_and_loans(1)
    for pages in (0.0, -0.0, None, 0.0):
        [loan] = [{**loans[0], "pages": pages, "lent_at": as_of, "recorded_at": as_of}]
        tables = write_tables(tmp_path / "tables", readers, [loan], as_of)
        assert materialize(project, tables).written == {"loans_so_far": 1}
        assert repr(online(project).lookup([1], as_of)[0]["average_pages"]) == repr(pages)


class CutOff(BaseException):
    """The process is killed."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writing ends after so many calls of the store's, `after` of them; -1 for never."""
    left = {"after": -1}
    write = FeastSqlite.online_write_batch

    def perhaps(*arguments: Any, **named: Any) -> None:
        if left["after"] == 0:
            raise CutOff
        left["after"] -= 1
        write(*arguments, **named)

    monkeypatch.setattr(FeastSqlite, "online_write_batch", perhaps)
    monkeypatch.setattr(filling, "ENTITIES_AT_ONCE", 15)
    return left


@pytest.mark.slow
def test_a_materialization_that_was_cut_off_anywhere_is_finished_by_the_next(
    tmp_path: Path, cut_off: dict[str, int]
) -> None:
    as_of = START + 40 * DAY
    readers, loans = some_readers_and_loans()
    tables = tables_as_of(tmp_path, as_of)
    few = write_tables(tmp_path / "few", readers[:20], [{**loan, "pages": 7.0} for loan in loans], as_of)
    expected = None
    for after in range(40):
        project = write_project(tmp_path / f"{after}" / "project")
        materialize(project, tables)
        expected = expected or answers(project, as_of)
        cut_off["after"] = after
        try:
            materialize(project, few)
            cut = False
        except CutOff:
            cut = True
        cut_off["after"] = -1
        materialize(project, tables)
        assert answers(project, as_of) == expected, f"cut off after {after}"
        assert {row["digest"] is None for row in inventory(project).to_pylist()} == {False}
        if not cut:
            assert after > 4
            return
    raise AssertionError("it was cut off each time")


def test_a_store_that_lost_values_by_itself_is_filled_anew(tmp_path: Path, place: str) -> None:
    project = project_on(place, tmp_path / "project")
    as_of = START + 40 * DAY
    readers, loans = known_rows(as_of, *some_readers_and_loans())
    materialize(project, write_tables(tmp_path / "first", readers, loans, as_of))
    expected = answers(project, as_of)
    store = OnlineStore(place, "library", definitions_of(project))
    store.forget("loans_so_far", [7])
    assert answers(project, as_of) != expected
    written = materialize(project, write_tables(tmp_path / "second", readers, loans, as_of + DAY)).written
    assert written == {"loans_so_far": len(readers)}
    assert [row["loans"] for row in answers(project, as_of + DAY)] == [row["loans"] for row in expected]


def test_two_materializations_at_once_are_found_out_and_the_next_one_mends_what_they_wrote(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_on(place, tmp_path / "project")
    as_of = START + 40 * DAY
    readers, loans = some_readers_and_loans()
    tables = tables_as_of(tmp_path, as_of)
    others = write_tables(tmp_path / "others", readers, [{**loan, "pages": 7.0} for loan in loans], as_of)
    materialize(project, write_tables(tmp_path / "first", readers[:20], loans, as_of - DAY))
    write = OnlineStore.write

    def after_another(self: OnlineStore, view: str, rows: pa.RecordBatch) -> None:
        monkeypatch.setattr(OnlineStore, "write", write)
        materialize(project, others)
        write(self, view, rows)

    monkeypatch.setattr(OnlineStore, "write", after_another)
    with pytest.raises(ContractViolation, match="Another materialization fills the view loans_so_far"):
        materialize(project, tables)
    # What the store holds now is a mixture, whichever of the two it is asked for.
    assert materialize(project, others).written == {"loans_so_far": 40}
    anew = project_on(str(tmp_path / "anew" / "online.db"), tmp_path / "anew" / "project")
    materialize(anew, others)
    assert answers(project, as_of) == answers(anew, as_of)


def inventory(project: Path) -> pa.Table:
    definitions = definitions_of(project)
    held = OnlineStore(load_locations(project).online_store, "library", definitions).inventory("loans_so_far")
    assert held is not None
    assert held.finished
    return held.entities


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_whatever_came_before_the_store_answers_as_the_newest_tables_do(
    tmp_path: Path, cut_off: dict[str, int], seed: int
) -> None:
    chance = random.Random(seed)
    project = write_project(tmp_path / "project")
    all_readers, loans = some_readers_and_loans(12, days=60, seed=seed)
    as_of, newest = START + 30 * DAY, {}
    for number in range(12):
        as_of += timedelta(days=chance.choice([0, 1, 3, 9]))
        readers = [reader for reader in all_readers if chance.random() < 0.7]
        pages = chance.choice([None, 0.5])
        known = [{**loan, "pages": pages} if chance.random() < 0.1 else loan for loan in loans]
        cut_off["after"] = chance.choice([-1, -1, 0, 1, 2, 3, 4, 5])
        tables = write_tables(tmp_path / f"{number}", readers, known, as_of)
        present = expected_features(readers, known, as_of)
        newest |= dict.fromkeys(present, as_of)
        try:
            materialize(project, tables)
        except CutOff:
            cut_off["after"] = -1
            continue
        cut_off["after"] = -1
        for moment in (as_of, as_of + 7 * DAY, as_of + 8 * DAY):
            for key, row in zip(range(1, 13), online(project).lookup(range(1, 13), moment), strict=True):
                fresh = moment - newest.get(key, START) <= 7 * DAY
                if key in present and fresh:
                    stored = {name: present[key][name] for name in row if name != "days_since_last_loan"}
                    assert {name: row[name] for name in stored} == stored
                if not fresh:
                    assert set(row.values()) == {None}


def test_a_version_goes_when_it_is_old_and_no_registered_model_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: set[str] = set()
    monkeypatch.setattr(registry, "feature_versions", lambda *_: named)
    first = START + 40 * DAY
    project, changed = write_project(tmp_path / "project"), write_project(tmp_path / "changed", CHANGED)
    version = materialize(project, tables_as_of(tmp_path, first)).feature_version
    young = materialize(changed, tables_as_of(tmp_path, first + 6 * DAY))
    assert young.removed == [], "a candidate's features are filled in before it is registered"
    named.add(version)
    assert materialize(changed, tables_as_of(tmp_path, first + 7 * DAY)).removed == []
    named.clear()
    assert materialize(changed, tables_as_of(tmp_path, first + 8 * DAY)).removed == [version]
    with pytest.raises(ContractViolation, match=rf"no features of version {version}, which"):
        online(project)
    stored = sqlite3.connect(load_locations(project).online_store).execute("SELECT name FROM sqlite_master").fetchall()
    assert not [name for (name,) in stored if version in name]
    assert online(changed).lookup([7], first + 8 * DAY)[0]["loans"] is not None


def test_every_store_holds_versions_apart_and_lets_one_go(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "feature_versions", lambda *_: set())
    project, changed = project_on(place, tmp_path / "project"), project_on(place, tmp_path / "changed", CHANGED)
    first = START + 40 * DAY
    version = materialize(project, tables_as_of(tmp_path, first)).feature_version
    rows = answers(project, first)
    written = materialize(changed, tables_as_of(tmp_path, first + 6 * DAY))
    assert answers(project, first) == rows
    assert materialize(changed, tables_as_of(tmp_path, first + 7 * DAY)).removed == [version]
    with pytest.raises(ContractViolation, match=f"it holds version {written.feature_version}"):
        online(project)
    # Nothing of it is left: filled again, all is written.
    assert materialize(project, tables_as_of(tmp_path, first)).written == {"loans_so_far": 40}
    assert answers(project, first) == rows


def test_redis_keeps_no_key_of_a_version_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "feature_versions", lambda *_: set())
    for new_place in running(places("redis")):
        url = new_place(tmp_path)
        project, changed = project_on(url, tmp_path / "project"), project_on(url, tmp_path / "changed", CHANGED)
        first = START + 40 * DAY
        version = materialize(project, tables_as_of(tmp_path, first)).feature_version
        written = materialize(changed, tables_as_of(tmp_path, first + 7 * DAY))
        assert written.removed == [version]
        keys = Redis.from_url(url).keys()
        assert not [key for key in keys if f"library_{version}".encode() in key]
        assert len([key for key in keys if f"library_{written.feature_version}".encode() in key]) == 40


@pytest.mark.slow
def test_the_registry_names_the_versions_that_models_were_trained_with(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model("library")
    for version in ("one", "other"):
        client.create_model_version("library", str(tmp_path), tags={"feature_version": version})
    assert registry.feature_versions(f"sqlite:///{tmp_path / 'mlflow.db'}", "library") == {"one", "other"}
    assert registry.feature_versions(f"sqlite:///{tmp_path / 'mlflow.db'}", "another") == set()
