"""What was served: the predictions of one request, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Served:
    """The predictions of one request, as columns."""

    time: float
    request_id: str
    keys: Sequence[int | str | None] | None
    numbers: NDArray[np.float64]
    """[features, rows]."""
    texts: list[list[str]]
    scores: NDArray[np.float64]
    decisions: NDArray[np.bool_]
    latency_ms: float
    shadow: bool
    held_out: NDArray[np.bool_] | None = None
    """Whose entity is held out; None where the server holds nobody out."""
    caller: str = ""
    """Who asked: a client's name, or its address; empty where that is not known."""
