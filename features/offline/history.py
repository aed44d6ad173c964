"""ASOF join: feature values as of many moments, from files of view values.

What Feast's `get_historical_features` returns, by one ASOF join of DuckDB for each view; Feast ranks all pairs of rows
instead, which takes five times as long. A test holds the join against Feast's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import database
from kfp_lifecycle.features.definitions import REQUEST_TIME, TIMESTAMP, Definitions, ViewFeature
from kfp_lifecycle.features.offline.point_in_time import moment_of
from kfp_lifecycle.runtime.contract import ContractViolation


class FeatureHistory:
    """What each entity's features were as of any moment since the first snapshot."""

    def __init__(self, definitions: Definitions, folder: Path) -> None:
        """Note where the values are.

        Args:
            definitions: The project's feature definitions.
            folder: What `write_view_values` wrote, for each view that will be asked for.
        """
        self.definitions = definitions
        self._folder = folder

    def features_of(self, entities: pa.Table, features: Sequence[ViewFeature]) -> pa.Table:
        """Feature values as of each row's time.

        Args:
            entities: The entity key and `event_timestamp`, sorted by time and key, no two rows the same.
            features: Which features.

        Returns:
            A column for each feature, a row for each of the entities in the same order: numeric features as float64,
            categorical ones as string, missing as null.

        Raises:
            ContractViolation: a row was lost, or a value is too large or of the wrong type.
        """
        found = self._checked(entities, self.definitions.sources(features))
        # Only what the functions of on-demand views need is worth turning into Python objects.
        on_demand = [feature for feature in features if feature.view in self.definitions.on_demand]
        computed = self.definitions.on_demand_values(on_demand, self._inputs(entities, found, on_demand))
        values = {f.name: computed[f.name] if f in on_demand else found[f.name] for f in features}
        return pa.table({feature.name: _column(feature, values[feature.name]) for feature in features})

    def inputs_of(self, entities: pa.Table, features: Sequence[ViewFeature]) -> dict[str, list[Any]]:
        """What the functions of on-demand features get for some rows, as `Definitions.on_demand_values` takes it.

        Args:
            entities: As `features_of` takes them.
            features: The on-demand features.
        """
        return self._inputs(entities, self._checked(entities, self.definitions.sources(features)), features)

    def _inputs(self, entities: pa.Table, found: pa.Table, on_demand: Sequence[ViewFeature]) -> dict[str, list[Any]]:
        inputs = [reference.partition(":")[2] for reference in self.definitions.sources(on_demand)]
        stored = {name: _python_values(found[name]) for name in inputs}
        stored[REQUEST_TIME] = _python_values(entities[TIMESTAMP])
        return stored

    def _checked(self, entities: pa.Table, sources: Sequence[str]) -> pa.Table:
        """What `_joined` gives, for the very rows that were asked for."""
        found = self._joined(entities, sources)
        for name in (self.definitions.key, TIMESTAMP):
            if found[name].cast(entities.schema.field(name).type) != entities[name]:
                raise ContractViolation(
                    f"The join gave {len(found):,} rows for {len(entities):,} labelled ones, or other rows: none may "
                    "be lost. Report this with the locked version of DuckDB."
                )
        return found

    def _joined(self, entities: pa.Table, sources: Sequence[str]) -> pa.Table:
        """The newest value of each source (`view:feature`) that was known, and not too old, at each row's time."""
        key, seconds = quoted(self.definitions.key), self.definitions.freshness.total_seconds()
        first, last = entities[TIMESTAMP][0].as_py(), entities[TIMESTAMP][-1].as_py()
        columns, joins = [f"entities.{key}", f"entities.{TIMESTAMP}"], []
        for source in sources:
            view, _, name = source.partition(":")
            fresh = f"{quoted(view)}.{TIMESTAMP} >= entities.{TIMESTAMP} - to_seconds({seconds})"
            columns.append(f"CASE WHEN {fresh} THEN {quoted(view)}.{quoted(name)} END AS {quoted(name)}")
        for view in dict.fromkeys(source.partition(":")[0] for source in sources):
            files = ", ".join(literal(str(file)) for file in self._files(view, first, last))
            joins.append(
                f"ASOF LEFT JOIN read_parquet([{files}]) AS {quoted(view)} ON entities.{key} = {quoted(view)}.{key} "
                f"AND entities.{TIMESTAMP} >= {quoted(view)}.{TIMESTAMP}"
            )
        with database(readable=[self._folder]) as connection:
            connection.register("entities", entities)
            return connection.sql(
                f"SELECT {', '.join(columns)} FROM entities {' '.join(joins)} "
                f"ORDER BY entities.{TIMESTAMP}, entities.{key}"
            ).to_arrow_table()

    def _files(self, view: str, first: datetime, last: datetime) -> list[Path]:
        """The files that rows between two moments can have values from."""
        files = sorted((self._folder.resolve() / view).glob("*.parquet"))
        return [file for file in files if first - self.definitions.freshness <= moment_of(file) <= last]


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    """Values as the functions of on-demand views get them when a request is answered."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    # Arrow builds times with a zone ten times slower than numpy those without.
    times = column.cast(pa.timestamp("us")).to_numpy().tolist()
    return [None if time is None else time.replace(tzinfo=UTC) for time in times]


def _column(feature: ViewFeature, values: Any) -> pa.ChunkedArray:
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
        too_large = pc.sum(pc.greater(pc.abs(column), LARGEST_NUMBER)).as_py()
        if too_large:
            raise ContractViolation(
                f"{feature.view}:{feature.name} is infinite, or too large for a model's 32-bit inputs, in "
                f"{too_large:,} rows: a division by zero, most likely. Leave it missing there (nullif(divisor, 0) in "
                "SQL, None in an on-demand function), or bound it."
            )
    return column
