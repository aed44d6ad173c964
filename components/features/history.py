"""Feature values as of many moments: Feast's offline store over files of view values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView, FileSource, RepoConfig

from components.contract import ContractViolation
from components.data.tables import MEMORY_LIMIT
from components.features.definitions import REQUEST_TIME, TIMESTAMP, Definitions, Feature
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
        views = [view for view in definitions.views.values() if (folder / view.name).is_dir()]
        self.store.apply([definitions.entity, *(_stored_in(folder, view) for view in views)])

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


def _stored_in(folder: Path, view: FeatureView) -> FeatureView:
    # Feast's DuckDB store looks for a relative path in the working folder.
    stored = copy.copy(view)
    stored.batch_source = FileSource(path=str(folder / view.name / "*.parquet"), timestamp_field=TIMESTAMP)
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
