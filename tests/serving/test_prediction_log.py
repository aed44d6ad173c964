"""The prediction log: whole batches by hour and writer, whatever disks and clients do."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kfp_lifecycle.config.log_policy import LoggedKey, LogPolicy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server import log_segment, prediction_log
from kfp_lifecycle.serving.server.log_segment import Segment
from kfp_lifecycle.serving.server.log_storage import FolderStorage, ObjectStorage, Spool
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.served import Served
from tests.control_planes.cloud_storage import cloud_storage
from tests.control_planes.object_store import object_store
from tests.prediction_logs import read_log

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def served(
    request: str, at: datetime = AT, keys: list[Any] | None = None, rows: int = 1, caller: str = "192.0.2.1"
) -> Served:
    return Served(
        at.timestamp(), request, keys, np.full((1, rows), 20.5), [["north"] * rows], np.full(rows, 0.5),
        np.full(rows, True), 1.25, False, caller=caller,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def own_disk(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spools are in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("disk")))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., PredictionLog]]:
    """Opens logs below the test's folder, and closes them."""
    logs = []

    def open_log(version: str = "1", **settings: Any) -> PredictionLog:
        capacity, secret = settings.pop("capacity", 1000), settings.pop("caller_secret", "")
        kept = LogPolicy(**{"retention_days": 100_000, **settings})
        log = PredictionLog(tmp_path, "devices", version, ["temperature"], ["site"], kept, capacity, secret)
        log.start()
        logs.append(log)
        return log

    yield open_log
    for log in logs:
        log.close()


