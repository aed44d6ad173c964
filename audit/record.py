"""Audit record: an append-only log whose entries are chained by hashes, in a file here or in a bucket for a cluster."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from kfp_lifecycle.audit.author import author
from kfp_lifecycle.audit.entry import Action, Entry, line_of, read_entry, sealed
from kfp_lifecycle.connections.object_store import is_object_store
from kfp_lifecycle.runtime.contract import ContractViolation

FILE = "audit.jsonl"
# Writers that meet at the same number: one of them wins each time.
MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Line:
    """What stands at one place of a record."""

    place: str
    """Where, in words: `line 3`, or the object's name."""
    text: str


class Record(Protocol):
    """Where entries are kept."""

    place: str
    """Its file or folder, for messages."""

    def append(
        self, action: Action, model: str, version: str = "", reason: str = "", details: Mapping[str, Any] | None = None
    ) -> Entry:
        """Add an entry, whole or not at all, after whatever others add at the same time.

        Raises:
            ContractViolation: it cannot be written. What it would have told of must not happen then.
        """

    def lines(self) -> list[Line]:
        """All that stands in it, in order; what is no entry too.

        Raises:
            ContractViolation: it cannot be read.
        """


def open_record(location: str) -> Record:
    """The record of a location: a file here, or a folder of an object store."""
    return BucketRecord(location.rstrip("/")) if is_object_store(location) else FileRecord(Path(location))


def file_of(serving_folder: Path) -> Path:
    """The record of this machine: it lies with what it is mostly about."""
    return serving_folder / FILE


def entries_of(record: Record) -> list[Entry]:
    """The entries that can be read, in order."""
    found = []
    for line in record.lines():
        entry = _entry(line.text)
        if entry is not None:
            found.append(entry)
    return found


def _entry(text: str) -> Entry | None:
    try:
        return read_entry(text)[0]
    except ValueError:
        return None


def _next(last: Entry | None, values: Mapping[str, Any]) -> Entry:
    number, previous = (last.number + 1, last.hash) if last is not None else (1, "")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return sealed({"number": number, "at": at, "by": author(), **values, "previous": previous})


def _values(action: Action, model: str, version: str, reason: str, details: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"action": action, "model": model, "version": version, "reason": reason, "details": dict(details or {})}


class FileRecord:
    """Lines of a file. Writers take turns by its lock; a line that a killed one left is closed, and stays."""

    def __init__(self, file: Path) -> None:
        """Name the file, which need not be there."""
        self.place, self._file = str(file), file

    def append(
        self, action: Action, model: str, version: str = "", reason: str = "", details: Mapping[str, Any] | None = None
    ) -> Entry:
        """Add a line, on the disk before anything else is done; a disk that refuses keeps nothing of it."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                content = file.readall()
                entries = map(_entry, reversed(content.decode("utf-8", "replace").splitlines()))
                last = next((entry for entry in entries if entry is not None), None)
                entry = _next(last, _values(action, model, version, reason, details))
                torn = b"\n" if content and not content.endswith(b"\n") else b""
                self._write(file.fileno(), torn + line_of(entry).encode() + b"\n", len(content))
        except OSError as error:
            raise ContractViolation(
                f"The audit record {self.place} cannot be written ({error.strerror}), and what it does not tell must "
                f"not happen: {action} of version {version} of {model}. Make room there, or give this user leave."
            ) from error
        return entry

    @staticmethod
    def _write(descriptor: int, line: bytes, size: int) -> None:
        remaining = memoryview(line)
        try:
            while remaining:
                remaining = remaining[os.write(descriptor, remaining) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def lines(self) -> list[Line]:
        """The file's lines."""
        try:
            content = self._file.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ContractViolation(f"The audit record {self.place} cannot be read ({error.strerror}).") from error
        return [Line(f"line {number}", text) for number, text in enumerate(content.splitlines(), start=1)]


class BucketRecord:
    """Objects of a bucket, one for each entry, each put only where there is none: so no writer overwrites another."""

    def __init__(self, location: str) -> None:
        """Name the folder, which need not be there."""
        self.place = location

    def append(
        self, action: Action, model: str, version: str = "", reason: str = "", details: Mapping[str, Any] | None = None
    ) -> Entry:
        """Put the next number; where somebody else was quicker, the one after."""
        import obstore

        from kfp_lifecycle.connections.buckets import store_of

        try:
            store, folder = store_of(self.place)
            for _ in range(MOST_ATTEMPTS):
                last = self._last(store, folder)
                entry = _next(last, _values(action, model, version, reason, details))
                try:
                    obstore.put(store, f"{folder}/{_name(entry.number)}", line_of(entry).encode(), mode="create")
                except obstore.exceptions.AlreadyExistsError:
                    continue
                return entry
            problem = f"{MOST_ATTEMPTS} times somebody else was quicker"
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise ContractViolation(self._unusable("written", error)) from error
        raise ContractViolation(self._unusable("written", ValueError(problem)))

    def lines(self) -> list[Line]:
        """The folder's objects."""
        import obstore

        from kfp_lifecycle.connections.buckets import store_of

        try:
            store, folder = store_of(self.place)
            return [
                Line(name.rpartition("/")[2], obstore.get(store, name).bytes().to_bytes().decode("utf-8", "replace"))
                for name in self._names(store, folder)
            ]
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise ContractViolation(self._unusable("read", error)) from error

    def _last(self, store: Any, folder: str) -> Entry | None:
        import obstore

        names = self._names(store, folder)
        if not names:
            return None
        text = obstore.get(store, names[-1]).bytes().to_bytes().decode("utf-8", "replace")
        last = _entry(text)
        if last is None:
            raise ValueError(f"{names[-1]} is no entry, so that nothing can be chained to it")
        return last

    @staticmethod
    def _names(store: Any, folder: str) -> list[str]:
        import obstore

        return sorted(item["path"] for page in obstore.list(store, prefix=f"{folder}/") for item in page)

    def _unusable(self, how: str, error: Exception) -> str:
        reason = " ".join(str(error).split())
        return (
            f"The audit record {self.place} cannot be {how} ({reason:.200}). What it does not tell must not happen: "
            "see that the store answers and that this account may list, read and create objects there."
        )


def _name(number: int) -> str:
    return f"{number:08d}.json"
