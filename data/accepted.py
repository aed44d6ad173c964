"""Accepted datasets: statistics of the last one that passed validation, and of the one before it.

They are kept beside the dataset versions. The one before is what the last was compared with: when the same source is
validated again, under other limits, it is compared with that once more, and not with itself.
"""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import fsspec
from pydantic import ValidationError

from kfp_lifecycle.artifacts.document import Part

if TYPE_CHECKING:
    from kfp_lifecycle.data.table_statistics import TableStatistics

FOLDER = "accepted"
NEWEST = "newest.json"
NOTHING = "nothing"
"""As a reference: there is no accepted dataset to compare with."""


class Accepted(Part):
    """An accepted dataset."""

    name: str = ""
    """Its name; empty where none was accepted yet."""
    source_version: str = ""
    """The source's, when it was read."""
    before: str = ""
    """The name of the one that it was compared with; empty where there was none."""


def newest_accepted(remote: str) -> Accepted:
    """The dataset that was accepted last."""
    files, root = fsspec.core.url_to_fs(remote, use_listings_cache=False)
    path = posixpath.join(root, FOLDER, NEWEST)
    try:
        return Accepted.model_validate_json(files.cat_file(path))
    except (FileNotFoundError, ValidationError):
        return Accepted()


def compared_with(remote: str, reference: str) -> str:
    """The name of the accepted dataset that a reference means; empty where it means none.

    Args:
        remote: The DVC remote.
        reference: As `fingerprint_source` gives it; anything else means the last accepted dataset.
    """
    name = reference.partition("@")[0]
    if name == NOTHING:
        return ""
    files, root = fsspec.core.url_to_fs(remote, use_listings_cache=False)
    if name and files.exists(posixpath.join(root, FOLDER, name)):
        return name
    return newest_accepted(remote).name


def load_accepted(remote: str, tables: Collection[str], name: str) -> dict[str, TableStatistics]:
    """The statistics of the tables in an accepted dataset; of those that were in it."""
    from kfp_lifecycle.data.table_statistics import Statistics, TableStatistics

    if not name:
        return {}
    files, root = fsspec.core.url_to_fs(remote, use_listings_cache=False)
    folder = posixpath.join(root, FOLDER, name)
    accepted = {}
    for table in tables:
        if files.exists(posixpath.join(folder, f"{table}.json")):
            rows = json.loads(files.cat_file(posixpath.join(folder, f"{table}.json")))
            whole, recent = (
                Statistics.FromString(files.cat_file(posixpath.join(folder, f"{table}.{part}.pb")))
                for part in ("whole", "recent")
            )
            accepted[table] = TableStatistics(rows["whole"], whole, rows["recent"], recent)
    return accepted


def save_accepted(
    remote: str, statistics: Mapping[str, TableStatistics], source_version: str = "", before: str = ""
) -> None:
    """Make these the statistics that the next dataset is compared with.

    Args:
        remote: The DVC remote.
        statistics: By table.
        source_version: The source's, when it was read.
        before: The accepted dataset that this one was compared with. It is kept; older ones are not.
    """
    files, root = fsspec.core.url_to_fs(remote, use_listings_cache=False)
    name = uuid.uuid4().hex
    folder = posixpath.join(root, FOLDER, name)
    files.makedirs(folder, exist_ok=True)
    for table, values in statistics.items():
        rows = {"whole": values.rows, "recent": values.recent_rows}
        for suffix, content in (
            ("whole.pb", values.whole.SerializeToString()),
            ("recent.pb", values.recent.SerializeToString()),
            ("json", json.dumps(rows).encode()),
        ):
            files.pipe_file(posixpath.join(folder, f"{table}.{suffix}"), content)
    # Put in place whole and last, since another run may be reading it.
    draft = posixpath.join(root, FOLDER, f"{name}.json")
    newest = Accepted(name=name, source_version=source_version, before=before)
    files.pipe_file(draft, newest.model_dump_json(indent=1).encode())
    files.mv(draft, posixpath.join(root, FOLDER, NEWEST))
    for path in files.ls(posixpath.join(root, FOLDER), detail=False):
        if posixpath.basename(path.rstrip("/")) not in {name, before, NEWEST, FOLDER}:
            files.rm(path, recursive=True)
