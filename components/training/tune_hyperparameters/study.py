"""What a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

# What is kept of a trial beside Optuna's own fields.
SECONDS, REASON = "seconds", "reason"


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: 0 is the default.
        parameters: The searched parameters alone; empty for the default.
        folds: ROC AUC on each fold that it came to.
        value: Their mean where it came to all of them; None where it was given up or failed.
        seconds: How long it took.
        reason: Why it failed; None where it did not.
    """

    number: int
    parameters: dict[str, Any]
    folds: list[float]
    value: float | None
    seconds: float
    reason: str | None


@dataclass(frozen=True)
class Study:
    """All trials in order; the first is the default."""

    trials: list[Trial]
    defaults: Mapping[str, Any]
    folds: list[str]
    """Each fold in words."""

    @property
    def default(self) -> Trial:
        """The trial of the plain default."""
        return self.trials[0]

    @property
    def best(self) -> Trial:
        """The trial with the highest value; of equals the earliest, so that a tie keeps the default."""
        return max((trial for trial in self.trials if trial.value is not None), key=lambda trial: trial.value or 0)

    @property
    def given_up(self) -> list[Trial]:
        """Those that were worse than the median of the trials before them."""
        return [trial for trial in self.trials if trial.value is None and trial.reason is None]

    @property
    def failed(self) -> list[Trial]:
        """Those that gave no result."""
        return [trial for trial in self.trials if trial.reason is not None]

    def describe(self) -> dict[str, Any]:
        """As the `parameters` artifact."""
        return {
            "parameters": {**self.defaults, **self.best.parameters},
            "trials": len(self.trials),
            "best_value": self.best.value,
            "default_value": self.default.value,
        }


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


def show(value: Any) -> str:
    """A parameter's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
