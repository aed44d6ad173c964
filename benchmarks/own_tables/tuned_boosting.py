"""What a good data scientist would try: boosted trees, tuned longer and by themselves, on the same split.

    python -m benchmarks.own_tables.tuned_boosting TRAINING_SET PROJECT

Prints the ROC AUC of the best on the test part. Run in the modelling environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.components.training.train_model.fitting import fit_pipeline
from kfp_lifecycle.components.training.tune_hyperparameters.tuning import suggest
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.tuning import ESTIMATOR, space_of
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.estimator import build_estimator
from kfp_lifecycle.tuning.cross_validation import folds_of, score_folds

TRIALS, SEED = 40, 1


def tuned_auc(training_set: TrainingSet, project: Path) -> float:
    """ROC AUC on the test part of boosted trees after `TRIALS` trials of the project's own space."""
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
    return float(roc_auc_score(test.label, model.predict_proba(test.features)[:, 1]))


if __name__ == "__main__":
    print(tuned_auc(TrainingSet(Path(sys.argv[1])), Path(sys.argv[2])))