def requests_in(folder: Path) -> list[str] | None:
    """What a log holds; None in the moment in which somebody writes to it."""
    try:
        return sorted(row["request_id"] for row in read_log(folder))
    except (pa.ArrowException, OSError):
        return None


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_prediction_is_logged_with_all_that_was_asked_and_answered(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    log = opened()
    log.write(
        Served(
            AT.timestamp(), "größer ✓", ["d1", 7, None], np.array([[1.5, math.nan, -0.0]]), [["north", "", "süd"]],
            np.array([0.1, 0.2, 0.9]), np.array([False, False, True]), 3.25, True,
        )
    )  # fmt: skip
    log.close()
    rows = read_log(tmp_path)
    assert [row["features"] for row in rows] == [
        {"temperature": 1.5, "site": "north"},
        {"temperature": None, "site": None},
        {"temperature": -0.0, "site": "süd"},
    ]
    assert [row["entity"] for row in rows] == ["d1", "7", None]
    assert {(row["request_id"], row["model"], row["version"], row["time"]) for row in rows} == {
        ("größer ✓", "devices", "1", AT)
    }
    assert [(row["score"], row["decision"]) for row in rows] == [(0.1, False), (0.2, False), (0.9, True)]
    assert {(row["latency_ms"], row["shadow"]) for row in rows} == {(3.25, True)}


def test_predictions_go_to_the_file_of_their_hour(tmp_path: Path, opened: Callable[..., PredictionLog]) -> None:
    log = opened()
    for hour in (9, 10):
        log.write(served("r", AT.replace(hour=hour)))
    log.write(served("r", AT.replace(day=2)))
    log.close()
    files = sorted(tmp_path.rglob("*.parquet"))
    assert [(file.parent.name, file.name[:5]) for file in files] == [
        ("2026-03-01", "09-1-"),
        ("2026-03-01", "10-1-"),
        ("2026-03-02", "12-1-"),
    ]
    assert not list(tmp_path.rglob("*.arrows"))


def test_what_was_served_can_be_read_a_second_later_while_the_server_runs(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    log = opened()
    log.write(served("first", datetime.now(UTC)))
    until(lambda: list(tmp_path.rglob("*.arrows")) and requests_in(tmp_path) == ["first"])
    log.write(served("second", datetime.now(UTC)))
    until(lambda: requests_in(tmp_path) == ["first", "second"])


def test_replicas_that_are_all_process_1_write_to_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    logs = [opened() for _ in range(3)]
    for number, log in enumerate(logs):
        for line in range(100):
            log.write(served(f"{number}-{line}"))
        log.close()
    files = list(tmp_path.rglob("*.parquet"))
    assert len(files) == 3
    assert all(f"-1-{os.uname().nodename}-1-" in file.name for file in files)
    assert len(requests_in(tmp_path)) == 300


def test_a_file_of_somebody_else_is_not_appended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(log_segment, "writer_name", lambda version: "same")
    place = tmp_path / "devices" / "2026-03-01"
    place.mkdir(parents=True)
    (place / "12-same.arrows").write_bytes(b"of somebody else")
    log = opened()
    log.write(served("ours"))
    log.close()
    assert (place / "12-same.arrows").read_bytes() == b"of somebody else"


def test_a_log_that_cannot_keep_up_counts_what_it_drops_and_never_blocks(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    log = opened(version="full", capacity=50)
    for _ in range(2000):
        log.write(served("r", rows=10))
    log.close()
    assert len(read_log(tmp_path)) == log.written._value.get()
    assert log.dropped._value.get() > 0
    assert log.written._value.get() + log.dropped._value.get() == 20_000


class Full:
    """A disk that is full while `full` is set, having taken half of what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.full = True
        append = Segment.append

        def refusing(segment: Segment, message: Any) -> None:
            if self.full and segment.path.is_relative_to(folder):
                segment._file.write(bytes(message)[: len(memoryview(message)) // 2])
                segment._file.truncate(segment.size)
                raise OSError(errno.ENOSPC, "No space left on device")
            append(segment, message)

        monkeypatch.setattr(Segment, "append", refusing)


def test_a_folder_that_is_full_costs_nothing_but_a_detour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(prediction_log, "TRY_AGAIN_SECONDS", 0.0)
    log = opened(version="spilled")
    log.write(served("before"))
    until(lambda: requests_in(tmp_path) == ["before"])
    disk = Full(monkeypatch, tmp_path)
    log.write(served("meanwhile"))
    until(lambda: log.spilled._value.get() == 1)
    disk.full = False
    log.write(served("after"))
    log.close()
    assert requests_in(tmp_path) == ["after", "before", "meanwhile"]
    assert log.dropped._value.get() == 0


def test_a_folder_that_stays_full_keeps_no_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(prediction_log, "SPILL_BYTES", -1)
    log = opened(version="stays-full")
    Full(monkeypatch, tmp_path)
    log.write(served("lost"))
    log.close()
    assert read_log(tmp_path) == []
    assert log.dropped._value.get() == 1


SERVER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tests.serving.test_prediction_log import served
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
log = PredictionLog(Path(sys.argv[1]), "devices", "killed", ["temperature"], ["site"])
log.start()
log.write(served("of the killed"))
time.sleep(600)
"""


def test_what_a_killed_server_kept_on_its_own_disk_is_brought_by_the_next(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    # Where the day's folder should be is a file: the disk refuses.
    obstacle = tmp_path / "devices" / "2026-03-01"
    obstacle.parent.mkdir()
    obstacle.write_bytes(b"")
    disk = Path(tempfile.gettempdir())
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), *sys.path], env={**os.environ, "TMPDIR": str(disk)}
    ) as server:
        try:
            until(lambda: requests_in(disk) == ["of the killed"])
        finally:
            server.kill()
    obstacle.unlink()
    log = opened(version="living")
    until(lambda: requests_in(tmp_path) == ["of the killed"])
    until(lambda: log._spools() == [])
    assert list(disk.iterdir()) == []


def test_a_server_that_lives_keeps_what_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    Full(monkeypatch, tmp_path)
    log = opened(version="lives")
    log.write(served("mine"))
    until(lambda: log.spilled._value.get() == 1)
    assert Spool.left(log.name) == []


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 and Cloud Storage, whose bucket `logs` is a folder of the test's."""
    (tmp_path / "logs").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody")
    with object_store(tmp_path) as s3, cloud_storage(tmp_path) as gs:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs)
        yield


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("store", ["minio://logs/predictions", "gs://logs/predictions"])
def test_an_object_store_gets_whole_files_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setattr(prediction_log, "UPLOAD_SECONDS", 0.0)
    place = tmp_path / "logs" / "predictions" / "devices"
    version = f"stored-{store[:2]}"
    log = PredictionLog(store, "devices", version, ["temperature"], ["site"], LogPolicy(retention_days=100_000))
    log.start()
    log.write(served("first"))
    until(lambda: requests_in(place) == ["first"])
    log.write(served("last"))
    log.close()
    assert requests_in(place) == ["first", "last"]
    assert {file.suffix for file in place.glob("*/*")} == {".parquet"}
    assert (log.written._value.get(), log.spilled._value.get()) == (2, 0)
    assert list(Path(tempfile.gettempdir()).rglob("*.lock")) == []
    (place / "2026-02-28").mkdir()
    (place / "2026-02-28" / "10-1.parquet").write_bytes(b"old")
    assert ObjectStorage(f"{store}/devices").prune(oldest="2026-03-01", most_bytes=2**30) == 1
    assert requests_in(place) == ["first", "last"]


