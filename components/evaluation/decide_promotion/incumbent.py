"""The champion, brought here and asked."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.champion import Champion
from components.contract import ContractViolation
from components.training.dataset import TrainingSet, model_inputs
from components.training.scoring import ModelFolder

# The verdict that let a model into production travels with it under this name.
VERDICT_FILE = "verdict.json"


class Incumbent:
    """The model in production, able to score the candidate's rows.

    Attributes:
        threshold: It acts from this score on.
        snapshots: Dates that it was judged by; empty where they are not recorded with it.
    """

    def __init__(self, champion: Champion, place: Path, training_set: TrainingSet) -> None:
        """Bring its files to `place` and load it.

        Args:
            champion: Where it is.
            place: An empty folder.
            training_set: The candidate's.

        Raises:
            ContractViolation: a file is missing or damaged, or its features are not those of the training set.
        """
        folder = champion.fetch(place)
        try:
            self.model = ModelFolder(folder)
            version = self.model.description["feature_version"]
            self.threshold = self.model.threshold
            self.snapshots = _snapshots(folder)
            self.scorer = self.model.scorer()
        except ContractViolation:
            raise
        except Exception as error:
            # Whatever JSON and ONNX Runtime make of a damaged file.
            raise ContractViolation(
                f"its files in {champion.source} are damaged: {type(error).__name__}: {str(error).splitlines()[0]:.200}"
            ) from error
        current = training_set.description["feature_version"]
        if version != current:
            raise ContractViolation(
                f"its features are of version {version}, those of the training set of version {current}: other "
                "definitions may give other values under the same names"
            )

    def score(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """The event's probability for rows of the candidate's training set, shape (n,), each in [0, 1].

        Raises:
            ContractViolation: it reads a feature that is not there, or of another type.
        """
        missing = [feature.name for feature in self.model.features if feature.name not in frame]
        if missing:
            raise ContractViolation(f"it reads {', '.join(missing)}, which the training set does not have")
        return self.scorer.score(model_inputs(frame, self.model.features, "the training set"))


def _snapshots(folder: Path) -> list[str]:
    file = folder / VERDICT_FILE
    if not file.is_file():
        return []
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return [date.fromisoformat(day).isoformat() for day in content["snapshots"]]
