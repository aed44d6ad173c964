"""Forgetting: no place that can be written holds the person after it, nobody else loses a row, there is a proof."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.prediction_log import hashed_key
from kfp_lifecycle.audit.record import entries_of, file_of, open_record
from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE
from kfp_lifecycle.features.online.store import Inventory, Materialization, OnlineStore
from kfp_lifecycle.governance import log_rows
from kfp_lifecycle.governance.forget import Cluster, Forgotten, Request, forget
from tests.control_planes.object_store import object_store
from tests.feature_steps import definitions_of
from tests.lending_library import write_project
from tests.prediction_logs import logged, read_log, write_log

INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]
OLD = datetime(2026, 3, 1, 10, tzinfo=UTC)
SECRET = "a secret of the servers"


class Machine:
    """A state folder in which people 16, 17 and 18 were predicted, scored and versioned."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.log = state / "predictions" / "churn"
        for day in range(3):
            at = OLD + timedelta(days=day)
            people = [logged({"temperature": 20.0, "site": "north"}, at, entity=name) for name in ("16", "17", "18")]
            write_log(self.log, [*people, logged({"temperature": 1.0, "site": None}, at)], INPUTS)
        hashed = logged({"temperature": 20.0, "site": "north"}, OLD, entity=hashed_key(SECRET.encode(), "17"))
        write_log(self.log, [hashed], INPUTS, name="2-host-1-77")
        self.table("runs/m-1/artifacts/m/join-outcomes/outcomes/outcomes.parquet", entity=["17", "18"])
        self.table("runs/t-1/artifacts/t/score-batch/scores/scores.parquet", customer_id=[16, 17])
        self.table("runs/t-1/artifacts/t/build-training-set/training_set/train.parquet", customer_id=[17, 17, 18])
        self.table("datasets/churn/files/md5/ab/cdef", customer_id=[17, 18])
        self.version = self.state / "datasets/churn/files/md5/ab/cdef"

    def table(self, place: str, **columns: list[object]) -> None:
        file = self.state / place
        file.parent.mkdir(parents=True)
        parquet.write_table(pa.table(columns), file)

    def forget(self, *, yes: bool = True, entity: str = "17") -> Forgotten:
        return forget(Request(entity, str(self.state), "churn", "customer_id", "churn", yes, "request 4711"))

    def people(self) -> list[str | None]:
        return [row["entity"] for row in read_log(self.log)]

    def bytes_of_all(self) -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in self.state.rglob("*") if file.is_file()}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv(LOG_SECRET_VARIABLE, SECRET)
    return Machine(tmp_path)


def rows(forgotten: Forgotten) -> dict[str, tuple[int, int]]:
    return {place.name: (place.before, place.after) for place in forgotten.places}


def test_without_yes_it_is_told_what_would_be_done_and_not_a_byte_changes(machine: Machine) -> None:
    before = machine.bytes_of_all()
    told = machine.forget(yes=False)
    assert rows(told) == {
        "prediction log": (4, 4),
        "online store": (0, 0),
        "predictions and outcomes of runs": (1, 1),
        "scores of runs": (1, 1),
    }
    assert machine.bytes_of_all() == before


def test_the_person_goes_and_nobody_else_loses_a_row(machine: Machine) -> None:
    told = machine.forget()
    assert rows(told) == {
        "prediction log": (4, 0),
        "online store": (0, 0),
        "predictions and outcomes of runs": (1, 0),
        "scores of runs": (1, 0),
    }
    assert machine.people() == ["16", "18", None] * 3
    assert rows(machine.forget())["prediction log"] == (0, 0)


def test_what_is_left_of_a_file_is_what_it_was(machine: Machine) -> None:
    (file,) = (machine.log / "2026-03-02").iterdir()
    before = parquet.read_table(file)
    machine.forget()
    assert parquet.read_table(file).equals(before.filter(pa.array([True, False, True, True])))


def test_versions_of_the_data_stay_and_are_named_with_the_reason(machine: Machine) -> None:
    version = machine.version.read_bytes()
    told = machine.forget()
    assert machine.version.read_bytes() == version
    assert {(Path(item.file).name, item.rows) for item in told.remains} == {("train.parquet", 2), ("cdef", 1)}
    assert all("not written anew" in item.why for item in told.remains)


def test_the_proof_holds_counts_and_digests_and_not_the_key(machine: Machine) -> None:
    before = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in machine.log.glob("2026-03-01/*")}
    told = machine.forget(entity="17")
    begun, proof = entries_of(open_record(str(file_of(machine.state / "serving"))))
    assert (begun.action, proof.action, proof.reason) == ("forgetting begun", "forgotten", "request 4711")
    log = next(place for place in proof.details["places"] if place["name"] == "prediction log")
    assert {item["before"] for item in log["files"]} >= set(before.values())
    gone = [item for item in log["files"] if "2-host" in item["file"]]
    assert [item["after"] for item in gone] == [""]
    subject = hmac.new(bytes.fromhex(told.salt), b"17", hashlib.sha256).hexdigest()
    assert proof.details["subject"] == begun.details["subject"] == subject
    assert told.salt not in json.dumps(dict(proof.details))


