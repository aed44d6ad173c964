"""What a server logs: the terms that its command line shares with the configuration.

They need no library. A server is ready sooner without the one that checks a configuration, which was checked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOG_SECRET_VARIABLE = "LIFECYCLE_LOG_SECRET"


class LogFormat(StrEnum):
    """How the server's log is written."""

    text = "text"
    json = "json"


class LoggedKey(StrEnum):
    """What the prediction log says of the entity that a request names."""

    plain = "plain"
    hashed = "hashed"
    none = "none"


@dataclass(frozen=True)
class LogPolicy:
    """What is logged of each prediction, and how long it is kept; `LogSettings` says what each means."""

    enabled: bool = True
    features: bool = True
    key: LoggedKey = LoggedKey.plain
    retention_days: int = 90
    max_mb: int = 51_200

    @property
    def needs_secret(self) -> bool:
        """Whether keys are hashed, with the secret of LOG_SECRET_VARIABLE."""
        return self.enabled and self.key is LoggedKey.hashed
