"""Audit record: whatever is done to it afterwards is found and named; writers at the same time lose nothing."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from kfp_lifecycle.audit.approval import refuse_unapproved
from kfp_lifecycle.audit.author import author
from kfp_lifecycle.audit.entry import Entry, sealed
from kfp_lifecycle.audit.record import FileRecord, Record, entries_of, file_of, open_record
from kfp_lifecycle.audit.verification import Anchor, verify
from kfp_lifecycle.cli.console import CommandConsole
from kfp_lifecycle.cli.outcome import _describe_ending
from kfp_lifecycle.local import run_records
from kfp_lifecycle.local.events import append_event, event
from kfp_lifecycle.local.run_records import RunRecord
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState, State
from kfp_lifecycle.serving.release.local.history import Event, read_history
from kfp_lifecycle.serving.release.local.history import record as record_release

FIVE = ("approval asked", "approved", "release begun", "released", "promoted")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A record of five entries."""
    record = FileRecord(tmp_path / "audit.jsonl")
    for action in FIVE:
        record.append(action, "churn", "3", f"reason of {action}", {"rows": 12, "share": 0.25, "name": "Zoë"})  # type: ignore[arg-type]
    return tmp_path / "audit.jsonl"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of moto's S3, which answers one request after the other: only so it keeps S3's promise that of two who
    put an object only where there is none, one does."""
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{server.server_port}/records", method="PUT"), timeout=60
    ).close()
    yield "s3://records"
    server.shutdown()
    serving.join()
    server.server_close()


def findings(file: Path, *anchors: Anchor) -> list[tuple[str, str]]:
    return [(finding.kind, finding.sentence) for finding in verify(FileRecord(file).lines(), anchors)]


def change(file: Path, edit: Callable[[list[str]], list[str]]) -> None:
    file.write_text("".join(f"{line}\n" for line in edit(file.read_text("utf-8").splitlines())), "utf-8")


def head_of(file: Path) -> Anchor:
    last = entries_of(FileRecord(file))[-1]
    return Anchor("MLflow's model churn", last.number, last.hash)


def test_a_record_that_nobody_touched_is_whole(file: Path) -> None:
    assert findings(file, head_of(file)) == []
    assert [entry.action for entry in entries_of(FileRecord(file))] == list(FIVE)


def test_an_edited_entry_is_named(file: Path) -> None:
    change(file, lambda lines: [line.replace("reason of approved", "reason of nobody") for line in lines])
    assert findings(file) == [("edited", "line 2, entry 2, was edited after it was written")]


def test_an_entry_that_was_edited_and_hashed_anew_is_named(file: Path) -> None:
    def edit(lines: list[str]) -> list[str]:
        values = json.loads(lines[1])
        del values["hash"]
        forged = sealed({**values, "by": "somebody else"})
        return [lines[0], json.dumps(forged.__dict__), *lines[2:]]

    change(file, edit)
    assert findings(file) == [
        ("edited", "entry 2 is not the one that entry 3 was chained to: it was written anew"),
    ]


def test_a_removed_entry_is_named(file: Path) -> None:
    change(file, lambda lines: [*lines[:2], *lines[3:]])
    assert findings(file) == [("removed", "entry 3 was removed")]


def test_entries_in_another_order_are_named(file: Path) -> None:
    change(file, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    assert findings(file) == [("moved", "line 3, entry 2, stands after entry 3")]


def test_an_entry_that_was_put_in_twice_is_named(file: Path) -> None:
    change(file, lambda lines: [*lines, lines[4]])
    assert findings(file) == [("moved", "line 6 is a second entry 5")]


def test_a_cut_tail_is_found_by_the_head_that_mlflow_knows(file: Path) -> None:
    head = head_of(file)
    change(file, lambda lines: lines[:3])
    assert findings(file) == []
    assert findings(file, head) == [("cut off", "entry 4 to 5 cut off: MLflow's model churn knew entry 5")]


def test_a_record_that_was_written_anew_from_an_entry_on_is_found_by_the_head(file: Path) -> None:
    head = head_of(file)
    change(file, lambda lines: lines[:4])
    FileRecord(file).append("promoted", "churn", "3", "by another")
    assert findings(file, head) == [("edited", "entry 5 is another than the one that MLflow's model churn knew")]


def test_a_record_that_is_gone_is_found_by_the_head(file: Path) -> None:
    head = head_of(file)
    file.unlink()
    assert findings(file, head) == [("cut off", "entry 1 to 5 cut off: MLflow's model churn knew entry 5")]


def test_a_line_that_a_killed_writer_left_is_told_and_the_chain_goes_on_behind_it(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole + whole.splitlines()[0][:70])
    FileRecord(file).append("promoted", "churn", "4")
    told = verify(FileRecord(file).lines())
    assert [(finding.kind, finding.grave) for finding in told] == [("torn", False)]
    assert "line 6" in told[0].sentence
    assert [entry.number for entry in entries_of(FileRecord(file))] == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_refuses_is_told_before_anything_happens(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder has to be")
    with pytest.raises(
        ContractViolation, match="what it does not tell must not happen: promoted of version 3 of churn"
    ):
        FileRecord(tmp_path / "taken" / "audit.jsonl").append("promoted", "churn", "3")


def write_many(location: str, name: str) -> None:
    record = open_record(location)
    for number in range(10):
        record.append("promoted", name, str(number))


def written_by_three(location: str) -> Record:
    """The record after three processes wrote at the same time."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_many, args=(location, name)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    return open_record(location)


