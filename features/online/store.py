"""Online store of one project: the newest value of each stored feature, found in well under a millisecond.

Feast's online stores are used through their own interface (`OnlineStore`), without its registry: Feast refuses to serve
a view whose registry entry says that it is being materialized, and keeps pickled functions there. The definitions
travel with the model instead, so the store needs to hold nothing but values.

The values of one version of the definitions are apart from those of any other, so a candidate's features can be filled
in while the champion, trained on older definitions, is served.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.errors import FeastError
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.types import Bytes, String
from pydantic import ValidationError

from kfp_lifecycle.artifacts.quality import ViewQuality
from kfp_lifecycle.features.definitions import TIMESTAMP, Definitions
from kfp_lifecycle.features.online.location import located
from kfp_lifecycle.features.online.reading import (
    EntityKeys,
    FeastReader,
    Reader,
    ReaderOf,
    SqliteReader,
    Stored,
    Wanted,
)
from kfp_lifecycle.runtime.contract import ContractViolation

# The journal: a record for each version of the definitions that the store holds, one, `versions`, that lists them, and
# what is held of each view (`Inventory`), in pages.
_JOURNAL = FeatureView(
    name="journal",
    entities=[Entity(name="version", join_keys=["version"], value_type=ValueType.STRING)],
    schema=[
        Field(name="version", dtype=String),
        Field(name="record", dtype=String),
        Field(name="page", dtype=Bytes),
    ],
    source=FileSource(path="journal.parquet", timestamp_field=TIMESTAMP),
)
_VERSIONS = "versions"
# As many fillings of a version are remembered: three months of days.
FILLINGS = 100
# Of the inventory: about a megabyte, which every store takes as one value.
PAGE_ENTITIES = 50_000

Rows = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
"""As Feast's online stores take them: key, values, time of the values, time of their writing."""


@dataclass(frozen=True)
class Materialization:
    """What the store holds of one version of the definitions."""

    feature_version: str
    as_of: datetime
    """The moment as of which all values are known, but those of entities that a view says nothing of any more."""
    tables_digest: str
    """Of the tables that it was computed from; empty while it is being written."""
    rows: Mapping[str, int]
    """Entities that each view speaks of, by view."""
    example_entity: Any
    """Key of an entity that is in it, None where there is none."""
    quality: Sequence[ViewQuality] = ()
    """What the features of each view are like."""

    def record(self) -> str:
        """As the journal keeps it."""
        quality = [view.model_dump(mode="json") for view in self.quality]
        return json.dumps({**asdict(self), "as_of": self.as_of.isoformat(), "quality": quality})

    @staticmethod
    def from_record(record: str) -> Materialization:
        """From what the journal keeps."""
        values = json.loads(record)
        quality = [ViewQuality.model_validate(view) for view in values["quality"]]
        return Materialization(**{**values, "as_of": datetime.fromisoformat(values["as_of"]), "quality": quality})


@dataclass(frozen=True)
class Filling:
    """A materialization of the past: since when the store answered as of which moment."""

    as_of: datetime
    at: datetime
    """When it was finished."""


@dataclass(frozen=True)
class Inventory:
    """What the store holds of one view, entity by entity, so that only what changed is written."""

    as_of: datetime
    """The moment of the newest filling."""
    finished: bool
    """Whether that filling came to its end."""
    entities: pa.Table
    """`key`; `digest` (uint64) of the values, null where a filling was cut off that may have replaced them; `seen`
    (time), until when they are known, null where that is `as_of`."""
    by: str
    """Which filling noted it."""


