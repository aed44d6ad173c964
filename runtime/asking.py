"""Retry policy for HTTP APIs: what does not answer is asked again for a while, and root causes of errors.

Sources of data have a policy of their own, which a project sets (`connections/retries.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# For how long, in seconds, a server that does not answer is asked again, and how long the pauses are.
PATIENCE, FIRST_PAUSE, LONGEST_PAUSE = 20.0, 0.5, 5.0
# HTTP statuses of a server that may answer later.
RETRIED = {429, 500, 502, 503, 504}


def ask_again(call: Callable[[], T], passes: Callable[[Exception], bool]) -> T:
    """Call, and again after a pause whenever it fails in a way that passes.

    Raises:
        Exception: of the last call, unchanged.
    """
    until, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not passes(error) or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def root_of(error: BaseException) -> str:
    """What the error that is at the bottom of another one says."""
    for reason in (getattr(error, "reason", None), *error.args):
        if isinstance(reason, BaseException):
            return root_of(reason)
    return str(error)
