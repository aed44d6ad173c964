"""Online store readers: any store by Feast's own class, SQLite by one question for all views.

`online_servers` has such readers for servers. The values are where and as Feast puts them (feast:
docs/specs/online_store_format.md); only the way to them is shorter. A test holds each reader against Feast's own.
"""

from __future__ import annotations

import functools
import sqlite3
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore as FeastOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, feast_value_type_to_python_type
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from kfp_lifecycle.features.definitions import TIMESTAMP

Wanted = Mapping[str, Sequence[str]]
"""Names of the features that are wanted, by view."""
Stored = dict[str, dict[str, Any]]
"""What is stored of one entity: by view the values by feature, None where missing, and under `event_timestamp` the
moment until which they are known, None where that is the moment of the newest materialization."""

# SQLite takes no more than 32,766 parameters.
ENTITIES_AT_ONCE = 10_000
# Values that are remembered decoded, of each type: counts and categories come again and again.
DECODED = 65_536
_KEY_FIELDS = {"INTEGER": "int32_val", "BIGINT": "int64_val", "VARCHAR": "string_val"}
_LENGTH = struct.Struct("<I")
_FIELDS: dict[FeastType, str] = {
    Int32: "int32_val",
    Int64: "int64_val",
    Float32: "float_val",
    Float64: "double_val",
    Bool: "bool_val",
    String: "string_val",
    UnixTimestamp: "unix_timestamp_val",
}


class EntityKeys:
    """How a store names the entities."""

    def __init__(self, key: str, key_type: str, version: int = 3) -> None:
        """Note what is the same for all.

        Args:
            key: The key column.
            key_type: Its DuckDB type: INTEGER, BIGINT or VARCHAR.
            version: Of Feast's serialization.
        """
        self._key, self._field = key, _KEY_FIELDS[key_type]
        self._number = {"INTEGER": struct.Struct("<i"), "BIGINT": struct.Struct("<q")}.get(key_type)
        example: bytes = serialize_entity_key(self.message("" if self._number is None else 0), version)
        # A serialized key ends with the number, or with the text and its length before it.
        self._prefix = example[: -(self._number or _LENGTH).size]

    def message(self, entity: Any) -> EntityKey:
        """Feast's message."""
        return EntityKey(join_keys=[self._key], entity_values=[Value(**{self._field: entity})])

    def serialized(self, entity: Any) -> bytes:
        """As Feast's `serialize_entity_key` writes it."""
        if self._number is not None:
            return self._prefix + self._number.pack(entity)
        text: bytes = entity.encode()
        return self._prefix + _LENGTH.pack(len(text)) + text


class Reader(Protocol):
    """Reads the wanted features of entities from one kind of store."""

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """What is stored of each entity."""


class AsyncReader(Protocol):
    """Reads them on an event loop, which goes on meanwhile."""

    async def read_later(self, entities: Sequence[Any], seconds: float) -> list[Stored]:
        """What is stored of each entity.

        Args:
            entities: Entity keys.
            seconds: What has not come by then is waited for no longer, which is a failure.
        """

    def close(self) -> None:
        """Let the store go."""


ReaderOf = Callable[[str, RepoConfig, Sequence[FeatureView], Wanted, EntityKeys], Reader]
"""Makes a reader of a store: its URL, its configuration for one version of the definitions, the views and features that
are wanted of it, and how it names entities."""


class FeastReader:
    """Any store that Feast can read, one view after the other."""

    def __init__(
        self,
        store: Callable[[], FeastOnlineStore],
        config: RepoConfig,
        views: Sequence[FeatureView],
        wanted: Wanted,
        keys: EntityKeys,
    ) -> None:
        """Note what to ask the store for."""
        self._store, self._config, self._keys = store, config, keys
        self._views = [(view, [*wanted[view.name], TIMESTAMP]) for view in views]

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """See `Reader`."""
        found: dict[Any, Stored] = {entity: {} for entity in entities}
        messages = [self._keys.message(entity) for entity in found]
        for view, names in self._views:
            rows = self._store().online_read(self._config, view, messages, list(names))
            for stored, (_, values) in zip(found.values(), rows, strict=True):
                known = values or {}
                stored[view.name] = {
                    name: feast_value_type_to_python_type(known[name]) if name in known else None for name in names
                }
        return [found[entity] for entity in entities]


class SqlReader:
    """One SELECT over the tables of all views."""

    def __init__(self, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys) -> None:
        self._keys = keys
        self._names = [view.name for view in views]
        self._decoders = [decoders_of(view, wanted[view.name]) for view in views]

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """See `Reader`."""
        keys = [self._keys.serialized(entity) for entity in entities]
        found = {key: [dict.fromkeys(decoders) for decoders in self._decoders] for key in keys}
        distinct = list(found)
        for start in range(0, len(distinct), ENTITIES_AT_ONCE):
            for position, key, name, value in self._rows(distinct[start : start + ENTITIES_AT_ONCE]):
                decode = self._decoders[position].get(name)
                if decode is not None:
                    found[key][position][name] = decode(value)
        return [dict(zip(self._names, found[key], strict=True)) for key in keys]

    def _rows(self, keys: Sequence[bytes]) -> Iterable[tuple[int, bytes, str, bytes]]:
        """The view's position, key, feature name and value of all that there is of these keys."""
        raise NotImplementedError


class SqliteReader(SqlReader):
    """A file."""

    def __init__(self, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys) -> None:
        """Open the file."""
        super().__init__(views, wanted, keys)
        # The model server asks on another thread than the one that opens the store, never on two at once.
        self._connection = sqlite3.connect(config.online_store.path, check_same_thread=False)
        self._tables = [compute_table_id(config.project, view).replace('"', '""') for view in views]
        self._query = functools.cache(self._written)

    def _rows(self, keys: Sequence[bytes]) -> Iterable[tuple[int, bytes, str, bytes]]:
        return self._connection.execute(self._query(len(keys)), keys)

    def _written(self, entities: int) -> str:
        keys = ", ".join(f"?{number}" for number in range(1, entities + 1))
        return " UNION ALL ".join(
            f'SELECT {position}, entity_key, feature_name, value FROM "{table}" WHERE entity_key IN ({keys})'
            for position, table in enumerate(self._tables)
        )


def decoders_of(view: FeatureView, names: Sequence[str]) -> dict[str, Callable[[bytes], Any]]:
    """By name what turns stored bytes into values: of some features of a view, and of the moment until which they are
    known."""
    types = {field.name: field.dtype for field in view.features}
    return {**{name: _decoder(types[name]) for name in names}, TIMESTAMP: _decoder(UnixTimestamp)}


@functools.cache
def _decoder(feast_type: FeastType) -> Callable[[bytes], Any]:
    """From a serialized `Value` to the value, None where it is missing."""
    field = _FIELDS[feast_type]

    def decode(serialized: bytes) -> Any:
        value = Value.FromString(serialized)
        return getattr(value, field) if value.HasField(field) else None

    def decode_time(serialized: bytes) -> datetime | None:
        seconds = decode(serialized)
        return None if seconds in (None, NULL_TIMESTAMP_INT_VALUE) else datetime.fromtimestamp(seconds, UTC)

    return functools.lru_cache(DECODED)(decode_time if feast_type == UnixTimestamp else decode)
