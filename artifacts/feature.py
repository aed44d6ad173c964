"""A feature as artifacts name it: a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Type = Literal["numeric", "categorical"]
LARGEST_NUMBER = 3.4028234663852886e38
"""Largest number that a model's 32-bit inputs hold. What is larger, or infinite, is refused wherever it comes from: in
training, in batch scoring, in a request and from the online store. Not-a-number is a missing value."""


@dataclass(frozen=True)
class Feature:
    """One input of the model."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    type: Type
