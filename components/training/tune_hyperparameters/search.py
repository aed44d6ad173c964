"""Hyperparameter search of the step: search as the settings say, and write what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import cpu_count

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Workers
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.tuning import Engine
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.tuning.study_page import no_study_page

if TYPE_CHECKING:
    from kfp_lifecycle.components.training.tune_hyperparameters.judging import Outcome, Setting


def search(
    settings: Configuration,
    locations: Locations,
    training_set: Path,
    parameters: Path,
    page: Path,
    remedy: str = TrainingRemedy.retrain,
    champion: str = "",
    adjustment: str = "",
) -> dict[str, Any]:
    """Search as the settings say and write the `parameters` and `study` artifacts.

    Args:
        settings: `training`, `tuning` and `label.horizon_days`.
        locations: `study_store` keeps a search that was cut off.
        training_set: The training set artifact.
        parameters: JSON file to write.
        page: HTML file to write.
        remedy: What the run makes anew.
        champion: The version whose estimator stays, and its parameters with it; then nothing is searched.
        adjustment: What monitoring measured of that version, an `Adjustment` as JSON; it is handed on.

    Returns:
        Metadata: `trials`, `best_value`, `default_value`, `summary`.

    Raises:
        ContractViolation: as `tune`, `folds_of` and `kept_study`, and `TrainingSet.trainable` for each part.
    """
    training, tuning = settings.training, settings.tuning
    if champion:
        measured = Adjustment.model_validate_json(adjustment) if adjustment else None
        found = Parameters(parameters={}, remedy=TrainingRemedy(remedy), version=champion, adjustment=measured)
        return _without_search(found, parameters, page, f"The parameters are those of version {champion}, which stay.")
    if tuning.engine is Engine.none:
        found = Parameters(parameters=training.parameters)
        sentence = "tuning.engine is none: the parameters are those of training.parameters."
        return _without_search(found, parameters, page, sentence)
    most = min(tuning.parallel_trials, tuning.trials_here)
    workers: Workers[Setting, Outcome] = Workers(cpu_count(), most, prepare)
    with workers:
        # This process imports while the others do.
        from kfp_lifecycle.components.training.tune_hyperparameters.tuning import search_with

        return search_with(workers, settings, locations, training_set, parameters, page)


def _without_search(found: Parameters, parameters: Path, page: Path, sentence: str) -> dict[str, Any]:
    write_whole(page, no_study_page(sentence))
    found.write(parameters)
    return found.metadata()


def prepare() -> None:
    """Import what a setting is judged with."""
    from kfp_lifecycle.components.training.tune_hyperparameters import judging  # noqa: F401
