"""How Katib 0.19 reads what a trial prints, restated from its metrics collector and its trial controller."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

# pkg/metricscollector/v1beta1/common/const.go: DefaultFilter.
DEFAULT_FILTER = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
WITHOUT_TIME = "0001-01-01T00:00:00Z"


def collect(lines: Iterable[str], metric: str) -> list[tuple[str, float]]:
    """Time and value of each report, as the file collector's text format finds them in standard output."""
    found = []
    for line in lines:
        if metric not in line:
            continue
        first, _, rest = line.partition(" ")
        time = first if rest and is_rfc3339(first) else WITHOUT_TIME
        found += [(time, float(match[2])) for match in DEFAULT_FILTER.finditer(line) if match[1].strip() == metric]
    return found


def is_rfc3339(text: str) -> bool:
    """Whether Go's `time.Parse(time.RFC3339Nano, text)` takes it."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
        return False
    datetime.fromisoformat(text)
    return True


def observe(reports: list[tuple[str, float]]) -> dict[str, str]:
    """The `min`, `max` and `latest` of a trial's observation; the latest is the last of those with the latest time."""
    latest = max(range(len(reports)), key=lambda place: (reports[place][0], place))
    values = [value for _, value in reports]
    return {"min": str(min(values)), "max": str(max(values)), "latest": str(values[latest])}
