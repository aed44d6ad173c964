"""What Feast's `online_read` gives for one view at a time, asked for all views in one question.

The values are where and as Feast puts them (feast: docs/specs/online_store_format.md), in the tables and hashes of its
own online stores; only the way to them is shorter. A test holds each reader against Feast's own.
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

from components.features.definitions import TIMESTAMP
from components.features.online_location import CONNECT_SECONDS

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


class _SqlReader:
    """One SELECT over the tables of all views."""

    def __init__(self, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys) -> None:
        self._keys = keys
        self._names = [view.name for view in views]
        self._decoders = [_decoders(view, wanted[view.name]) for view in views]

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


class SqliteReader(_SqlReader):
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


class PostgresReader(_SqlReader):
    """A PostgreSQL server."""

    def __init__(self, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys) -> None:
        """Note where to connect when it is first used."""
        from psycopg import Connection, sql

        super().__init__(views, wanted, keys)
        self._settings = config.online_store
        self._connection: Connection[Any] | None = None
        self._query = (
            sql.SQL(" UNION ALL ")
            .join(
                sql.SQL("SELECT {}, entity_key, feature_name, value FROM {} WHERE entity_key = ANY(%(keys)s)").format(
                    sql.Literal(position),
                    sql.Identifier(self._settings.db_schema, compute_table_id(config.project, view)),
                )
                for position, view in enumerate(views)
            )
            .as_string()
        )

    def _rows(self, keys: Sequence[bytes]) -> Iterable[tuple[int, bytes, str, bytes]]:
        import psycopg

        try:
            return self._ask(keys)
        except psycopg.OperationalError:
            if self._connection is None or not self._connection.closed:
                raise
            # It broke off since the last question; a second failure is one.
            return self._ask(keys)

    def _ask(self, keys: Sequence[bytes]) -> list[tuple[int, bytes, str, bytes]]:
        import psycopg

        if self._connection is None or self._connection.closed:
            settings = self._settings
            self._connection = psycopg.connect(
                host=settings.host,
                port=settings.port,
                dbname=settings.database,
                user=settings.user,
                password=settings.password,
                sslmode=settings.sslmode,
                sslkey=settings.sslkey_path,
                sslcert=settings.sslcert_path,
                sslrootcert=settings.sslrootcert_path,
                connect_timeout=CONNECT_SECONDS,
                autocommit=True,
            )
        found: list[tuple[int, bytes, str, bytes]] = self._connection.execute(
            self._query, {"keys": list(keys)}, binary=True
        ).fetchall()
        return found


class RedisReader:
    """One HMGET for each entity, all in one round trip."""

    def __init__(
        self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys
    ) -> None:
        """Make a connection; it connects when it is first used."""
        import mmh3
        from redis import Redis

        # A connection of its own: taking one from the client's pool for each question costs as much as the question.
        self._connection: Any = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS
        ).connection_pool.get_connection()
        self._keys = keys
        self._suffix = config.project.encode()
        self._decoders = [(view.name, list(_decoders(view, wanted[view.name]).items())) for view in views]
        self._fields = [
            mmh3.hash(f"{view}:{name}", signed=False).to_bytes(4, "little")
            for view, decoders in self._decoders
            for name, _ in decoders
        ]

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """See `Reader`."""
        keys = [self._keys.serialized(entity) + self._suffix for entity in entities]
        found: list[Stored] = []
        for start in range(0, len(keys), ENTITIES_AT_ONCE):
            found += map(self._stored, self._answers(keys[start : start + ENTITIES_AT_ONCE]))
        return found

    def _answers(self, keys: Sequence[bytes]) -> list[list[bytes | None]]:
        from redis.exceptions import ConnectionError as Disconnected

        try:
            return self._ask(keys)
        except Disconnected:
            # Servers close connections that are idle; a second refusal is a failure.
            return self._ask(keys)

    def _ask(self, keys: Sequence[bytes]) -> list[list[bytes | None]]:
        connection = self._connection
        try:
            connection.send_packed_command(connection.pack_commands([("HMGET", key, *self._fields) for key in keys]))
            return [connection.read_response() for _ in keys]
        except BaseException:
            # Answers that were not read would be taken for those to the next question.
            connection.disconnect()
            raise

    def _stored(self, answer: Iterable[bytes | None]) -> Stored:
        values = iter(answer)
        return {
            view: {
                # The names come first: when they end, no value has been taken for them.
                name: None if value is None else decode(value)
                for (name, decode), value in zip(decoders, values, strict=False)
            }
            for view, decoders in self._decoders
        }


def _decoders(view: FeatureView, names: Sequence[str]) -> dict[str, Callable[[bytes], Any]]:
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
