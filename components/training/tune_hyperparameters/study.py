"""What a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        parameters: The searched parameters alone; empty for the default.
        value: ROC AUC on the validation part.
        seconds: How long training took.
    """

    parameters: dict[str, Any]
    value: float
    seconds: float


@dataclass(frozen=True)
class Study:
    """All trials in order; the first is the default."""

    trials: list[Trial]
    defaults: Mapping[str, Any]

    @property
    def best(self) -> Trial:
        """The trial with the highest value; of equals the earliest, so that a tie keeps the default."""
        return max(self.trials, key=lambda trial: trial.value)

    def describe(self) -> dict[str, Any]:
        """As the `parameters` artifact."""
        return {
            "parameters": {**self.defaults, **self.best.parameters},
            "trials": len(self.trials),
            "best_value": self.best.value,
            "default_value": self.trials[0].value,
        }


def show(value: Any) -> str:
    """A parameter's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