@pytest.mark.usefixtures("stores")
def test_while_an_object_store_is_away_what_is_logged_waits_on_the_own_disk_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "UPLOAD_SECONDS", 0.0)
    monkeypatch.setattr(prediction_log, "TRY_AGAIN_SECONDS", 0.0)
    # The bucket's name is that of a file: whatever is put there fails.
    (tmp_path / "logs").rmdir()
    (tmp_path / "logs").write_bytes(b"")
    log = PredictionLog("s3://logs", "devices", "away", ["temperature"], ["site"], LogPolicy(retention_days=100_000))
    log.start()
    log.write(served("first"))
    until(lambda: log._refuses)
    log.write(served("second"))
    until(lambda: log.spilled._value.get() == 1)
    assert (log.written._value.get(), log.dropped._value.get()) == (1, 0)
    (tmp_path / "logs").unlink()
    until(lambda: requests_in(tmp_path / "logs") == ["first", "second"])
    log.close()


def test_a_disk_that_hangs_keeps_no_server_from_ending(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(prediction_log, "CLOSE_SECONDS", 0.1)
    release = threading.Event()
    monkeypatch.setattr(Segment, "append", lambda *_: release.wait())
    log = opened(version="hangs")
    log.write(served("lost", rows=3))
    log.close()
    assert log.dropped._value.get() == 3
    release.set()


def test_what_cannot_be_written_takes_nothing_else_with_it(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    log = opened(version="hostile")
    log.write(served("before"))
    log.write(served("half a character \ud800"))
    log.write(served("after"))
    log.close()
    assert requests_in(tmp_path) == ["after", "before"]
    assert log.dropped._value.get() == 1


def test_a_thread_that_dies_is_started_again_counted_and_not_healthy_when_it_dies_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., PredictionLog]
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    log = opened(version="dies")
    assert log.is_alive
    with monkeypatch.context() as patched:
        patched.setattr(log, "_write", lambda *_: exec("raise SystemExit"))
        log.write(served("lost"))
        until(lambda: not log._thread.is_alive())
        assert not log.is_alive
    log.revive()
    assert log.is_alive
    log.write(served("after"))
    until(lambda: requests_in(tmp_path) == ["after"])
    assert (log.deaths._value.get(), log.dropped._value.get()) == (1, 1)
    log._died = prediction_log.DEATHS_TOO_MANY
    assert not log.is_alive


def test_a_segment_after_a_broken_write_is_as_it_was_before(tmp_path: Path) -> None:
    from kfp_lifecycle.serving.server.log_batch import BatchMaker

    maker = BatchMaker("devices", "1", ["temperature"], ["site"])
    segment = Segment(tmp_path, AT.replace(minute=0), "1", maker.schema)
    segment.append(maker.message([served("whole")], str, str))
    whole = segment.path.read_bytes()
    file = segment._file

    class Half:
        """Takes a half, then refuses."""

        def write(self, content: Any) -> int:
            if file.seek(0, os.SEEK_END) > len(whole):
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(file.write(bytes(content)[:10]))

        def truncate(self, size: int) -> int:
            return file.truncate(size)

    segment._file = Half()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        segment.append(maker.message([served("broken")], str, str))
    assert segment.path.read_bytes() == whole


def test_old_days_and_what_is_too_much_are_removed_the_oldest_first(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        place = tmp_path / f"2026-03-0{day}"
        place.mkdir()
        for hour in (10, 11):
            (place / f"{hour}-1.parquet").write_bytes(b"x" * 100)
    (tmp_path / "2026-03-02" / "09-other.arrows").write_bytes(b"x" * 100)
    (tmp_path / "2026-03-02" / "notes.txt").write_bytes(b"of somebody")
    assert FolderStorage(tmp_path).prune(oldest="2026-03-02", most_bytes=350) == 4
    assert not (tmp_path / "2026-03-01").exists()
    assert sorted(file.name for file in (tmp_path / "2026-03-02").iterdir()) == ["09-other.arrows", "notes.txt"]
    assert sorted(file.name for file in (tmp_path / "2026-03-03").iterdir()) == ["10-1.parquet", "11-1.parquet"]


@pytest.mark.parametrize(
    ("key", "named"), [(LoggedKey.plain, ["d1", "d1", None]), (LoggedKey.none, [None, None, None])]
)
def test_whether_the_entity_is_named_is_a_setting(
    tmp_path: Path, opened: Callable[..., PredictionLog], key: LoggedKey, named: list[str | None]
) -> None:
    log = opened(key=key)
    log.write(served("r", keys=["d1", "d1", None], rows=3))
    log.close()
    assert [row["entity"] for row in read_log(tmp_path)] == named


def test_a_hashed_key_is_the_same_for_the_same_entity_and_needs_the_secret(
    tmp_path: Path, opened: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for secret in ("one", "two"):
        monkeypatch.setenv("LIFECYCLE_LOG_SECRET", secret)
        log = opened(key=LoggedKey.hashed)
        log.write(served(secret, keys=[7, "7", "8"], rows=3))
        log.close()
        found += [row["entity"] for row in read_log(tmp_path) if row["request_id"] == secret]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert all(len(name) == 32 for name in found)


def test_who_asked_is_one_digest_on_all_servers_of_a_release_and_never_an_address(
    tmp_path: Path, opened: Callable[..., PredictionLog]
) -> None:
    for version, settings in {
        "1": {"caller_secret": "of the release"},
        "2": {"caller_secret": "of the release"},
        "3": {"caller_secret": "of another"},
        "4": {"caller_secret": "of the release", "key": LoggedKey.none},
    }.items():
        log = opened(version=version, **settings)
        log.write(served("r"))
        log.write(served("other", caller="192.0.2.2", rows=2))
        log.write(served("unknown", caller=""))
        log.close()
    rows = read_log(tmp_path)
    called = {(row["version"], row["request_id"]): row["caller"] for row in rows}
    assert called["1", "r"] == called["2", "r"] != called["1", "other"]
    assert called["3", "r"] not in (None, called["1", "r"])
    assert "192.0.2" not in str(rows)
    # Who wants nobody named has nobody named.
    assert {name for (version, request), name in called.items() if version == "4" or request == "unknown"} == {None}


def test_keys_are_not_hashed_without_a_secret(
    opened: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIFECYCLE_LOG_SECRET", raising=False)
    with pytest.raises(ContractViolation, match="set LIFECYCLE_LOG_SECRET"):
        opened(key=LoggedKey.hashed)


def test_nothing_is_logged_where_nothing_is_to_be(tmp_path: Path, opened: Callable[..., PredictionLog]) -> None:
    log = opened(version="silent", enabled=False)
    log.write(served("r"))
    log.close()
    assert (read_log(tmp_path), log.dropped._value.get()) == ([], 0)


def test_features_can_be_left_out(tmp_path: Path, opened: Callable[..., PredictionLog]) -> None:
    log = opened(features=False)
    log.write(served("r"))
    log.close()
    (file,) = tmp_path.rglob("*.parquet")
    assert "features" not in pq.read_schema(file).names
