"""Rows of a person in a prediction log of an object store: objects are put anew without them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from kfp_lifecycle.artifacts.prediction_log import FINISHED
from kfp_lifecycle.connections.object_store import file_system
from kfp_lifecycle.governance.log_rows import Rewritten, count, without


def objects_with(log: str, column: str, names: Collection[str]) -> dict[str, int]:
    """Objects of a log, below it, with how many of their rows name the person. Of each one column is fetched.

    Raises:
        OSError: the store does not answer, or refuses.
    """
    from pyarrow import fs

    store, root = file_system(log)
    found = {}
    for item in store.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        # A store takes whole files only, so that none of them grows; what is no file of the log names nobody.
        if item.is_file and item.path.endswith(FINISHED):
            with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid):
                rows = _rows(store, item.path, column, names)
                if rows:
                    found[item.path.removeprefix(f"{root}/")] = rows
    return found


def object_without(log: str, name: str, column: str, names: Collection[str]) -> Rewritten:
    """Put an object anew without the person's rows, whole or not at all; one with nothing left in it goes.

    Raises:
        OSError: the store refuses. The old one stays.
    """
    store, root = file_system(log, writing=True)
    with tempfile.TemporaryDirectory(prefix="forgetting-") as folder:
        copy = Path(folder) / Path(name).name
        with store.open_input_stream(f"{root}/{name}") as content:
            copy.write_bytes(content.read())
        done = without(copy, Path(folder), column, names)
        if copy.exists():
            with store.open_output_stream(f"{root}/{name}") as out:
                out.write(copy.read_bytes())
        else:
            store.delete_file(f"{root}/{name}")
    return Rewritten(name, done.rows, done.before, done.after)


def _rows(store: Any, path: str, column: str, names: Collection[str]) -> int:
    with store.open_input_file(path) as content:
        file = parquet.ParquetFile(content)
        return count(file.read([column]), column, names) if column in file.schema_arrow.names else 0
