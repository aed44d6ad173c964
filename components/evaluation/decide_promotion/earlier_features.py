"""Features by the definitions of an earlier model, for the rows of a later training set."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from kfp_lifecycle.config.data import Table
from kfp_lifecycle.features.definitions import TIMESTAMP, load_definitions
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.point_in_time import write_view_values
from kfp_lifecycle.modelling.dataset import FILES, TrainingSet
from kfp_lifecycle.modelling.model_folder import ModelFolder


def earlier_features(
    model: ModelFolder, frame: pd.DataFrame, training_set: TrainingSet, validated: Path, tables: Mapping[str, Table]
) -> pd.DataFrame:
    """Compute features anew by the definitions that travel with a model, as `build_training_set` would.

    Args:
        model: The model, with its settings and its feature repository.
        frame: Rows of the training set: entity key and `event_timestamp`.
        training_set: Where they are from. Values of its snapshots are what a row falls back on, while they are fresh.
        validated: The validated tables that it was built from.
        tables: The tables of today's configuration.

    Returns:
        A column for each feature that the model was trained on, with the index of `frame`.

    Raises:
        ContractViolation: the definitions cannot be used, or not on today's tables.
    """
    definitions = load_definitions(model.feature_repo, model.settings)
    snapshots = {
        moment.to_pydatetime()
        for part in FILES
        for moment in pd.read_parquet(training_set.folder / f"{part}.parquet", columns=[TIMESTAMP])[TIMESTAMP].unique()
    }
    asked = [moment.to_pydatetime() for moment in frame[TIMESTAMP].unique()]
    needed = [known for known in snapshots if any(known <= row <= known + definitions.freshness for row in asked)]
    rows = frame[[definitions.key, TIMESTAMP]].sort_values([TIMESTAMP, definitions.key])
    with tempfile.TemporaryDirectory(prefix="earlier-features-") as place:
        views = definitions.views_of(definitions.features)
        write_view_values(validated, tables, definitions, views, sorted(needed), Path(place))
        entities = pa.Table.from_pandas(rows, preserve_index=False)
        found = FeatureHistory(definitions, Path(place)).features_of(entities, definitions.features)
    return found.to_pandas().set_index(rows.index).reindex(frame.index)
