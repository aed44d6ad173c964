"""The newest value of each stored feature, where a server finds it in well under a millisecond.

Feast's online stores are used through their own interface (`OnlineStore`), without its registry: Feast refuses to serve
a view whose registry entry says that it is being materialized, and keeps pickled functions there. The definitions
travel with the model instead, so the store needs to hold nothing but values.

The values of one version of the definitions are apart from those of any other, so a candidate's features can be filled
in while the champion, trained on older definitions, is served.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.types import String

from components.contract import ContractViolation
from components.features.definitions import TIMESTAMP, Definitions
from components.features.online_reading import FeastReader, Reader, RedisReader, SqliteReader, Stored, Wanted

# The journal: a record for each version of the definitions that the store holds, and one, `versions`, that lists them.
_JOURNAL = FeatureView(
    name="journal",
    entities=[Entity(name="version", join_keys=["version"], value_type=ValueType.STRING)],
    schema=[Field(name="version", dtype=String), Field(name="record", dtype=String)],
    source=FileSource(path="journal.parquet", timestamp_field=TIMESTAMP),
)
_VERSIONS = "versions"
_KEY_FIELDS = {"INTEGER": "int32_val", "BIGINT": "int64_val", "VARCHAR": "string_val"}

Rows = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
"""As Feast's online stores take them: key, values, time of the values, time of their writing."""


@dataclass(frozen=True)
class Materialization:
    """What the store holds of one version of the definitions."""

    feature_version: str
    as_of: datetime
    tables_digest: str
    """Of the tables that it was computed from; empty while it is being written."""
    rows: Mapping[str, int]
    """Rows written, by view."""
    example_entity: Any
    """Key of an entity that is in it, None where there is none."""

    def record(self) -> str:
        """As the journal keeps it."""
        return json.dumps({**asdict(self), "as_of": self.as_of.isoformat()})

    @staticmethod
    def from_record(record: str) -> Materialization:
        """From what the journal keeps."""
        values = json.loads(record)
        return Materialization(**{**values, "as_of": datetime.fromisoformat(values["as_of"])})


