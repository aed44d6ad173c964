"""The statistics of the last dataset that passed, kept beside the dataset versions, to compare the next with."""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Collection, Mapping

import fsspec

from kfp_lifecycle.data.table_statistics import Statistics, TableStatistics

FOLDER = "accepted"


def load_accepted(remote: str, tables: Collection[str]) -> dict[str, TableStatistics]:
    """The statistics of the tables in the last accepted dataset; of those that were in it."""
    files, root = fsspec.core.url_to_fs(remote)
    accepted = {}
    for table in tables:
        if files.exists(_path(root, table, "json")):
            rows = json.loads(files.cat_file(_path(root, table, "json")))
            whole, recent = (
                Statistics.FromString(files.cat_file(_path(root, table, f"{part}.pb"))) for part in ("whole", "recent")
            )
            accepted[table] = TableStatistics(rows["whole"], whole, rows["recent"], recent)
    return accepted


def save_accepted(remote: str, statistics: Mapping[str, TableStatistics]) -> None:
    """Make these the statistics that the next dataset is compared with."""
    files, root = fsspec.core.url_to_fs(remote)
    files.makedirs(posixpath.join(root, FOLDER), exist_ok=True)
    for table, values in statistics.items():
        rows = {"whole": values.rows, "recent": values.recent_rows}
        for suffix, content in (
            ("whole.pb", values.whole.SerializeToString()),
            ("recent.pb", values.recent.SerializeToString()),
            # Last, since its presence says that the others are there.
            ("json", json.dumps(rows).encode()),
        ):
            # Put in place whole, since another run may be reading it.
            draft = f"{_path(root, table, suffix)}.{uuid.uuid4().hex}"
            files.pipe_file(draft, content)
            files.mv(draft, _path(root, table, suffix))


def _path(root: str, table: str, suffix: str) -> str:
    return posixpath.join(root, FOLDER, f"{table}.{suffix}")
