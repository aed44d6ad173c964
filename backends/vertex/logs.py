"""Log of a step: what Cloud Logging keeps of its job, line by line, as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from kfp_lifecycle.backends.backend import NotThere
from kfp_lifecycle.backends.vertex.api import CONSOLE, VertexApi

# Entries of one answer, and the seconds between two questions: Cloud Logging lets a project ask 60 times a minute.
PAGE, PAUSE = 1000, 3.0
# Questions that find nothing new before the log of a job that has ended counts as whole: lines come some seconds late.
LATE = 2


def log_lines(api: VertexApi, job: str, what: str, is_running: Callable[[], bool]) -> Iterator[str]:
    """The lines of a custom job, until it has ended.

    Args:
        api: The API.
        job: The job's number.
        what: What it is, for messages: `the step train-model`.
        is_running: Whether the job still is.

    Raises:
        NotThere: it has ended, and there are none.
        BackendError: they cannot be read.
    """
    query = f'resource.type="ml_job" AND resource.labels.job_id="{job}"'
    seen: set[str] = set()
    since, idle = "", 0
    running = is_running()
    followed = running
    while True:
        newer = f'{query} AND timestamp>="{since}"' if since else query
        found = [entry for entry in _entries(api, what, newer) if entry["insertId"] not in seen]
        for entry in found:
            seen.add(entry["insertId"])
            since = max(since, entry["timestamp"])
            yield from _text(entry).splitlines()
        idle = 0 if found or running else idle + 1
        if not running and (not followed or idle >= LATE):
            break
        time.sleep(PAUSE)
        running = running and is_running()
    if not seen:
        raise NotThere(
            f"Cloud Logging has no line of {what}: it keeps them for 30 days by default, and a step writes none where "
            f"its account lacks roles/logging.logWriter. Look at {CONSOLE}/logs/query;query={quote(query, safe='')}"
            f"?project={api.project}"
        )


def _entries(api: VertexApi, what: str, query: str) -> Iterator[dict[str, Any]]:
    """All entries that a query finds, the oldest first."""
    token = ""
    while True:
        body = {
            "resourceNames": [f"projects/{api.project}"],
            "filter": query,
            "orderBy": "timestamp asc",
            "pageSize": PAGE,
            **({"pageToken": token} if token else {}),
        }
        answer = api.service(
            f"read the log of {what}", "logging", "/v2/entries:list", body, role="roles/logging.viewer"
        )
        yield from answer.get("entries", [])
        token = answer.get("nextPageToken", "")
        if not token:
            return


def _text(entry: dict[str, Any]) -> str:
    """What an entry says."""
    if "textPayload" in entry:
        return str(entry["textPayload"])
    payload = entry.get("jsonPayload", {})
    return str(payload.get("message", "") if isinstance(payload, dict) else payload)
