"""What a good data scientist would try: boosted trees, tuned longer and by themselves, on the same split.

    python -m benchmarks.own_tables.tuned_boosting TRAINING_SET PROJECT EVALUATION

Prints as JSON the ROC AUC of the best on the test part, and what it has more than the model that was evaluated there:
the difference and its standard error, paired by row (DeLong 1988). Run in the modelling environment.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.components.training.train_model.fitting import fit_pipeline
from kfp_lifecycle.components.training.tune_hyperparameters.tuning import suggest
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.tuning import ESTIMATOR, space_of
from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part, TrainingSet
from kfp_lifecycle.modelling.estimator import build_estimator
from kfp_lifecycle.tuning.cross_validation import folds_of, score_folds
from kfp_lifecycle.uncertainty.area import area
from kfp_lifecycle.uncertainty.contributions import NORMAL_95

TRIALS, SEED = 40, 1


@dataclass(frozen=True)
class Tuned:
    """What the best of the trials is worth on the test part."""

    roc_auc: float
    more: float
    """ROC AUC above that of the model that was evaluated."""
    standard_error: float
    """Of that difference."""


def tuned(training_set: TrainingSet, project: Path, evaluation: Path) -> Tuned:
    """Boosted trees after `TRIALS` trials of the project's own space, beside the project's own model."""
    settings = load_configuration(project)
    training, space = settings.training, settings.tuning.space
    names = space_of(training.estimator, space)
    own = {name: space[name].model_copy(update={"when": {}}) for name in names}
    folds = folds_of(training_set, training, settings.tuning.folds, settings.label.horizon)

    def judge(trial: optuna.Trial) -> float:
        return float(np.mean(list(score_folds(folds, training, suggest(trial, own)))))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(judge, TRIALS)
    found = {name: value for name, value in study.best_params.items() if name != ESTIMATOR}
    train, test = training_set.part("train"), training_set.part("test")
    model = fit_pipeline(training_set.features, train, build_estimator(training.estimator, found, training.seed))
    score = np.asarray(model.predict_proba(test.features)[:, 1], dtype=np.float64)
    entities = int(test.entity.max()) + 1
    best = area(test.label, score, test.entity, entities)
    less = best.less(area(test.label, _scores(evaluation, test, training_set.entity), test.entity, entities))
    return Tuned(best.value, less.value, (less.high - less.low) / 2 / NORMAL_95)


def _scores(evaluation: Path, test: Part, entity: str) -> NDArray[np.float64]:
    """The evaluated model's scores in the order of the test part."""
    keys = [entity, TIMESTAMP] if TIMESTAMP in test.frame else [entity]
    evaluated = pd.read_parquet(evaluation / "predictions.parquet")[[*keys, "score"]]
    joined = test.frame[keys].merge(evaluated, on=keys, how="left", validate="one_to_one")
    return np.asarray(joined["score"], dtype=np.float64)


if __name__ == "__main__":
    print(json.dumps(vars(tuned(TrainingSet(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])))))