class OnlineStore:
    """The online store of one project, for one version of its feature definitions."""

    def __init__(self, location: str, project: str, definitions: Definitions, create: bool = False) -> None:
        """Open the store.

        Args:
            location: A SQLite file, or `redis://[USER:PASSWORD@]HOST:PORT[/DATABASE]` (`rediss://` for TLS).
            project: The project's name: projects share a store without meeting.
            definitions: The project's feature definitions.
            create: Whether to make what is missing of it; otherwise a missing file is refused.

        Raises:
            ContractViolation: the location cannot be understood, or there is no such file. As in all methods: the
                store cannot be reached.
        """
        self._url = location
        self.location = _without_password(location)
        self._definitions = definitions
        self._settings = settings = _settings(location)
        self._failures: tuple[type[Exception], ...] = (OSError, sqlite3.Error)
        if settings["type"] == "redis":
            from redis.exceptions import RedisError

            self._failures = (OSError, RedisError)
        if settings["type"] == "sqlite":
            file = Path(settings["path"])
            if create:
                with self._reaching():
                    file.parent.mkdir(parents=True, exist_ok=True)
                with self._reaching(), contextlib.closing(sqlite3.connect(file)) as connection:
                    # Readers then never wait for the writer, nor it for them. The file remembers it.
                    connection.execute("PRAGMA journal_mode = WAL")
            elif not file.is_file():
                raise ContractViolation(
                    f"There is no online store {self.location}. Run the materialization pipeline, which makes it."
                )
        self.configuration = _configuration(f"{project}_{definitions.version}", settings)
        self._journal = _configuration(project, settings)
        self.feast = get_online_store_from_config(self.configuration.online_store)
        if create:
            served = [definitions.views[view] for view in definitions.views_of(definitions.features)]
            with self._reaching():
                self.feast.update(self.configuration, [], served, [], [], partial=True)
                self.feast.update(self._journal, [], [_JOURNAL], [], [], partial=True)

    def write(self, view: str, rows: pa.RecordBatch) -> None:
        """Write values of a view; what an entity had before is replaced.

        Args:
            view: The view's name.
            rows: The entity key, the view's features and `event_timestamp`.
        """
        feature_view = self._definitions.views[view]
        columns = {
            field.name: python_values_to_proto_values(rows[field.name].to_pylist(), field.dtype.to_value_type())
            for field in feature_view.features
        }
        keys = self._entity_keys(rows[self._definitions.key].to_pylist())
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        times = rows[TIMESTAMP].to_pylist()
        data: Rows = [(key, value, time, None) for key, value, time in zip(keys, values, times, strict=True)]
        with self._reaching():
            self.feast.online_write_batch(self.configuration, feature_view, data, None)

    def reader(self, wanted: Wanted) -> Reader:
        """What `read` reads some features with.

        Args:
            wanted: Names of the features, by view.
        """
        views = [self._definitions.views[view] for view in wanted]
        settings = self.configuration.online_store
        if settings.type == "sqlite":
            return SqliteReader(settings.path, self.configuration, views, wanted)
        if settings.type == "redis":
            return RedisReader(self._url, self.configuration, views, wanted)
        return FeastReader(self.feast, self.configuration, views, wanted)

    def read(self, reader: Reader, entities: Sequence[Any]) -> list[Stored]:
        """What the store holds of entities.

        Args:
            reader: What `reader` gave.
            entities: Entity keys.

        Returns:
            For each entity its values by view, times with a zone, and their `event_timestamp`; a view that does not
            know it is left out.
        """
        with self._reaching():
            return reader.read(self._entity_keys(entities))

    def materialized(self) -> Materialization | None:
        """What there is of this version, if anything."""
        return self._noted(self._definitions.version)

    def all_materialized(self) -> list[Materialization]:
        """What there is of every version, the one noted last at the end."""
        found = (self._noted(version) for version in json.loads(self._record(_VERSIONS) or "[]"))
        return [materialized for materialized in found if materialized is not None]

    def note(self, materialized: Materialization) -> None:
        """Note what there is now of this version: the first and the last thing a materialization does."""
        version = materialized.feature_version
        others = [name for name in json.loads(self._record(_VERSIONS) or "[]") if name != version]
        self._keep({version: materialized.record(), _VERSIONS: json.dumps([*others, version])})

    def remove(self, materialized: Materialization) -> None:
        """Remove all values of a version."""
        version = materialized.feature_version
        [key] = next(iter(self._definitions.views.values())).entity_columns
        views = [
            FeatureView(
                name=view,
                entities=[self._definitions.entity],
                schema=[key],
                source=FileSource(path=f"{view}.parquet", timestamp_field=TIMESTAMP),
            )
            for view in materialized.rows
        ]
        others = [name for name in json.loads(self._record(_VERSIONS) or "[]") if name != version]
        with self._reaching():
            features = _configuration(f"{self._journal.project}_{version}", self._settings)
            self.feast.update(features, views, [], [], [], partial=True)
        self._keep({version: "", _VERSIONS: json.dumps(others)})

    def _noted(self, version: str) -> Materialization | None:
        record = self._record(version)
        return Materialization.from_record(record) if record else None

    def _record(self, name: str) -> str:
        """A record of the journal, empty where there is none."""
        with self._reaching():
            try:
                [(_, values)] = self.feast.online_read(self._journal, _JOURNAL, [_journal_key(name)], ["record"])
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return ""
        # A SQLite store gives no values for what it does not have, Redis gives empty ones.
        return str(values["record"].string_val) if values else ""

    def _keep(self, records: Mapping[str, str]) -> None:
        # The journal's own clock: its newest record counts, whatever the data's time.
        now = datetime.now(UTC)
        rows: Rows = [(_journal_key(name), {"record": Value(string_val=r)}, now, None) for name, r in records.items()]
        with self._reaching():
            self.feast.online_write_batch(self._journal, _JOURNAL, rows, None)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise ContractViolation(
                f"The online store {self.location} cannot be used: {error}. Check stores.online_store, and "
                "that the store is up."
            ) from error

    def _entity_keys(self, entities: Sequence[Any]) -> list[EntityKey]:
        field, key = _KEY_FIELDS[self._definitions.key_type], self._definitions.key
        return [EntityKey(join_keys=[key], entity_values=[Value(**{field: entity})]) for entity in entities]


def _journal_key(version: str) -> EntityKey:
    return EntityKey(join_keys=["version"], entity_values=[Value(string_val=version)])


def _configuration(project: str, online_store: dict[str, Any]) -> RepoConfig:
    return RepoConfig(
        project=project,
        provider="local",
        # Named because Feast asks for them; they are never opened, and this offline store is imported the quickest.
        registry={"path": "unused"},
        offline_store={"type": "remote", "host": "unused"},
        online_store=online_store,
        entity_key_serialization_version=3,
    )


def _settings(location: str) -> dict[str, Any]:
    """Feast's settings of an online store."""
    scheme, separator, _ = location.partition("://")
    if not separator:
        return {"type": "sqlite", "path": str(Path(location).absolute())}
    url = urlsplit(location)
    if scheme not in ("redis", "rediss") or not url.hostname or not url.port:
        raise ContractViolation(
            f"The online store {_without_password(location)} must be a SQLite file or redis://HOST:PORT "
            "(stores.online_store)."
        )
    parts = [f"{url.hostname}:{url.port}", f"db={url.path.strip('/') or 0}"]
    parts += [f"username={url.username}"] if url.username else []
    parts += [f"password={url.password}"] if url.password else []
    parts += ["ssl=true"] if scheme == "rediss" else []
    # Whether older values may be replaced is decided once for a materialization, not by a question for each row.
    return {"type": "redis", "connection_string": ",".join(parts), "skip_dedup": True}


def _without_password(location: str) -> str:
    url = urlsplit(location)
    return location.replace(f":{url.password}@", ":***@") if url.password else location
