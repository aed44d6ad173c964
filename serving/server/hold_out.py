"""Hold-out: a share of entities, chosen by chance and always the same, whom nobody acts upon.

Whoever is treated because of a score does not have the event that was foretold, so that no outcome says how good the
score was, or what the treatment did. A group that is left alone whatever its score says both (a randomised control:
Fisher 1935, "The design of experiments").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.serving.server.identifiers import Key


@dataclass(frozen=True)
class HoldOut:
    """Who is held out of one model: by a digest of the key, the same in each version, protocol and server."""

    share: float
    """Of the entities, 0 to 1."""
    salt: str
    """The model's name: another model holds others out."""

    def holds(self, key: Key) -> bool:
        """Whether an entity is held out; 7 and "7" are the same one."""
        digest = hashlib.blake2b(f"{self.salt}\0{key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64

    def of(self, keys: Sequence[Key | None] | None, rows: int) -> NDArray[np.bool_]:
        """Which rows are about somebody who is held out, shape (rows,); whoever is not named is not."""
        if keys is None:
            return np.zeros(rows, np.bool_)
        return np.array([key is not None and self.holds(key) for key in keys], np.bool_)
