"""The statistics of the last snapshot that passed, kept beside the dataset versions, to compare the next with."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Collection, Mapping

import fsspec

from components.data.validate_data.table_statistics import Statistics

FOLDER = "accepted"


def load_accepted(remote: str, tables: Collection[str]) -> dict[str, Statistics]:
    """The statistics of the tables in the last accepted snapshot; of those that were in it."""
    files, root = fsspec.core.url_to_fs(remote)
    accepted = {}
    for table in tables:
        path = _path(root, table)
        if files.exists(path):
            accepted[table] = Statistics.FromString(files.cat_file(path))
    return accepted


def save_accepted(remote: str, statistics: Mapping[str, Statistics]) -> None:
    """Make these the statistics that the next snapshot is compared with."""
    files, root = fsspec.core.url_to_fs(remote)
    files.makedirs(posixpath.join(root, FOLDER), exist_ok=True)
    for table, values in statistics.items():
        # Put in place whole, since another run may be reading it.
        draft = f"{_path(root, table)}.{uuid.uuid4().hex}"
        files.pipe_file(draft, values.SerializeToString())
        files.mv(draft, _path(root, table))


def _path(root: str, table: str) -> str:
    return posixpath.join(root, FOLDER, f"{table}.pb")
