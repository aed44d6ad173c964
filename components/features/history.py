"""Feature values as of many moments: Feast's offline store over files of view values."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView, FileSource, RepoConfig

from components.contract import ContractViolation
from components.data.tables import MEMORY_LIMIT
from components.features.definitions import REQUEST_TIME, TIMESTAMP, Definitions, Feature
from components.features.point_in_time import moment_of
from project.configuration import Configuration


class FeatureHistory:
    """What each entity's features were as of any moment since the first snapshot."""

    def __init__(self, configuration: Configuration, definitions: Definitions, folder: Path) -> None:
        """Register the views with Feast.

        Args:
            configuration: The project's configuration.
            definitions: Its feature definitions.
            folder: What `write_view_values` wrote, for each view that will be asked for.
        """
        self.definitions = definitions
        self._folder = folder
        # ibis' connection, which Feast runs on, would take most of the machine's memory before it spills, and then into
        # the working folder.
        ibis.set_backend(ibis.duckdb.connect(temp_directory=str(folder / "feast"), memory_limit=MEMORY_LIMIT))
        self.store = FeatureStore(
            config=RepoConfig(
                project=configuration.name,
                provider="local",
                registry={"path": str(folder / "registry.db")},
                # Feast's default file store loses rows silently.
                offline_store={"type": "duckdb"},
                online_store=None,
                entity_key_serialization_version=3,
            )
        )
        self._views = [view for view in definitions.views.values() if (folder / view.name).is_dir()]
        self.store.apply([definitions.entity, *(_stored_in(self._shown(view), view) for view in self._views)])

    def features_of(self, entities: pa.Table, features: Sequence[Feature]) -> pa.Table:
        """Feature values as of each row's time.

        Args:
            entities: The entity key and `event_timestamp`, sorted by time and key, no two rows the same.
            features: Which features.

        Returns:
            A column for each feature, a row for each of the entities in the same order: numeric features as float64,
            categorical ones as string, missing as null.

        Raises:
            ContractViolation: a row was lost, or a value is infinite or of the wrong type.
        """
        self._show(entities[TIMESTAMP][0].as_py(), entities[TIMESTAMP][-1].as_py())
        with warnings.catch_warnings():
            # ibis calls what DuckDB has renamed.
            warnings.simplefilter("ignore", DeprecationWarning)
            found = self.store.get_historical_features(
                entity_df=entities.to_pandas(), features=self.definitions.sources(features)
            ).to_arrow()
        found = found.sort_by([(TIMESTAMP, "ascending"), (self.definitions.key, "ascending")])
        for name in (self.definitions.key, TIMESTAMP):
            if found[name].cast(entities.schema.field(name).type) != entities[name]:
                raise ContractViolation(
                    f"Feast returned {len(found):,} rows for {len(entities):,} labelled ones, or other rows: none may "
                    "be lost. Report this with the locked versions of Feast and DuckDB."
                )
        # Only what the functions of on-demand views need is worth turning into Python objects.
        on_demand = [feature for feature in features if feature.view in self.definitions.on_demand]
        inputs = [reference.partition(":")[2] for reference in self.definitions.sources(on_demand)]
        stored = {name: _python_values(found[name]) for name in inputs}
        stored[REQUEST_TIME] = _python_values(entities[TIMESTAMP])
        computed = self.definitions.on_demand_values(on_demand, stored)
        values = {f.name: computed[f.name] if f in on_demand else found[f.name] for f in features}
        return pa.table({feature.name: _column(feature, values[feature.name]) for feature in features})

    def _shown(self, view: FeatureView) -> Path:
        return self._folder / "shown" / str(view.name)

    def _show(self, first: datetime, last: datetime) -> None:
        """Let Feast see the values that rows between two moments can have, and no others: a join reads all it sees."""
        for view in self._views:
            shutil.rmtree(self._shown(view), ignore_errors=True)
            self._shown(view).mkdir(parents=True)
            for file in (self._folder / view.name).glob("*.parquet"):
                if first - self.definitions.freshness <= moment_of(file) <= last:
                    (self._shown(view) / file.name).symlink_to(file.resolve())


def _stored_in(folder: Path, view: FeatureView) -> FeatureView:
    # Feast's DuckDB store looks for a relative path in the working folder.
    stored = copy.copy(view)
    stored.batch_source = FileSource(path=str(folder / "*.parquet"), timestamp_field=TIMESTAMP)
    return stored


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    """Values as the functions of on-demand views get them when a request is answered."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    # Arrow builds times with a zone ten times slower than numpy those without.
    times = column.cast(pa.timestamp("us")).to_numpy().tolist()
    return [None if time is None else time.replace(tzinfo=UTC) for time in times]


def _column(feature: Feature, values: Any) -> pa.ChunkedArray:
    """Values as the model takes them.

    Raises:
        ContractViolation: a value has another type than the feature's, or is infinite.
    """
    wanted = pa.float64() if feature.type == "numeric" else pa.string()
    try:
        column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values)])
        column = column.cast(wanted)
    except pa.ArrowException as error:
        raise ContractViolation(f"{feature.view}:{feature.name} is not {feature.type} everywhere: {error}") from error
    if feature.type == "numeric":
        column = pc.if_else(pc.is_nan(column), None, column)
        infinite = pc.sum(pc.is_inf(column)).as_py()
        if infinite:
            raise ContractViolation(
                f"{feature.view}:{feature.name} is infinite in {infinite:,} rows: a division by zero, most likely. "
                "Use nullif(divisor, 0) in its SQL, so that it is missing there."
            )
    return column
