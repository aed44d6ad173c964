"""The prediction log where many servers write to one folder, and where a disk refuses."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import pytest

from kfp_lifecycle.serving.server import prediction_log
from kfp_lifecycle.serving.server.prediction_log import HalfALine, Prediction, PredictionLog

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def prediction(request: str) -> Prediction:
    return Prediction(AT, request, "devices", "1", None, {}, 0.5, True, 1.0, False)


def requests_in(folder: Path) -> list[str]:
    return sorted(json.loads(line)["request_id"] for file in folder.rglob("*.jsonl") for line in file.open())


class FullOnceHalf(FileIO):
    """A file that takes a half of the first write, and refuses the rest."""

    def __init__(self, name: Path) -> None:
        super().__init__(name, "ab")
        self.taken = False

    def write(self, lines: object) -> int:
        content = bytes(lines)  # type: ignore[call-overload]
        if self.taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken = True
        return int(super().write(content[: len(content) // 2]) or 0)


class Interrupted(FullOnceHalf):
    """The same, and somebody else writes meanwhile."""

    def write(self, lines: object) -> int:
        if self.taken:
            with Path(str(self.name)).open("ab") as other:
                other.write(b'{"request_id": "of another"}\n')
        return super().write(lines)


class Stuck(FullOnceHalf):
    """The same, and nothing can be taken back."""

    def truncate(self, size: int | None = None) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_replicas_that_are_all_process_1_write_to_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    logs = [PredictionLog(tmp_path, "devices", "1") for _ in range(3)]
    for number, log in enumerate(logs):
        log.write([prediction(f"{number}-{line}") for line in range(100)])
    for log in logs:
        log.close()
    files = list(tmp_path.rglob("*.jsonl"))
    assert len(files) == 3
    assert all(file.name.startswith(f"1-{os.uname().nodename.replace('.', '-')}-") for file in files)
    assert len(requests_in(tmp_path)) == 300


def test_a_file_of_somebody_else_is_not_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "file_name", lambda version: "same.jsonl")
    for request in ("first", "second"):
        log = PredictionLog(tmp_path, "devices", "same")
        log.write([prediction(request)])
        log.close()
    assert requests_in(tmp_path) == ["first"]
    assert log.dropped._value.get() == 1


def test_a_broken_write_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"whole\n")
    with pytest.raises(OSError, match="No space left"), FullOnceHalf(file) as full:
        prediction_log._append_whole(full, b"half a line\n")
    assert file.read_bytes() == b"whole\n"


def test_what_others_wrote_after_a_broken_write_is_never_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"whole\n")
    with pytest.raises(HalfALine), Interrupted(file) as full:
        prediction_log._append_whole(full, b"half a line\n")
    assert file.read_bytes() == b'whole\nhalf a{"request_id": "of another"}\n'


def test_after_half_a_line_that_stays_the_log_goes_on_in_another_file(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "devices", "stuck")
    log._append([prediction("before")])
    assert log._file is not None
    [before] = tmp_path.rglob("*.jsonl")
    log._file = Stuck(before)
    log._append([prediction("lost")])
    log._append([prediction("after")])
    log.close()
    assert log.dropped._value.get() == 1
    [after] = [file for file in tmp_path.rglob("*.jsonl") if file != before]
    assert [json.loads(line)["request_id"] for line in after.open()] == ["after"]
