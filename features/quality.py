"""Feature quality: how fresh features are, how often missing, how spread, in a training set or the online store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.quality import FeatureQuality, FrequentValue, ViewQuality
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.features.definitions import Definitions, ViewFeature
from kfp_lifecycle.features.offline.point_in_time import session, show_tables, tables_of

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_FREQUENT = 10


def view_quality(
    validated: Path, tables: Mapping[str, Table], definitions: Definitions, as_of: datetime, train: Path
) -> list[ViewQuality]:
    """Describe each view that the service takes features from, in the service's order.

    Args:
        validated: The validated tables.
        tables: The tables of the configuration.
        definitions: The project's feature definitions.
        as_of: Time of the newest row of all tables.
        train: `train.parquet`.
    """
    columns = pq.read_table(train, columns=[feature.name for feature in definitions.features])
    newest = newest_rows(validated, tables, definitions, as_of)
    return [
        ViewQuality(
            view=view,
            newest_row=newest.get(view),
            age_days=(as_of - newest[view]).total_seconds() / 86_400 if view in newest else None,
            features=[
                described(feature, columns[feature.name]) for feature in definitions.features if feature.view == view
            ],
        )
        for view in dict.fromkeys(feature.view for feature in definitions.features)
    ]


def newest_rows(
    validated: Path, tables: Mapping[str, Table], definitions: Definitions, as_of: datetime
) -> dict[str, datetime]:
    """Event time of the newest row, up to `as_of`, of the tables that each view reads."""
    newest: dict[str, datetime] = {}
    of_table: dict[str, datetime] = {}
    with session(validated) as connection:
        show_tables(connection, validated, tables, as_of)
        for name, table in tables.items():
            if not table.label_only and table.event_time is not None:
                query = f"SELECT max({quoted(table.event_time)})::TIMESTAMPTZ FROM {quoted(name)}"
                [(of_table[name],)] = connection.execute(query).fetchall()
    for view in definitions.views_of(definitions.features):
        read = tables_of(definitions.sql_file(view))
        times = [of_table[name] for name in read if of_table.get(name) is not None]
        if times:
            newest[view] = max(times)
    return newest


def described(feature: ViewFeature, values: pa.ChunkedArray) -> FeatureQuality:
    """The share that is missing, and how the known values of a feature are spread."""
    known = values.drop_null()
    missing = values.null_count / len(values) if len(values) else None
    if feature.type == "numeric":
        quantiles = pc.quantile(known, list(QUANTILES)).to_pylist()
        return FeatureQuality(feature=feature.name, missing=missing, mean=pc.mean(known).as_py(), quantiles=quantiles)
    counts = sorted(pc.value_counts(known).to_pylist(), key=lambda count: (-count["counts"], count["values"]))
    return FeatureQuality(
        feature=feature.name,
        missing=missing,
        distinct=len(counts),
        most_frequent=[
            FrequentValue(value=count["values"], share=count["counts"] / len(known)) for count in counts[:MOST_FREQUENT]
        ],
    )
