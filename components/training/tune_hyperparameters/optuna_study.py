"""Between Optuna's study and ours."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from components.training.study import Trial

# What is kept of a trial beside Optuna's own fields.
SECONDS, REASON = "seconds", "reason"


def as_trial(frozen: FrozenTrial) -> Trial:
    """A finished trial of an Optuna study. It reports the mean of the folds so far after each fold."""
    means = [frozen.intermediate_values[fold] for fold in sorted(frozen.intermediate_values)]
    sums = np.array(means) * np.arange(1, len(means) + 1)
    return Trial(
        number=frozen.number,
        parameters=dict(frozen.params),
        folds=np.diff(sums, prepend=0.0).tolist(),
        value=frozen.value if frozen.state is TrialState.COMPLETE else None,
        seconds=frozen.user_attrs.get(SECONDS, 0.0),
        reason=frozen.user_attrs.get(REASON),
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the difference between good and other trials each parameter explains, 0 to 1, summing to 1.

    Optuna's PED-ANOVA (Watanabe, Bansal and Hutter 2023). Nothing where too few trials were completed to say.
    """
    completed = [trial for trial in study.trials if trial.state is TrialState.COMPLETE and trial.params]
    names = {name for trial in completed for name in trial.params}
    if len(completed) < 5 or len(names) < 2:
        return {}
    searched = optuna.create_study(direction="maximize")
    searched.add_trials(completed)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(searched, evaluator=evaluator))