class OnlineStore:
    """The online store of one project, for one version of its feature definitions."""

    def __init__(self, location: str, project: str, definitions: Definitions, create: bool = False) -> None:
        """Open the store.

        Args:
            location: As `online_location.located` reads it.
            project: The project's name: projects share a store without meeting.
            definitions: The project's feature definitions.
            create: Whether to make what is missing of it; otherwise a missing file is refused.

        Raises:
            ContractViolation: the location cannot be understood, or there is no such file. As in all methods: the
                store cannot be reached.
        """
        self._place = place = located(location)
        self.location = place.name
        self._definitions = definitions
        self._keys = EntityKeys(definitions.key, definitions.key_type)
        self.configuration = self._configuration(f"{project}_{definitions.version}")
        self._journal = self._configuration(project)
        self.feast = get_online_store_from_config(self.configuration.online_store)
        if place.file is not None and create:
            with self.reaching():
                place.file.parent.mkdir(parents=True, exist_ok=True)
            with self.reaching(), contextlib.closing(sqlite3.connect(place.file)) as connection:
                # Readers then never wait for the writer, nor it for them. The file remembers it.
                connection.execute("PRAGMA journal_mode = WAL")
        elif place.file is not None and not place.file.is_file():
            raise ContractViolation(
                f"There is no online store {self.location}. Run the materialization pipeline, which makes it."
            )
        if create:
            served = [definitions.views[view] for view in definitions.views_of(definitions.features)]
            with self.reaching():
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
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self._write(view, rows[self._definitions.key].to_pylist(), values, rows[TIMESTAMP].to_pylist())

    def date(self, view: str, entities: Sequence[Any], seen: Sequence[datetime | None]) -> None:
        """Say until when the values of a view are known; those that nothing is said of are as of the materialization.

        Args:
            view: The view's name.
            entities: Entity keys.
            seen: The moment for each. None takes back what was said.
        """
        now = datetime.now(UTC)
        values = [
            {TIMESTAMP: Value() if moment is None else Value(unix_timestamp_val=int(moment.timestamp()))}
            for moment in seen
        ]
        self._write(view, entities, values, [moment or now for moment in seen])

    def forget(self, view: str, entities: Sequence[Any]) -> None:
        """Overwrite all values of a view by missing ones.

        Args:
            view: The view's name.
            entities: Entity keys.
        """
        empty = {name: Value() for name in [*(f.name for f in self._definitions.views[view].features), TIMESTAMP]}
        self._write(view, entities, [empty] * len(entities), [datetime.now(UTC)] * len(entities))

    def _write(
        self, view: str, entities: Sequence[Any], values: Sequence[dict[str, Value]], times: Sequence[datetime]
    ) -> None:
        data: Rows = [
            (self._keys.message(entity), value, time, None)
            for entity, value, time in zip(entities, values, times, strict=True)
        ]
        if data:
            with self.reaching():
                self.feast.online_write_batch(self.configuration, self._definitions.views[view], data, None)

    def reader(self, wanted: Wanted, of_servers: Mapping[str, ReaderOf]) -> Reader:
        """What `read` reads some features with.

        Args:
            wanted: Names of the features, by view.
            of_servers: Readers of servers by the scheme of their URL, such as `online_servers.READERS`; Feast's own
                class reads those that are not among them.
        """
        views = [self._definitions.views[view] for view in wanted]
        url = self._place.url
        with self.reaching():
            if self._place.file is not None:
                return SqliteReader(self.configuration, views, wanted, self._keys)
            if (scheme := urlsplit(url).scheme) in of_servers:
                return of_servers[scheme](url, self.configuration, views, wanted, self._keys)
        return FeastReader(lambda: self.feast, self.configuration, views, wanted, self._keys)

    def read(self, reader: Reader, entities: Sequence[Any]) -> list[Stored]:
        """What the store holds of entities.

        Args:
            reader: What `reader` gave.
            entities: Entity keys.

        Returns:
            For each entity its values by view, times with a zone, and until when they are known.
        """
        with self.reaching():
            return reader.read(entities)

    def inventory(self, view: str) -> Inventory | None:
        """What there is of a view in this version, if it was ever filled."""
        record = self._record(self._inventory_name(view))
        if not record:
            return None
        noted = json.loads(record)
        pages = [self._page(view, noted["turn"], number) for number in range(noted["pages"])]
        as_of = datetime.fromisoformat(noted["as_of"])
        return Inventory(as_of, noted["finished"], pa.concat_tables(pages), noted["by"])

    def filled_by(self, view: str) -> str:
        """Which filling noted the inventory of a view that is there now; empty for none."""
        record = self._record(self._inventory_name(view))
        return str(json.loads(record)["by"]) if record else ""

    def note_inventory(self, view: str, inventory: Inventory) -> None:
        """Note what there is now of a view in this version; whoever reads finds the earlier note or this one, whole."""
        record = self._record(self._inventory_name(view))
        # The two turns take turns: the pages that the record names are never overwritten.
        turn = 1 - json.loads(record)["turn"] if record else 0
        pages = range(0, max(1, inventory.entities.num_rows), PAGE_ENTITIES)
        for number, start in enumerate(pages):
            page = io.BytesIO()
            pq.write_table(inventory.entities.slice(start, PAGE_ENTITIES), page, compression="zstd")
            name = f"{self._inventory_name(view)}/{turn}/{number}"
            self._note({name: {"page": Value(bytes_val=page.getvalue())}})
        noted = {
            "turn": turn,
            "pages": len(pages),
            "finished": inventory.finished,
            "as_of": inventory.as_of.isoformat(),
            "by": inventory.by,
        }
        self._keep({self._inventory_name(view): json.dumps(noted)})

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
        fillings = self.fillings()
        if not fillings or fillings[-1].as_of != materialized.as_of:
            fillings.append(Filling(materialized.as_of, datetime.now(UTC)))
        told = json.dumps([[filling.as_of.isoformat(), filling.at.isoformat()] for filling in fillings[-FILLINGS:]])
        records = {version: materialized.record(), _VERSIONS: json.dumps([*others, version])}
        self._keep({**records, f"{version}/fillings": told})

    def fillings(self) -> list[Filling]:
        """The newest materializations of this version, oldest first: what tells as of when a request was answered."""
        noted = json.loads(self._record(f"{self._definitions.version}/fillings") or "[]")
        return [Filling(*(datetime.fromisoformat(moment) for moment in pair)) for pair in noted]

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
        features = self._configuration(f"{self._journal.project}_{version}")
        with self.reaching(), self._where_tables_are():
            self.feast.update(features, views, [], [], [], partial=True)
        inventories = {self._inventory_name(view, version): "" for view in materialized.rows}
        self._keep({**inventories, version: "", f"{version}/fillings": "", _VERSIONS: json.dumps(others)})

    def _noted(self, version: str) -> Materialization | None:
        record = self._record(version)
        return Materialization.from_record(record) if record else None

    def _inventory_name(self, view: str, version: str = "") -> str:
        return f"{version or self._definitions.version}/{view}"

    def _page(self, view: str, turn: int, number: int) -> pa.Table:
        found = self._noted_value(f"{self._inventory_name(view)}/{turn}/{number}", "page")
        return pq.read_table(io.BytesIO(found.bytes_val))

    def _record(self, name: str) -> str:
        """A record of the journal, empty where there is none."""
        return str(self._noted_value(name, "record").string_val)

    def _noted_value(self, name: str, kind: str) -> Value:
        with self.reaching(), self._where_tables_are():
            [(_, values)] = self.feast.online_read(self._journal, _JOURNAL, [_journal_key(name)], [kind])
            # Some stores give no values for what they do not have, others give empty ones.
            return (values or {}).get(kind, Value())
        return Value()

    def _keep(self, records: Mapping[str, str]) -> None:
        self._note({name: {"record": Value(string_val=record)} for name, record in records.items()})

    def _note(self, values: Mapping[str, dict[str, Value]]) -> None:
        # The journal's own clock: its newest record counts, whatever the data's time.
        now = datetime.now(UTC)
        rows: Rows = [(_journal_key(name), value, now, None) for name, value in values.items()]
        with self.reaching():
            self.feast.online_write_batch(self._journal, _JOURNAL, rows, None)

    @contextlib.contextmanager
    def _where_tables_are(self) -> Iterator[None]:
        """Leave out what is done with a table that was never made."""
        try:
            yield
        except self._place.failures as error:
            if not self._place.no_table(error):
                raise

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Name the store, without its password, in what goes wrong with it."""
        try:
            yield
        except self._place.failures as error:
            # Clients that lost their connection do not all find it again.
            self.feast = get_online_store_from_config(self.configuration.online_store)
            raise ContractViolation(
                f"The online store {self.location} cannot be used: {self._place.hide(str(error))}. "
                "Check online_store of the target, and that the store is up."
            ) from error

    def _configuration(self, project: str) -> RepoConfig:
        try:
            return RepoConfig(
                project=project,
                provider="local",
                # Named because Feast asks for them; they are never opened, and this offline store is imported the
                # quickest.
                registry={"path": "unused"},
                offline_store={"type": "remote", "host": "unused"},
                online_store=self._place.settings,
                entity_key_serialization_version=3,
            )
        except ValidationError as error:
            # Not its text: that repeats the settings, a password among them.
            wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        except FeastError as error:
            wrong = str(error)
        raise ContractViolation(f"Feast refuses the online store {self.location} (online_store of the target): {wrong}")


def _journal_key(version: str) -> EntityKey:
    return EntityKey(join_keys=["version"], entity_values=[Value(string_val=version)])