def test_a_file_that_a_server_appends_to_is_left_and_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    finished = write_log(machine.log, [logged({"temperature": 1.0, "site": None}, now, entity="17")], INPUTS)
    table = parquet.read_table(finished)
    growing = finished.with_suffix(".arrows")
    finished.unlink()
    with pa.OSFile(str(growing), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    told = machine.forget()
    assert rows(told)["prediction log"] == (5, 1)
    assert [item.file for item in told.remains if "appends" in item.why] == [str(growing)]
    monkeypatch.setattr(log_rows, "GROWS_FOR", timedelta(0))
    assert rows(machine.forget())["prediction log"] == (1, 0)
    assert not growing.exists()


def test_killed_in_the_middle_nothing_is_lost_and_doing_it_again_ends_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, written = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if self.suffix == log_rows.REWRITING and len(written) == 1:
            # Not an Exception: nothing catches it on the way, as nothing runs after a kill.
            raise KeyboardInterrupt
        written.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        machine.forget()
    monkeypatch.setattr(Path, "replace", replace)
    left = machine.log / "2026-03-02" / "10-1-host-1-77.forgetting"
    left.write_bytes(b"half a file")
    others = [name for name in machine.people() if name in ("16", "18", None)]
    assert others == ["16", "18", None] * 3
    machine.forget()
    assert machine.people() == ["16", "18", None] * 3
    assert not left.exists()


def test_hashed_rows_without_the_secret_are_told_to_be_unseen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOG_SECRET_VARIABLE)
    told = machine.forget(yes=False)
    assert rows(told)["prediction log"] == (3, 3)
    assert LOG_SECRET_VARIABLE in told.unseen[0]


def test_the_online_store_holds_nothing_of_the_person_and_all_of_the_others(tmp_path: Path) -> None:
    store_file = tmp_path / "online" / "library.db"
    store = OnlineStore(str(store_file), "library", definitions_of(write_project(tmp_path / "project")), create=True)
    as_of = pa.array([OLD] * 3, pa.timestamp("us", "UTC"))
    values = {
        "reader_id": pa.array([16, 17, 18], pa.int64()),
        "loans": pa.array([1, 4711, 3], pa.int64()),
        "pages": pa.array([0.5] * 3),
        "average_pages": pa.array([0.5] * 3),
        "likes_poetry": pa.array([True] * 3),
        "genre": pa.array(["crime", "a genre of 17 alone", "crime"]),
        "last_loan_at": as_of,
        "event_timestamp": as_of,
    }
    store.write("loans_so_far", pa.RecordBatch.from_pydict(values))
    entities = pa.table({"key": [16, 17, 18], "digest": pa.array([1, 2, 3], pa.uint64()), "seen": as_of})
    store.note_inventory("loans_so_far", Inventory(OLD, True, entities, "a filling"))
    store.note(Materialization("v1", OLD, "digest", {"loans_so_far": 3}, 17))

    told = forget(Request("17", str(tmp_path), "library", "reader_id", "churn", True))
    before, after = rows(told)["online store"]
    assert before > 6
    assert after == 0
    held = store.inventory("loans_so_far")
    assert held is not None
    assert held.entities["key"].to_pylist() == [16, 18]
    wanted = {"loans_so_far": ["loans", "genre"]}
    answers = store.read(store.reader(wanted, {}), [16, 17, 18])
    assert [answer["loans_so_far"]["loans"] for answer in answers] == [1, None, 3]
    for file in store_file.parent.iterdir():
        assert b"a genre of 17 alone" not in file.read_bytes(), file


def test_a_store_that_is_locked_is_told_and_nothing_is_proved(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kfp_lifecycle.governance import stored_rows
    from kfp_lifecycle.runtime.contract import ContractViolation

    monkeypatch.setattr(stored_rows, "BUSY_SECONDS", 0.1)
    store = machine.state / "online" / "churn.db"
    store.parent.mkdir()
    locker = sqlite3.connect(store, isolation_level=None)
    locker.execute("CREATE TABLE churn_v1_usage (entity_key BLOB, feature_name TEXT, value BLOB)")
    locker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ContractViolation, match=r"The online store .* cannot be used .*locked"):
        machine.forget()
    locker.close()
    actions = [entry.action for entry in entries_of(open_record(str(file_of(machine.state / "serving"))))]
    assert actions == ["forgetting begun"]


def test_of_a_cluster_the_log_in_its_store_is_rewritten_and_all_else_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = machine.state / "buckets" / "churn" / "predictions"
    shutil.copytree(machine.log, bucket / "churn")
    other = {file: file.read_bytes() for file in bucket.rglob("2-host*.parquet")}
    (bucket / "churn" / "notes.parquet").write_bytes(b"of somebody else")
    record = str(machine.state / "record.jsonl")
    with object_store(machine.state / "buckets") as address:
        for name, value in {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        cluster = Cluster("s3://churn/predictions", record, "file:///nowhere", ["the rest"])

        def forget_there(yes: bool) -> Forgotten:
            return forget(Request("17", "/nowhere", "churn", "customer_id", "churn", yes, "request 4711", cluster))

        assert rows(forget_there(yes=False)) == {"prediction log": (4, 4)}
        assert not Path(record).exists()
        told = forget_there(yes=True)
    assert rows(told) == {"prediction log": (4, 0)}
    assert [row["entity"] for row in read_log(bucket / "churn" / "2026-03-01")] == ["16", "18", None]
    # The hashed row was all of its file.
    assert not any(file.exists() for file in other)
    [proof] = [file for file in told.places[0].files if file.after and "2026-03-02" in file.file]
    assert log_rows.digest(bucket / proof.file) == proof.after
    assert told.unseen[0] == "the rest"
    assert "MLflow does not know of the proof" in told.unseen[1]
    # What is here is another place.
    assert machine.people().count("17") == 3
    assert [entry.action for entry in entries_of(open_record(record))] == ["forgetting begun", "forgotten"]
