"""Configuration of the search for hyperparameters."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from project.section import Section


class Engine(StrEnum):
    """Who searches for hyperparameters."""

    optuna = "optuna"
    none = "none"


class FloatRange(Section):
    """A real number between two bounds."""

    type: Literal["float"]
    """A real number."""
    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low}")
        return self


class IntRange(Section):
    """A whole number between two bounds, both included."""

    type: Literal["int"]
    """A whole number."""
    low: int
    """The smallest value."""
    high: int
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low}")
        return self


class Choice(Section):
    """One of several values."""

    type: Literal["categorical"]
    """One of a list."""
    choices: list[str | int | float | bool] = Field(min_length=1)
    """The values to try."""


SearchDimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]


class Tuning(Section):
    """The search for hyperparameters. The plain default is always its first trial."""

    engine: Engine = Engine.optuna
    """`optuna` searches in this step; `none` keeps the parameters of `training`."""
    trials: int = Field(default=12, gt=0)
    """How many settings are tried, the default among them."""
    timeout_seconds: int = Field(default=120, gt=0)
    """No new trial starts after this many seconds."""
    space: dict[str, SearchDimension] = Field(default={})
    """The estimator's parameters and the values to try."""
