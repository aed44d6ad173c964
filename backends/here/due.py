"""`python -m kfp_lifecycle.backends.here.due CRON ZONE STAMP`: whether a schedule was due since its last occurrence.

Exit code 0 says that it was, once or more often: what was missed while the machine was off is made up for once. A
schedule that never ran is due from now on.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from kfp_lifecycle.config.cron import Cron


def is_due(cron: str, zone: str, since: datetime, now: datetime) -> bool:
    """Whether a moment of a schedule lies after one moment, and not after another."""
    return any(moment > since for moment in Cron.parse(cron).between(since, now, ZoneInfo(zone)))


def main() -> int:
    """The command line."""
    cron, zone, stamp = sys.argv[1:]
    ran = datetime.fromtimestamp(Path(stamp).stat().st_mtime, UTC)
    return 0 if is_due(cron, zone, ran, datetime.now(UTC)) else 1


if __name__ == "__main__":
    sys.exit(main())
