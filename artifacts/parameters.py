"""Chosen hyperparameters, and what the search that found them was worth."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.document import Document
from kfp_lifecycle.config.retraining import TrainingRemedy


class Parameters(Document):
    """What `tune_hyperparameters` or `tune_with_katib` chose, as one JSON file."""

    FILE = "parameters.json"
    WRITER = "tune_hyperparameters"

    estimator: str | None = None
    """Import path of the estimator, where the search chose one; null where it is `training.estimator`."""
    parameters: dict[str, Any]
    """The estimator's parameters where they differ from the library's defaults."""
    remedy: TrainingRemedy = TrainingRemedy.retrain
    """What is made anew."""
    version: str = ""
    """The version in production whose encoder, estimator and parameters stay; empty where a whole model is trained."""
    adjustment: Adjustment | None = None
    """The remedy as monitoring measured it; null where it is fitted on labelled rows."""
    trials: int = 0
    """How many settings were tried, the default among them; 0 where nothing was searched."""
    best_value: float | None = None
    """ROC AUC of these parameters, the mean of the folds; null where nothing was searched."""
    default_value: float | None = None
    """ROC AUC of `training.parameters` alone; null where nothing was searched."""
    folds: list[str] = Field(default=[])
    """Each fold in words."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        if self.version:
            return {"trials": 0, "summary": f"those of version {self.version}, without a search"}
        if self.best_value is None or self.default_value is None:
            return {"trials": self.trials, "summary": "the default, without a search"}
        return {
            "trials": self.trials,
            "best_value": self.best_value,
            "default_value": self.default_value,
            "summary": f"AUC {self.best_value:.3f}, default {self.default_value:.3f}",
        }
