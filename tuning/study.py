"""Study: the trials of a hyperparameter search, whoever searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.config.tuning import ESTIMATOR


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: 0 is the default.
        parameters: The searched parameters alone; empty for the default.
        folds: ROC AUC on each fold that it came to, where that is known.
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
    estimator: str
    """Import path of the default's estimator."""
    defaults: Mapping[str, Any]
    """Its parameters."""
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

    def describe(self) -> Parameters:
        """What was chosen, as the `parameters` artifact."""
        estimator, parameters = chosen(self.estimator, self.defaults, self.best.parameters)
        return Parameters(
            estimator=estimator if estimator != self.estimator else None,
            parameters=parameters,
            trials=len(self.trials),
            best_value=self.best.value,
            default_value=self.default.value,
            folds=self.folds,
        )


def chosen(estimator: str, defaults: Mapping[str, Any], searched: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The estimator and all its parameters.

    Args:
        estimator: Import path of the default one.
        defaults: Its parameters; another estimator has none of them.
        searched: What a trial tries, the estimator too where that is searched.
    """
    path = str(searched.get(ESTIMATOR, estimator))
    parameters = {name: value for name, value in searched.items() if name != ESTIMATOR}
    return path, {**(defaults if path == estimator else {}), **parameters}


def show(value: Any) -> str:
    """A parameter's value, short; of an import path the name."""
    if isinstance(value, str):
        return value.rpartition(".")[2]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_all(parameters: Mapping[str, Any]) -> str:
    """All of a trial's parameters in a line."""
    return ", ".join(f"{name} {show(value)}" for name, value in parameters.items()) or "the default"
