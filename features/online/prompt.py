"""Online store reader for a thread that must wait for nobody: a SQLite file on a disk of this machine."""

from __future__ import annotations

import functools
import itertools
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feast import RepoConfig
from feast.infra.online_stores.helpers import compute_table_id

from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.online.reading import DECODED, EntityKeys, Stored, Wanted, decoders_of

MOUNTS = Path("/proc/self/mounts")
# File systems that are reached over a network, or through a program, as buckets are.
NETWORKS = re.compile(r"nfs|cifs|smb|9p|ceph|gluster|lustre|beegfs|afs|fuse(?!blk)")
# Between an entity's columns; no name has it, nor a hexadecimal number.
SEPARATOR = "\x1f"
# Different sets of columns that are remembered.
LAYOUTS = 256

Layout = list[tuple[str, list[tuple[str, int]]]]
"""By view, each feature with its column's position."""


def prompt_reader(config: RepoConfig, definitions: Definitions, wanted: Wanted) -> PromptSqliteReader | None:
    """A reader of a store that is such a file; None of any other. The file is there.

    Args:
        config: Of the store, for one version of the definitions.
        definitions: The project's feature definitions.
        wanted: Names of the features, by view.
    """
    if config.online_store.type != "sqlite":
        return None
    file = Path(config.online_store.path)
    return PromptSqliteReader(file, config, definitions, wanted) if on_own_disk(file) else None


class PromptSqliteReader:
    """A file, read a few entities at a time by a thread that must wait for nobody.

    What somebody has locked is not waited for. An entity's values come in one row: for each row SQLite lets other
    threads go on, and gets Python back from one that has much to do only after a while.
    """

    def __init__(self, file: Path, config: RepoConfig, definitions: Definitions, wanted: Wanted) -> None:
        """Open the file.

        Args:
            file: Which one.
            config: Of the store, for one version of the definitions.
            definitions: The project's feature definitions.
            wanted: Names of the features, by view.
        """
        self._keys = EntityKeys(definitions.key, definitions.key_type)
        # Opened on one thread, asked on another.
        self._connection = sqlite3.connect(file, timeout=0.0, check_same_thread=False)
        views = [definitions.views[name] for name in wanted]
        self._decoders: dict[tuple[str, str], Callable[[str], Any]] = {}
        self._places: dict[str, dict[str, tuple[str, str]]] = {}
        tables = []
        for letter, view in zip(map(chr, itertools.count(ord("A"))), views, strict=False):
            decoders = decoders_of(view, wanted[view.name])
            self._decoders |= {(letter, name): _from_hexadecimal(decode) for name, decode in decoders.items()}
            self._places[view.name] = {name: (letter, name) for name in decoders}
            table = compute_table_id(config.project, view).replace('"', '""')
            tables.append(f"SELECT '{letter}' AS view, feature_name, value FROM \"{table}\" WHERE entity_key = ?1")
        self._query = (
            f"SELECT group_concat(view, ''), group_concat(feature_name, '{SEPARATOR}'), "
            f"group_concat(hex(value), '{SEPARATOR}') FROM ({' UNION ALL '.join(tables)})"
        )
        # Nearly every entity has the same columns.
        self._layout = functools.lru_cache(LAYOUTS)(self._laid_out)

    def read_at_once(self, entities: Sequence[Any]) -> list[Stored] | None:
        """What is stored of each entity; None where the file is locked, or cannot be read."""
        try:
            return [self._stored(self._keys.serialized(entity)) for entity in entities]
        except sqlite3.Error:
            return None

    def _stored(self, key: bytes) -> Stored:
        views, names, values = self._connection.execute(self._query, (key,)).fetchone()
        decoders, layout = self._layout(views or "", names or "")
        decoded = [decode(digits) for decode, digits in zip(decoders, (values or "").split(SEPARATOR), strict=False)]
        decoded.append(None)
        return {view: {name: decoded[position] for name, position in of_view} for view, of_view in layout}

    def _laid_out(self, views: str, names: str) -> tuple[list[Callable[[str], Any]], Layout]:
        """What decodes each of an entity's columns, and where each feature is among them, the last of all where not."""
        columns = list(zip(views, names.split(SEPARATOR), strict=False))
        found = {column: position for position, column in enumerate(columns)}
        return [self._decoders.get(column, _ignored) for column in columns], [
            (view, [(name, found.get(column, -1)) for name, column in of_view.items()])
            for view, of_view in self._places.items()
        ]


def _ignored(digits: str) -> None:
    """What is stored of a feature that nobody wants."""


@functools.cache
def _from_hexadecimal(decode: Callable[[bytes], Any]) -> Callable[[str], Any]:
    return functools.lru_cache(DECODED)(lambda digits: decode(bytes.fromhex(digits)))


def on_own_disk(file: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a file is on a disk of this machine and not on a network's, which may keep whoever reads it waiting.

    Args:
        file: It need not be there.
        mounts: What is mounted where, as Linux lists it; without such a list all disks are one's own.
    """
    try:
        listed = [line.split() for line in mounts.read_text("utf-8").splitlines()]
    except OSError:
        return True
    resolved = file.resolve()
    above = {str(place) for place in (resolved, *resolved.parents)}
    # Of two at one place, the later covers the earlier. A space is written as `\040`.
    kinds = {place: kind for _, written, kind, *_ in listed if (place := written.replace(r"\040", " ")) in above}
    return not kinds or not NETWORKS.match(kinds[max(kinds, key=len)])