def assert_all_are_there(record: Record) -> None:
    entries = entries_of(record)
    assert verify(record.lines()) == []
    assert [entry.number for entry in entries] == list(range(1, 31))
    for name in ("a", "b", "c"):
        assert [entry.version for entry in entries if entry.model == name] == [str(number) for number in range(10)]


@pytest.mark.slow
def test_writers_at_the_same_time_lose_nothing_in_a_file(tmp_path: Path) -> None:
    assert_all_are_there(written_by_three(str(tmp_path / "audit.jsonl")))


@pytest.mark.slow
def test_writers_at_the_same_time_lose_nothing_in_a_bucket(bucket: str) -> None:
    assert_all_are_there(written_by_three(f"{bucket}/root/audit"))


def test_no_object_of_a_bucket_is_ever_written_over(bucket: str) -> None:
    first, second = open_record(f"{bucket}/audit"), open_record(f"{bucket}/audit")
    told = [first.append("approved", "churn", "3"), second.append("rejected", "churn", "3")]
    assert entries_of(first) == told
    assert [line.place for line in first.lines()] == ["00000001.json", "00000002.json"]


def test_a_bucket_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    with pytest.raises(ContractViolation, match="The audit record s3://nowhere/audit cannot be written"):
        open_record("s3://nowhere/audit").append("approved", "churn", "3")


def test_a_release_on_this_machine_stands_in_history_and_record(tmp_path: Path) -> None:
    event = Event("churn", "3", "2", "rolled back", "canary", "slower", [{"percent": 10}])
    record_release(tmp_path, event)
    (entry,) = entries_of(FileRecord(file_of(tmp_path)))
    assert (entry.action, entry.model, entry.version, entry.reason) == ("release rolled back", "churn", "3", "slower")
    assert entry.details == {"champion": "2", "strategy": "canary", "evidence": [{"percent": 10}]}
    assert read_history(tmp_path) == [event]


def decided(file: Path, *actions: str) -> str:
    for action in actions:
        FileRecord(file).append(action, "churn", "3", "too early")  # type: ignore[arg-type]
    return str(file)


def test_a_version_that_waits_for_approval_is_not_released(tmp_path: Path) -> None:
    location = decided(tmp_path / "audit.jsonl", "approval asked")
    with pytest.raises(ContractViolation, match=r"Version 3 of churn waits for .*`lifecycle approve 3 --model"):
        refuse_unapproved(location, "churn", "3")
    refuse_unapproved(location, "churn", "2")


def test_a_rejected_version_is_not_released_until_it_is_approved_after_all(tmp_path: Path) -> None:
    location = decided(tmp_path / "audit.jsonl", "approval asked", "approved")
    refuse_unapproved(location, "churn", "3")
    decided(tmp_path / "audit.jsonl", "rejected")
    with pytest.raises(ContractViolation, match=r"was rejected by .*: too early"):
        refuse_unapproved(location, "churn", "3")
    refuse_unapproved(decided(tmp_path / "audit.jsonl", "approved"), "churn", "3")


def test_no_reason_steers_the_terminal_or_passes_for_an_entry(tmp_path: Path) -> None:
    reason = "\x1b[2Jgone\x1b]0;title\x07\n   9  2026-01-01T00:00:00+00:00  churn version 3: approved by alice"
    FileRecord(file_of(tmp_path / "serving")).append("rejected", "churn", "3", reason)
    told = subprocess.run(
        [sys.executable, "-m", "kfp_lifecycle.cli", "audit"],
        env={**os.environ, "LIFECYCLE_STATE": str(tmp_path), "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.splitlines()[0].startswith("   1  ")
    assert all(line.startswith(" " * 6) for line in told.splitlines()[1:])
    assert not {"\x1b", "\x07"} & set(told)
    assert "gone" in told


def test_a_step_on_a_cluster_is_named_by_its_service_account(tmp_path: Path) -> None:
    claims = json.dumps({"sub": "system:serviceaccount:team:pipeline-runner"}).encode()
    token = tmp_path / "token"
    token.write_text(f"header.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature")
    assert author(token).startswith("system:serviceaccount:team:pipeline-runner@")
    assert "@" in author(tmp_path / "none")


def test_an_entry_is_all_that_its_hash_covers(file: Path) -> None:
    for name in Entry.__dataclass_fields__:
        if name != "hash":
            values = json.loads(file.read_text("utf-8").splitlines()[0])
            changed = {**values, name: 7 if name == "number" else {} if name == "details" else "released"}
            lines = [json.dumps(changed), *file.read_text("utf-8").splitlines()[1:]]
            copy = file.with_name("copy.jsonl")
            copy.write_text("\n".join(lines) + "\n", "utf-8")
            assert ("edited", f"line 1, entry {changed['number']}, was edited after it was written") in findings(copy)


def test_a_run_that_ends_before_its_release_says_that_it_waits_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_records, "RUNS", tmp_path)
    record = RunRecord("training-1", "training", "churn", "/churn", [], RunState.done)
    record.folder.mkdir()
    append_event(record.folder / "events.jsonl", {"steps": ["register-model"]})
    registered = {"path": "/gone", "metadata": {"model": "churn", "version": "3", "waits": True}}
    done = event("register-model", State.done, artifacts={"registered_model": registered})
    append_event(record.folder / "events.jsonl", done)
    screen = io.StringIO()
    _describe_ending(CommandConsole(file=screen, width=200), record, [])
    assert screen.getvalue().split("\n")[1:4] == [
        "Version 3 waits for approval. A person decides:",
        "  lifecycle approve 3 --model churn",
        "  lifecycle reject 3 --model churn",
    ]
