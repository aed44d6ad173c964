"""Online feature lookup: a model's features for an entity that is known by its key alone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from kfp_lifecycle.artifacts.entity_key import entity_key
from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER
from kfp_lifecycle.artifacts.tables import TIMELESS
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import Present
from kfp_lifecycle.features.definitions import REQUEST_TIME, TIMESTAMP, load_definitions
from kfp_lifecycle.features.online.location import located
from kfp_lifecycle.features.online.prompt import prompt_reader
from kfp_lifecycle.features.online.reading import ReaderOf, Stored
from kfp_lifecycle.features.online.servers import async_reader
from kfp_lifecycle.features.online.store import OnlineStore
from kfp_lifecycle.runtime.contract import ContractViolation

# How long a newer materialization may go unseen, by requests that name no time where the data are the present.
NEWS_SECONDS = 1.0

ENTITIES = Counter("online_features_entities", "Entities that features were looked up for")
MISSING = Counter("online_features_missing", "Entities for which a feature was missing or too old", ["feature"])
UNKNOWN = Counter("online_features_unknown", "Entities of which the store holds nothing; none of them is in the others")


class OnlineFeatures:
    """The features of a model's feature service, from the online store and the moment of asking."""

    def __init__(
        self,
        feature_repo: Path,
        settings: Configuration,
        online_store: str,
        of_servers: Mapping[str, ReaderOf] | None = None,
    ) -> None:
        """Read the definitions that the model was trained on and open the store.

        Args:
            feature_repo: The feature definitions that the model was trained on.
            settings: Its DEFINITION_SETTINGS, as `model.json` keeps them.
            online_store: The store's location, as `online_location.located` reads it.
            of_servers: Quicker readers than Feast's own, see `OnlineStore.reader`.

        Raises:
            ContractViolation: the definitions cannot be read, or the store holds no features of this version of them.
        """
        self._definitions = load_definitions(feature_repo, settings)
        self._store = OnlineStore(online_store, settings.name, self._definitions)
        self._present = settings.features.present
        wanted: dict[str, list[str]] = {}
        for reference in self._definitions.sources(self._definitions.features):
            view, _, name = reference.partition(":")
            wanted.setdefault(view, []).append(name)
        self._reader = self._store.reader(wanted, of_servers or {})
        self._prompt_reader = prompt_reader(self._store.configuration, self._definitions, wanted)
        place = located(online_store)
        self._async_reader = async_reader(place.url, self._store.configuration, self._definitions, wanted)
        self._on_demand = [name for names in self._definitions.on_demand_inputs.values() for name in names]
        self._computed = [
            feature for feature in self._definitions.features if feature.view in self._definitions.on_demand
        ]
        self._convert = [(f.name, float if f.type == "numeric" else str) for f in self._definitions.features]
        self._missing = {feature.name: MISSING.labels(feature.name) for feature in self._definitions.features}
        self._asked = -math.inf
        self.look_for_news()
        if self._prompt_reader is not None and self.materialized.example_entity is not None:
            # The first read opens the file.
            self._prompt_reader.read_at_once(self._keys([self.materialized.example_entity]))

    @property
    def freshness_seconds(self) -> float:
        """Age at which a stored feature counts as missing; infinite where the present is the time of the data, or the
        data have none."""
        ageless = self._present is Present.data or self.materialized.as_of == TIMELESS
        return math.inf if ageless else self._definitions.freshness.total_seconds()

    @property
    def feature_version(self) -> str:
        """Version of the definitions that are served."""
        return self._definitions.version

    def lookup(self, entity_keys: Sequence[Any], request_time: datetime | None = None) -> list[dict[str, Any]]:
        """The features of entities, as they would stand in a training set for this moment.

        Args:
            entity_keys: Keys of the entities.
            request_time: The moment that the features are for. None: the present, as `features.present` defines it.

        Returns:
            For each key the service's features by name: float for numeric ones, str for categorical ones, None where
            missing: never known, unknown entity, or older than `features.freshness_days`.

        Raises:
            ValueError: a key cannot be one.
            ContractViolation: the store cannot be read, or holds a number that a model does not take.
        """
        return self.features_of(entity_keys, self.stored(entity_keys), request_time) if entity_keys else []

    def stored(self, entity_keys: Sequence[Any]) -> list[Stored]:
        """The first half of `lookup`: what waits for the store."""
        self.look_for_news()
        return self._store.read(self._reader, self._keys(entity_keys))

    @property
    def is_asynchronous(self) -> bool:
        """Whether an event loop can ask the store."""
        return self._async_reader is not None

    @property
    def is_prompt(self) -> bool:
        """Whether it is a file that an event loop can read without waiting."""
        return self._prompt_reader is not None

    async def stored_later(self, entity_keys: Sequence[Any], seconds: float) -> list[Stored] | None:
        """As `stored`, on an event loop.

        Args:
            entity_keys: Keys of the entities.
            seconds: How long to wait.

        Returns:
            None where only a thread can ask the store, or where it is to be asked for news first.
        """
        if self._async_reader is None or self._news_are_due:
            return None
        keys = self._keys(entity_keys)
        with self._store.reaching():
            return await self._async_reader.read_later(keys, seconds)

    def lookup_at_once(self, entity_keys: Sequence[Any], request_time: datetime | None) -> list[dict[str, Any]] | None:
        """As `lookup`, without waiting for anything but this machine's disk.

        Returns:
            None where the store is no file of this machine, is locked, or is to be asked for news first.
        """
        if self._prompt_reader is None or self._news_are_due:
            return None
        keys = self._keys(entity_keys)
        found = self._prompt_reader.read_at_once(keys)
        return None if found is None else self.features_of(keys, found, request_time)

    def _keys(self, entity_keys: Sequence[Any]) -> list[Any]:
        return [entity_key(self._definitions.key, self._definitions.key_type, entity) for entity in entity_keys]

    def features_of(
        self, keys: Sequence[Any], found: Sequence[Stored], request_time: datetime | None
    ) -> list[dict[str, Any]]:
        """The second half of `lookup`: the features of entities by what is stored of them, which waits for nothing."""
        moment = self._moment(request_time)
        known = [any(value is not None for values in stored.values() for value in values.values()) for stored in found]
        rows = [self._fresh(stored, moment) for stored in found]
        inputs = {name: [row.get(name) for row in rows] for name in self._on_demand}
        inputs[REQUEST_TIME] = [moment] * len(keys)
        for name, values in self._definitions.on_demand_values(self._computed, inputs).items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        of_known = sum(known)
        ENTITIES.inc(of_known)
        if of_known < len(known):
            UNKNOWN.inc(len(known) - of_known)
        return [
            self._answer(key, row) if is_known else dict.fromkeys(self._missing)
            for key, row, is_known in zip(keys, rows, known, strict=True)
        ]

    def _fresh(self, stored: Stored, moment: datetime) -> dict[str, Any]:
        """Values by name, of the views that are not too old."""
        row: dict[str, Any] = {}
        for values in stored.values():
            known = values[TIMESTAMP] or self.materialized.as_of
            if known == TIMELESS or moment - known <= self._definitions.freshness:
                row |= values
        return row

    def _moment(self, request_time: datetime | None) -> datetime:
        if request_time is not None:
            return request_time if request_time.tzinfo else request_time.replace(tzinfo=UTC)
        return self.materialized.as_of if self._present is Present.data else datetime.now(UTC)

    @property
    def _news_are_due(self) -> bool:
        return time.monotonic() - self._asked > NEWS_SECONDS

    def look_for_news(self) -> None:
        """Ask the store for a newer materialization, unless it was just asked.

        Raises:
            ContractViolation: it cannot be asked, or holds no features of this version any more.
        """
        if not self._news_are_due:
            return
        materialized = self._store.materialized()
        if materialized is None:
            others = self._store.all_materialized()
            holds = " and ".join(f"version {other.feature_version}, as of {other.as_of}" for other in others)
            raise ContractViolation(
                f"The online store {self._store.location} has no features of version {self.feature_version}, which the "
                f"model was trained with; it holds {holds or 'nothing'}. Run the materialization pipeline with the "
                "model's definitions."
            )
        self.materialized, self._asked = materialized, time.monotonic()

    def close(self) -> None:
        """Let go what an event loop asked."""
        if self._async_reader is not None:
            self._async_reader.close()

    def _answer(self, entity: Any, row: Mapping[str, Any]) -> dict[str, Any]:
        """The service's features of one entity, as `lookup` gives them."""
        answer: dict[str, Any] = {}
        for name, convert in self._convert:
            value = row.get(name)
            if value is not None:
                value = convert(value)
                # One comparison holds for what a model takes: an infinite number and not-a-number are not within.
                if isinstance(value, float) and not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
                    if not math.isnan(value):
                        raise self._too_large(entity, name, value)
                    value = None
            if value is None:
                self._missing[name].inc()
            answer[name] = value
        return answer

    def _too_large(self, entity: Any, name: str, value: float) -> ContractViolation:
        return ContractViolation(
            f"What the online store {self._store.location} holds of {self._definitions.key} {entity!r} cannot be used: "
            f"{name} is {value}, which is infinite or too large for the model's 32-bit inputs. Bound it in its feature "
            "view, and run the materialization pipeline again."
        )
