"""What Feast's `online_read` gives for one view at a time, asked for all views in one question.

The values are where and as Feast puts them (feast: docs/specs/online_store_format.md), in the tables and hashes of its
own online stores; only the way to them is shorter. A test holds each reader against Feast's own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
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

Wanted = Mapping[str, Sequence[str]]
"""Names of the features that are wanted, by view."""
Stored = dict[str, tuple[datetime, dict[str, Any]]]
"""What is stored of one entity: by view the time of its values, and the values by feature, None where missing."""

# SQLite takes no more than 32,766 parameters.
ENTITIES_AT_ONCE = 10_000
_FIELDS: dict[FeastType, str] = {
    Int32: "int32_val",
    Int64: "int64_val",
    Float32: "float_val",
    Float64: "double_val",
    Bool: "bool_val",
    String: "string_val",
    UnixTimestamp: "unix_timestamp_val",
}


class Reader(Protocol):
    """Reads the wanted features of entities from one kind of store."""

    def read(self, entities: Sequence[EntityKey]) -> list[Stored]:
        """What is stored of each entity; a view that knows nothing of it is left out."""


class FeastReader:
    """Any store that Feast can read, one view after the other."""

    def __init__(
        self, store: FeastOnlineStore, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted
    ) -> None:
        """Note what to ask the store for."""
        self._store, self._config, self._views, self._wanted = store, config, views, wanted

    def read(self, entities: Sequence[EntityKey]) -> list[Stored]:
        """See `Reader`."""
        found: list[Stored] = [{} for _ in entities]
        for view in self._views:
            names = self._wanted[view.name]
            rows = self._store.online_read(self._config, view, list(entities), list(names))
            for stored, (time, values) in zip(found, rows, strict=True):
                # What it does not know has no values in most stores, and the time 0 in Redis.
                if values and time is not None and time.timestamp():
                    stored[view.name] = (
                        time,
                        {name: feast_value_type_to_python_type(values[name]) for name in names if name in values},
                    )
        return found


class SqliteReader:
    """One SELECT over the tables of all views."""

    def __init__(self, file: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted) -> None:
        """Open the file."""
        # The model server asks on another thread than the one that opens the store, never on two at once.
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._version = config.entity_key_serialization_version
        self._tables = [compute_table_id(config.project, view).replace('"', '""') for view in views]
        self._decoders = [(view.name, _decoders(view, wanted[view.name])) for view in views]
        self._queries: dict[int, str] = {}

    def read(self, entities: Sequence[EntityKey]) -> list[Stored]:
        """See `Reader`."""
        keys = [serialize_entity_key(entity, self._version) for entity in entities]
        found: dict[bytes, Stored] = {key: {} for key in keys}
        distinct = list(found)
        for start in range(0, len(distinct), ENTITIES_AT_ONCE):
            chunk = distinct[start : start + ENTITIES_AT_ONCE]
            for position, key, name, value, seconds in self._connection.execute(self._query(len(chunk)), chunk):
                view, decoders = self._decoders[position]
                stored = found[key].get(view)
                if stored is None:
                    # Feast writes the time in UTC and lets SQLite's adapter take it for the process' own.
                    time = datetime.fromtimestamp(seconds).replace(tzinfo=UTC)
                    stored = found[key][view] = (time, {})
                if name in decoders:
                    stored[1][name] = decoders[name](value)
        return [found[key] for key in keys]

    def _query(self, entities: int) -> str:
        if entities not in self._queries:
            keys = ", ".join(f"?{number}" for number in range(1, entities + 1))
            self._queries[entities] = " UNION ALL ".join(
                f'SELECT {position}, entity_key, feature_name, value, event_ts FROM "{table}" '
                f"WHERE entity_key IN ({keys})"
                for position, table in enumerate(self._tables)
            )
        return self._queries[entities]


class RedisReader:
    """One HMGET for each entity, all in one round trip."""

    def __init__(self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted) -> None:
        """Make a client; it connects when it is first used."""
        import mmh3
        from redis import Redis

        self._client = Redis.from_url(url)
        self._suffix = config.project.encode()
        self._version = config.entity_key_serialization_version
        self._decoders = [(view.name, list(_decoders(view, wanted[view.name]).items())) for view in views]
        self._fields: list[bytes] = []
        for view, decoders in self._decoders:
            hashes = [mmh3.hash(f"{view}:{name}", signed=False).to_bytes(4, "little") for name, _ in decoders]
            self._fields += [f"_ts:{view}".encode(), *hashes]

    def read(self, entities: Sequence[EntityKey]) -> list[Stored]:
        """See `Reader`."""
        keys = [serialize_entity_key(entity, self._version) + self._suffix for entity in entities]
        if len(keys) == 1:
            return [self._stored(self._client.hmget(keys[0], self._fields))]
        with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hmget(key, self._fields)
            return [self._stored(values) for values in pipeline.execute()]

    def _stored(self, answer: Sequence[Any]) -> Stored:
        from google.protobuf.timestamp_pb2 import Timestamp

        stored: Stored = {}
        values = iter(answer)
        for view, decoders in self._decoders:
            time = next(values)
            decoded = {
                name: None if value is None else decode(value)
                for (name, decode), value in zip(decoders, values, strict=False)
            }
            if time is not None:
                stored[view] = (datetime.fromtimestamp(Timestamp.FromString(time).seconds, UTC), decoded)
        return stored


def _decoders(view: FeatureView, names: Sequence[str]) -> dict[str, Callable[[bytes], Any]]:
    types = {field.name: field.dtype for field in view.features}
    return {name: _decoder(types[name]) for name in names}


def _decoder(feast_type: FeastType) -> Callable[[bytes], Any]:
    """From a serialized `Value` to the value, None where it is missing."""
    field = _FIELDS[feast_type]

    def decode(serialized: bytes) -> Any:
        value = Value.FromString(serialized)
        return getattr(value, field) if value.HasField(field) else None

    def decode_time(serialized: bytes) -> datetime | None:
        seconds = decode(serialized)
        return None if seconds in (None, NULL_TIMESTAMP_INT_VALUE) else datetime.fromtimestamp(seconds, UTC)

    return decode_time if feast_type == UnixTimestamp else decode
