"""What was read of a table before: kept beside the dataset versions, so that a run need only ask for what is new.

A table's state is the table itself, as the last run ingested it, and the list of loads that made it. A change to how
the table is read makes another state: it begins with everything again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
from pydantic import BaseModel, ValidationError

from kfp_lifecycle.artifacts.tables import Load
from kfp_lifecycle.config.data import Connection, Table
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

FOLDER = "ingested"
STATE_FILE = "state.json"


class State(BaseModel):
    """A table as it was ingested last."""

    file: str
    """The Parquet file that holds it."""
    up_to: datetime
    """The largest watermark in it that was not in the future, UTC without a zone."""
    loads: list[Load]
    """How it came together, oldest first."""


class Increments:
    """The state of one table in the dataset remote."""

    def __init__(self, remote: str, place: Connection, name: str, table: Table):
        definition = table.model_dump(mode="json", exclude={"incremental": {"look_back_hours"}})
        digest = hashlib.sha256(json.dumps([place.url, definition], sort_keys=True).encode()).hexdigest()[:12]
        self._remote, self._name = remote, name
        with self._reaching():
            import fsspec

            self._files, root = fsspec.core.url_to_fs(remote)
        self._folder = posixpath.join(root, FOLDER, name, digest)

    def fetch(self, file: Path) -> State | None:
        """Copy the table as it was to a file. None where nothing was ingested yet.

        Raises:
            ContractViolation: the state is damaged, or the remote cannot be read.
        """
        path = posixpath.join(self._folder, STATE_FILE)
        with self._reaching():
            if not self._files.exists(path):
                return None
            try:
                state = State.model_validate_json(self._files.cat_file(path))
                self._files.get_file(posixpath.join(self._folder, state.file), str(file))
            except (FileNotFoundError, ValidationError) as error:
                raise ContractViolation(
                    f"what was ingested of {self._name} before cannot be read from {self._folder}: {error}. Remove "
                    "that folder; the table is then read in full."
                ) from error
        return state

    def commit(self, file: Path, up_to: datetime, loads: list[Load], previous: State | None) -> None:
        """Make a file the table's state. Whoever reads meanwhile finds either the one before or this one.

        Raises:
            ContractViolation: the remote cannot be written.
        """
        with self._reaching():
            self._files.makedirs(self._folder, exist_ok=True)
            name = f"{uuid.uuid4().hex}.parquet"
            self._files.put_file(str(file), posixpath.join(self._folder, name))
            draft = posixpath.join(self._folder, f"{uuid.uuid4().hex}.json")
            state = State(file=name, up_to=up_to, loads=loads)
            self._files.pipe_file(draft, state.model_dump_json(indent=1).encode())
            self._files.mv(draft, posixpath.join(self._folder, STATE_FILE))
            # The one before stays, for a run that is still reading it.
            kept = {name, STATE_FILE, previous.file if previous else ""}
            for path in self._files.ls(self._folder, detail=False):
                if posixpath.basename(path) not in kept:
                    self._files.rm_file(path)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Each store's client fails in exceptions of its own, which share no base class."""
        try:
            yield
        except ContractViolation:
            raise
        except Exception as error:
            raise ContractViolation(
                f"what was ingested of {self._name} before is kept in the dataset remote {self._remote}, which cannot "
                f"be used: {type(error).__name__}: {error}. Correct dataset_remote of this target or its permissions, "
                f"or read the table in full, without incremental."
            ) from error


def since(state: State, table: Table) -> datetime:
    """The watermark from which on rows are read again."""
    assert table.incremental is not None
    return state.up_to - timedelta(hours=table.incremental.look_back_hours)


def merged(before: str, fresh: str, table: Table, start: datetime) -> str:
    """SQL of the table: of `before` all rows that are older than `start` and did not come again, and all of `fresh`."""
    kept = _kept(fresh, table, start)
    return f"SELECT * FROM {before} AS before WHERE {kept} UNION ALL BY NAME SELECT * FROM {fresh} AS fresh"


def load_of(
    connection: duckdb.DuckDBPyConnection, before: str, fresh: str, table: Table, start: datetime, at: datetime
) -> Load | None:
    """What a load changed; None where it brought what was there already."""
    key = ", ".join(quoted(column) for column in table.key)
    replaced = f"SELECT * FROM {before} AS before WHERE NOT ({_kept(fresh, table, start)})"
    gone, came = f"({replaced} EXCEPT ALL SELECT * FROM {fresh})", f"(SELECT * FROM {fresh} EXCEPT ALL {replaced})"
    arrived, lost, changed = connection.execute(
        f"SELECT (SELECT count(*) FROM {came}), (SELECT count(*) FROM {gone}), "
        f"(SELECT count(*) FROM (SELECT {key} FROM {came} INTERSECT SELECT {key} FROM {gone}))"
    ).fetchall()[0]
    if not arrived and not lost:
        return None
    return Load(at=at, since=start, added=arrived - changed, changed=changed, removed=lost - changed)


def _kept(fresh: str, table: Table, start: datetime) -> str:
    assert table.incremental is not None
    same_key = " AND ".join(f"before.{quoted(key)} = fresh.{quoted(key)}" for key in table.key)
    return (
        f"before.{quoted(table.incremental.watermark)} < TIMESTAMP {literal(str(start))} "
        f"AND NOT EXISTS (SELECT 1 FROM {fresh} AS fresh WHERE {same_key})"
    )
