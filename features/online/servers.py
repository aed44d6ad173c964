"""Online store readers for servers: one question for all views, where Feast's own classes ask one for each.

Each imports its store's client when it is made, so that a model server loads the one that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import compute_table_id

from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.online.location import CONNECT_SECONDS
from kfp_lifecycle.features.online.reading import (
    AsyncReader,
    EntityKeys,
    ReaderOf,
    SqlReader,
    Stored,
    Wanted,
    decoders_of,
)
from kfp_lifecycle.features.online.redis_reader import AsyncRedisReader, RedisReader

# Bigtable takes half a megabyte of keys at a time.
ROWS_AT_ONCE = 5_000


class PostgresReader(SqlReader):
    """A PostgreSQL server."""

    def __init__(
        self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys
    ) -> None:
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


class BigtableReader:
    """One read of the rows of all views, which Feast keeps in one table."""

    def __init__(
        self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys
    ) -> None:
        """Make a client; it connects when it is first used."""
        from feast.infra.online_stores.bigtable import BigtableOnlineStore
        from google.cloud.bigtable.client import Client

        settings = config.online_store
        client = Client(project=settings.project_id)
        name = BigtableOnlineStore._get_table_name(config, views[0])
        self._table = client.instance(settings.instance).table(name)
        self._family = BigtableOnlineStore.feature_column_family
        self._keys = keys
        self._decoders = {
            view.name: {name.encode(): (name, decode) for name, decode in decoders_of(view, wanted[view.name]).items()}
            for view in views
        }

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """See `Reader`."""
        import mmh3
        from google.cloud.bigtable.row_filters import CellsColumnLimitFilter
        from google.cloud.bigtable.row_set import RowSet

        found: dict[str, Stored] = {}
        names = [mmh3.hash_bytes(self._keys.serialized(entity)).hex() for entity in entities]
        for name in names:
            found[name] = {view: dict.fromkeys(n for n, _ in of.values()) for view, of in self._decoders.items()}
        distinct, at_once = list(found), max(1, ROWS_AT_ONCE // len(self._decoders))
        for start in range(0, len(distinct), at_once):
            rows = RowSet()
            for name in distinct[start : start + at_once]:
                for view in self._decoders:
                    rows.add_row_key(f"{name}#{view}".encode())
            for row in self._table.read_rows(row_set=rows, filter_=CellsColumnLimitFilter(1)):
                name, _, view = row.row_key.decode().partition("#")
                values = found[name][view]
                for column, cells in row.cells[self._family].items():
                    if column in self._decoders[view]:
                        feature, decode = self._decoders[view][column]
                        values[feature] = decode(cells[0].value)
        return [found[name] for name in names]


def async_reader(url: str, config: RepoConfig, definitions: Definitions, wanted: Wanted) -> AsyncReader | None:
    """A reader for an event loop; None of a store that only a thread can ask.

    Args:
        url: The store's.
        config: Of the store, for one version of the definitions.
        definitions: The project's feature definitions.
        wanted: Names of the features, by view.
    """
    if READERS.get(urlsplit(url).scheme) is not RedisReader:
        return None
    views = [definitions.views[view] for view in wanted]
    return AsyncRedisReader(url, config, views, wanted, EntityKeys(definitions.key, definitions.key_type))


READERS: Mapping[str, ReaderOf] = {
    "redis": RedisReader,
    "rediss": RedisReader,
    "postgresql": PostgresReader,
    "bigtable": BigtableReader,
}
"""By the scheme of the store's URL."""
