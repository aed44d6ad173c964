"""What was logged of a version's predictions: its features, and what another version decides by them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.modelling.dataset import model_inputs
from kfp_lifecycle.modelling.scoring import Scorer, decided
from kfp_lifecycle.monitoring.log_files import Span, log_files
from kfp_lifecycle.monitoring.log_window import features_of
from kfp_lifecycle.registry.champion import registered_version

# A version's model, in its folder in the registry.
MODEL = "model.onnx"


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

    @cached_property
    def features(self) -> pd.DataFrame | None:
        """A column for each input, at the places of the table: missing in other versions' rows.

        Returns:
            None where no feature was logged, or the registry does not know the version.

        Raises:
            ContractViolation: the log cannot be read, or the registry not be reached.
        """
        own = self.table[self.table["version"] == self.version]
        if own.empty or not self._inputs:
            return None
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            span = Span(self.outcomes.start, self.outcomes.until)
            files = log_files(self.locations.prediction_log, self.outcomes.model, span, scratch / "log")
            asked = pa.Table.from_pandas(own[["version", "entity", "time"]], preserve_index=False)
            found = features_of(files, self._inputs, asked, scratch / "features")
        return None if found is None else found.to_pandas().set_index(own.index).reindex(self.table.index)

    def decisions(self, other: str) -> NDArray[np.bool_] | None:
        """Whom another version would have acted upon, by the features that this one was given.

        Returns:
            At the places of the table, false in other versions' rows; None where no feature was logged, the registry
                does not know the other version, or it takes a feature that this one does not.

        Raises:
            ContractViolation: as `features`; or the other version's files are damaged.
        """
        registered = registered_version(self.locations.tracking_uri, self.outcomes.model, other)
        if registered is None or self.features is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            described = registered.description(scratch)
            if not all(feature in self._inputs for feature in described.inputs):
                return None
            scorer = Scorer(registered.fetch(scratch, MODEL).read_bytes(), described.inputs)
        own = (self.table["version"] == self.version).to_numpy(np.bool_)
        found = np.zeros(len(own), np.bool_)
        scores = scorer.score(model_inputs(self.features[own], described.inputs, "the prediction log"))
        found[own] = decided(scores, described.threshold)
        return found

    @cached_property
    def _inputs(self) -> list[Feature]:
        registered = registered_version(self.locations.tracking_uri, self.outcomes.model, self.version)
        if registered is None:
            return []
        with tempfile.TemporaryDirectory() as folder:
            return registered.description(Path(folder)).inputs
