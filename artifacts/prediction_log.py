"""Layout of the prediction log: `<model>/<day>/<hour>-<writer>`, with a suffix that says whether the file still grows.

Servers write by it and monitoring reads by it, in environments that share nothing but this.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

GROWING = ".arrows"
"""An Arrow stream that its server still appends to, or that a killed one left."""
FINISHED = ".parquet"
BATCH = "batch"
"""Who asked for a batch's scores, as the log names it."""
DAYS = "????-??-??"
"""What a day's folder looks like."""


def day_folder(hour: datetime) -> str:
    """The folder of an hour, by its day."""
    return f"{hour:%Y-%m-%d}"


def hashed_key(secret: bytes, key: str) -> str:
    """An entity as the log names it where keys are hashed: HMAC-SHA256 with the servers' secret, shortened."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()[:32]


def hashed_caller(secret: bytes, caller: str) -> str:
    """Who asked as the log names it: the same digest, so short that a row hardly grows and callers are told apart."""
    return hashed_key(secret, caller)[:12]
