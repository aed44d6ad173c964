"""Champion model, fetched and asked to score the candidate's rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.modelling.dataset import TrainingSet, model_inputs
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.champion import Champion
from kfp_lifecycle.runtime.contract import ContractViolation


class Incumbent:
    """The model in production, able to score the candidate's rows.

    Attributes:
        threshold: It acts from this score on.
        snapshots: Dates that it was judged by; empty where they are not recorded with it.
        notes: What a reader must know of its features.
    """

    def __init__(
        self,
        champion: Champion,
        place: Path,
        training_set: TrainingSet,
        validated: Path,
        tables: Mapping[str, Table],
    ) -> None:
        """Bring its files to `place` and load it.

        Args:
            champion: Where it is.
            place: An empty folder.
            training_set: The candidate's.
            validated: The validated tables that the training set was built from.
            tables: The tables of the configuration.

        Raises:
            ContractViolation: a file is missing or damaged.
        """
        folder = champion.fetch(place)
        try:
            self.model = ModelFolder(folder)
            self._version = self.model.description.feature_version
            self.threshold = self.model.threshold
            # The verdict that approved a model travels with it.
            judged = (folder / Verdict.FILE).is_file()
            self.snapshots = Verdict.read(folder).snapshots if judged else []
            self.scorer = self.model.scorer()
        except ContractViolation as violation:
            # Where they were brought to says nothing to a reader.
            reason = str(violation).replace(str(folder), "the folder")
            raise ContractViolation(f"its files in {champion.source} are damaged: {reason}") from violation
        self._training_set, self._validated, self._tables = training_set, validated, tables
        self.notes = (
            [
                f"Version {champion.version} was trained on other feature definitions ({self._version}): for the "
                "comparison its features were computed by its own, for the same rows."
            ]
            if self._has_other_features
            else []
        )

    @property
    def _has_other_features(self) -> bool:
        """Whether features of the same name may be other numbers in the candidate's training set."""
        return bool(self._version != self._training_set.description.feature_version)

    def score(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """The event's probability for rows of the candidate's training set, shape (n,), each in [0, 1].

        Raises:
            ContractViolation: it reads a feature that is not there, or of another type; or it has feature definitions
                of its own, which cannot be used on today's tables.
        """
        if self._has_other_features:
            frame = self._own_features(frame)
        missing = [feature.name for feature in self.model.features if feature.name not in frame]
        if missing:
            raise ContractViolation(f"it reads {', '.join(missing)}, which the training set does not have")
        return self.scorer.score(model_inputs(frame, self.model.features, "the training set"))

    def _own_features(self, frame: pd.DataFrame) -> pd.DataFrame:
        # Feast takes seconds to import, and most champions have the candidate's features.
        from kfp_lifecycle.components.evaluation.decide_promotion.earlier_features import earlier_features

        try:
            return earlier_features(self.model, frame, self._training_set, self._validated, self._tables)
        except (ContractViolation, ConfigurationError) as error:
            current = self._training_set.description.feature_version
            raise ContractViolation(
                f"its features are of version {self._version}, those of the training set of version {current}, and by "
                f"its own definitions they cannot be computed from today's tables: {error}"
            ) from error
