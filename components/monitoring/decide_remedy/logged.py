"""What was logged of a version's predictions: its features, and what another version decides by them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.modelling.dataset import model_inputs
from kfp_lifecycle.modelling.scoring import Scorer, decided
from kfp_lifecycle.monitoring.log_files import Span, log_files
from kfp_lifecycle.monitoring.log_window import hand_on_features
from kfp_lifecycle.registry.champion import registered_version

# A version's model, in its folder in the registry.
MODEL = "model.onnx"
MOST_ROWS = 200_000
"""What a retraining is worth is learned from the features of so many predictions at the most, about."""
LARGEST_DIGEST = 2**64 - 1


@dataclass(frozen=True)
class Logged:
    """The log of one version's predictions that are followed.

    Attributes:
        locations: `tracking_uri` says where the registry is, `prediction_log` where predictions are.
        outcomes: Which predictions are followed.
        table: These, of all versions.
        version: The one.
    """

    locations: Locations
    outcomes: Outcomes
    table: pd.DataFrame
    version: str

    def features(self, places: pd.Series) -> pd.DataFrame | None:
        """What was logged of some rows of the version: of all, or of `MOST_ROWS` where they are more.

        Of those the entities count whose keys have the smallest digests, whatever was predicted of them: the same ones
        in each window.

        Args:
            places: Of the rows in the table.

        Returns:
            A column for each input, missing where the log no longer has it, by the places of the rows that count; None
                where no feature was logged, or the registry does not know the version.

        Raises:
            ContractViolation: the log cannot be read, or the registry not be reached.
        """
        if places.empty or not self._inputs:
            return None
        digests = pd.util.hash_array(self.table["entity"].iloc[places].to_numpy(dtype=object))
        counted = places[digests <= np.uint64(LARGEST_DIGEST * min(MOST_ROWS, len(places)) // len(places))]
        parts: list[pa.RecordBatch] = []
        if not self._hand_on(counted, self._inputs, parts.append):
            return None
        found = pa.Table.from_batches(parts).to_pandas() if parts else pd.DataFrame(columns=["place"])
        # Where reading was begun anew, a row may be there twice.
        return found.drop_duplicates("place").set_index("place").reindex(counted)

    def decisions(self, other: str) -> NDArray[np.bool_] | None:
        """Whom another version would have acted upon, by the features that this one was given.

        Returns:
            At the places of the table, false in other versions' rows, and as it was decided where the log no longer has
                the features; None where no feature was logged, the registry does not know the other version, or it
                takes a feature that this one does not.

        Raises:
            ContractViolation: as `features`; or the other version's files are damaged.
        """
        registered = registered_version(self.locations.tracking_uri, self.outcomes.model, other)
        own = (self.table["version"] == self.version).to_numpy(np.bool_)
        if registered is None or not self._inputs or not own.any():
            return None
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            described = registered.description(scratch)
            if not all(feature in self._inputs for feature in described.inputs):
                return None
            scorer = Scorer(registered.fetch(scratch, MODEL).read_bytes(), described.inputs)
        found = own & self.table["decision"].eq(True).to_numpy(np.bool_)

        def decide(batch: pa.RecordBatch) -> None:
            scores = scorer.score(model_inputs(batch.to_pandas(), described.inputs, "the prediction log"))
            found[batch.column("place").to_numpy()] = decided(scores, described.threshold)

        places = pd.Series(np.flatnonzero(own))
        return found if self._hand_on(places, described.inputs, decide) else None

    def _hand_on(self, places: pd.Series, inputs: Sequence[Feature], take: Callable[[pa.RecordBatch], None]) -> bool:
        """Read the log of the days of some rows; whether any of the features was logged."""
        rows = self.table.iloc[places]
        asked = pa.Table.from_pandas(
            rows[["version", "entity", "time"]].assign(place=places.to_numpy()), preserve_index=False
        )
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            span = Span(rows["time"].min().to_pydatetime(), rows["time"].max().to_pydatetime())
            files = log_files(self.locations.prediction_log, self.outcomes.model, span, scratch / "log")
            return hand_on_features(files, inputs, asked, scratch / "features", take)

    @property
    def adjusted(self) -> bool:
        """Whether the version is one that was adjusted as monitoring had measured.

        Raises:
            ContractViolation: the registry cannot be reached.
        """
        return self._described is not None and self._described.origin.adjustment is not None

    @property
    def _inputs(self) -> list[Feature]:
        return self._described.inputs if self._described is not None else []

    @cached_property
    def _described(self) -> Model | None:
        registered = registered_version(self.locations.tracking_uri, self.outcomes.model, self.version)
        if registered is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return registered.description(Path(folder))
