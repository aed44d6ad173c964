"""Hyperparameter importance (PED-ANOVA), whoever searched."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from kfp_lifecycle.config.tuning import Choice, FloatRange, IntRange, Space
from kfp_lifecycle.tuning.study import Study

# With fewer nothing can be said.
FEWEST_TRIALS, FEWEST_PARAMETERS = 5, 2


def parameter_importance(study: Study, space: Space) -> dict[str, float]:
    """How much of the difference between good and other trials each parameter explains, 0 to 1, summing to 1.

    Optuna's PED-ANOVA (Watanabe, Bansal and Hutter 2023). Nothing where too few trials were completed to say.

    Args:
        study: What was found.
        space: What was searched.
    """
    completed = [trial for trial in study.trials if trial.value is not None and trial.parameters]
    names = {name for trial in completed for name in trial.parameters}
    if len(completed) < FEWEST_TRIALS or len(names) < FEWEST_PARAMETERS:
        return {}
    searched = optuna.create_study(direction="maximize")
    for trial in completed:
        kinds = {name: distribution(space[name]) for name in trial.parameters}
        searched.add_trial(optuna.create_trial(value=trial.value, params=trial.parameters, distributions=kinds))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(searched, evaluator=evaluator))


def distribution(dimension: FloatRange | IntRange | Choice) -> BaseDistribution:
    """A dimension of the search as Optuna knows it."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, FloatRange):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return IntDistribution(dimension.low, dimension.high, log=dimension.log)
