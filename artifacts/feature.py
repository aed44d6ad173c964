"""A feature as artifacts name it: a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

Type = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Feature:
    """One input of the model."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    type: Type
