"""A request for predictions once it is read: columns of features, and what is to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.serving.server.identifiers import Key
from kfp_lifecycle.serving.server.tensors import Numbers

OUTPUTS = {"score": "FP64", "decision": "BOOL"}
"""What a model answers, with the datatype of each."""
HOLD_OUT = "hold_out"
"""Whether the entity is held out, so that nobody is to act upon it, BOOL: where the server holds a share out."""
CONTRIBUTIONS = "contributions"
"""What each feature adds to the score, [N, features], FP64: only where it is asked for."""


@dataclass(slots=True)
class Batch:
    """Rows as columns."""

    rows: int
    numbers: Numbers
    """Of the numeric features, in the model's order, [features, rows]; NaN where a value is missing."""
    texts: list[list[str]]
    """Of the categorical features, in the model's order; empty where a value is missing."""
    keys: Sequence[Key | None] | None
    """The entity of each row; None where none is named."""
    absent: dict[tuple[int, ...], list[str]] = field(default_factory=dict)
    """Features that were not sent, by the rows that lack them: to be looked up."""
    held_out: NDArray[np.bool_] | None = None
    """Whose entity is held out, shape (rows,); None where the server holds nobody out."""


@dataclass(slots=True)
class PredictionRequest:
    """What was asked, whatever the protocol."""

    id: str
    batch: Batch
    request_time: datetime | None = None
    """The moment that looked up features are for; None: the present."""
    outputs: tuple[str, ...] = tuple(OUTPUTS)
    """What is to be answered, in this order."""
    binary: frozenset[str] = frozenset()
    """Which of it as raw bytes."""

    caller: str = ""
    """Who asks: a client's name, or its address; empty where that is not known."""
    shadow: str = ""
    """What it says to be believed that nobody acts on the answer, where no header can say it."""
    missing: Sequence[str] | None = None
    """Features that were looked up in vain, for some row; None where nothing was looked up."""

    @property
    def explained(self) -> bool:
        """Whether the score's reasons are asked for."""
        return CONTRIBUTIONS in self.outputs
