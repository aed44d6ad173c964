"""The search for hyperparameters: train on the train part, judge on the later validation part."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from sklearn.metrics import roc_auc_score

from components.complete import write_whole
from components.training.dataset import TrainingSet
from components.training.estimator import build_encoder, build_estimator, fit
from components.training.tune_hyperparameters.study import Study, Trial, show
from components.training.tune_hyperparameters.study_page import study_page
from project.loading import load_configuration
from project.training import Training
from project.tuning import Choice, Engine, FloatRange, SearchDimension, Tuning

optuna.logging.set_verbosity(optuna.logging.WARNING)


def tune(training_set: TrainingSet, training: Training, tuning: Tuning) -> Study:
    """Search.

    Args:
        training_set: Its train part is learned from, its validation part, which is later in time, decides.
        training: The estimator, its default parameters and the seed.
        tuning: Engine, search space, number of trials and time limit.

    Raises:
        ContractViolation: the data cannot be learned from, or the estimator does not know a parameter.
    """
    # A misspelt name in the search space is known before anything is trained.
    build_estimator(training.estimator, {**training.parameters, **dict.fromkeys(tuning.space)}, training.seed)
    parts = training_set.trainable(("train", "validation"), training.smallest_class)
    estimator = build_estimator(training.estimator, training.parameters, training.seed)
    encoder = build_encoder(training_set.features, parts["train"].features, estimator)
    train = encoder.fit_transform(parts["train"].features)
    validation = encoder.transform(parts["validation"].features)

    def try_out(parameters: Mapping[str, Any]) -> Trial:
        started = time.monotonic()
        candidate = build_estimator(training.estimator, {**training.parameters, **parameters}, training.seed)
        fit(candidate, train, parts["train"].label)
        score = candidate.predict_proba(validation)[:, 1]
        value = float(roc_auc_score(parts["validation"].label, score))
        return Trial(dict(parameters), value, time.monotonic() - started)

    trials: list[Trial] = []
    wanted = tuning.trials if tuning.engine is Engine.optuna and tuning.space else 1
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=training.seed))
    started = time.monotonic()
    while len(trials) < wanted and (not trials or time.monotonic() - started < tuning.timeout_seconds):
        if not trials:
            # The default may lie outside the space, which a sampler cannot be told; it is measured all the same.
            trial = try_out({})
        else:
            asked = study.ask()
            trial = try_out({name: suggest(asked, name, space) for name, space in tuning.space.items()})
            study.tell(asked, trial.value)
        trials.append(trial)
        report(len(trials), wanted, trial, max(tried.value for tried in trials))
    if len(trials) < wanted:
        print(f"tuning.timeout_seconds ({tuning.timeout_seconds}) ended the search after {len(trials)} trials.")
    return Study(trials, training.parameters)


def suggest(trial: optuna.Trial, name: str, space: SearchDimension) -> Any:
    """Ask Optuna for a value of one dimension."""
    if isinstance(space, Choice):
        return trial.suggest_categorical(name, space.choices)
    if isinstance(space, FloatRange):
        return trial.suggest_float(name, space.low, space.high, log=space.log)
    return trial.suggest_int(name, space.low, space.high, log=space.log)


def report(number: int, wanted: int, trial: Trial, best: float) -> None:
    """One line of progress."""
    tried = ", ".join(f"{name} {show(value)}" for name, value in trial.parameters.items()) or "the default"
    print(
        f"trial {number} of {wanted}: AUC {trial.value:.4f}, best {best:.4f} ({trial.seconds:.1f} s; {tried})",
        flush=True,
    )


def search(project: Path, training_set: Path, parameters: Path, page: Path) -> dict[str, Any]:
    """Search as the project says and write the `parameters` and `study` artifacts.

    Args:
        project: The project artifact.
        training_set: The training set artifact.
        parameters: JSON file to write.
        page: HTML file to write.

    Returns:
        Metadata: `trials`, `best_value`, `default_value`, `summary`.

    Raises:
        ContractViolation: as `tune`.
    """
    configuration = load_configuration(project)
    study = tune(TrainingSet(training_set), configuration.training, configuration.tuning)
    found = study.describe()
    write_whole(page, study_page(study))
    write_whole(parameters, json.dumps(found, indent=2))
    figures = {name: found[name] for name in ("trials", "best_value", "default_value")}
    return {**figures, "summary": f"AUC {found['best_value']:.3f}, default {found['default_value']:.3f}"}
