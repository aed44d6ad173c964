"""Patience with a connection, and its end: what was dropped is tried again, what hangs is left."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from kfp_lifecycle.config.data import Connection
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.connections.secrets import Revealed

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

# Pauses double from the first to the longest, each lengthened by chance so that many steps do not return at once.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0

# What drivers say when a connection was refused or lost, or the server starts, stops or is full. Everything else is
# an answer (a wrong password, an unknown table), and asking again would not change it.
DROPPED = re.compile(
    r"(?i)connection (was |has been |is )?(refused|reset|closed|lost|aborted|timed out|broken)|lost connection|"
    r"(server|peer) closed the connection|closed unexpectedly|terminating connection|broken pipe|reset by peer|"
    r"could not (connect|receive|send)|can't connect|cannot connect|connection to .* was lost|timeout expired|"
    r"unexpected eof|incomplete read|payload is not completed|server disconnected|gone away|"
    r"(starting up|shutting down|in recovery mode|too many (clients|connections)|remaining connection slots)|"
    r"temporarily unavailable|temporary failure|service unavailable|slowdown|internalerror|bad gateway|"
    r"gateway time-?out|too many requests|\((429|50[0234])\)|\b(429|50[0234]), message"
)


class TooSlow(Exception):
    """The reading did not end within its time."""


class Deadline:
    """The moment at which patience ends."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, never below zero."""
        return max(0.0, self._end - time.monotonic())


def was_dropped(error: BaseException) -> bool:
    """Whether the connection failed, rather than what was asked of it."""
    if isinstance(error, (FileNotFoundError, PermissionError, TooSlow)):
        return False
    # The network's own failures, whatever their text; other errors of the system (a full disk) are no reason to wait.
    if isinstance(error, (ConnectionError, TimeoutError, EOFError)):
        return True
    # Further lines may repeat the query, whose words are the user's.
    return DROPPED.search(f"{type(error).__name__}: {first_line(error)}") is not None


def persistently(work: Callable[[], T], attempts: int, deadline: Deadline, hide: Callable[[str], str]) -> T:
    """Do work, again after a pause whenever its connection was dropped.

    Args:
        work: Begins from nothing each time.
        attempts: How often at most.
        deadline: No new attempt begins after it.
        hide: Takes secrets out of the reason that is logged for each new attempt.

    Raises:
        Exception: of the last attempt, unchanged.
    """
    # Most sources are on this machine and need no patience.
    import tenacity

    def announce(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        reason = hide(first_line(error)) if error else ""
        print(f"attempt {state.attempt_number} of {attempts} failed, the next in {pause:.1f} s: {reason}", flush=True)

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(deadline.left()),
        wait=tenacity.wait_exponential_jitter(
            FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, jitter=FIRST_PAUSE_SECONDS / 2
        ),
        retry=tenacity.retry_if_exception(was_dropped),
        before_sleep=announce,
        reraise=True,
    )(work)


def in_time(produce: Callable[[], Iterator[T]], deadline: Deadline) -> Iterator[T]:
    """What `produce` yields, as long as it comes before the deadline.

    It runs in a thread of its own, one item ahead: a driver that waits for a silent server cannot be interrupted, but
    it can be left behind.

    Raises:
        TooSlow: the deadline passed.
        Exception: what `produce` raised, unchanged.
    """
    items: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=1)
    abandoned = threading.Event()

    def put(kind: str, value: T | BaseException | None = None) -> bool:
        while not abandoned.is_set():
            try:
                items.put((kind, value), timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            produced = produce()
            for item in produced:
                if not put("item", item):
                    # Let the driver close its connection here, in the thread that opened it.
                    produced.close() if hasattr(produced, "close") else None
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    threading.Thread(target=run, name="reading", daemon=True).start()
    try:
        while True:
            try:
                kind, value = items.get(timeout=deadline.left())
            except queue.Empty:
                raise TooSlow(f"no end after {deadline.seconds:g} s") from None
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        abandoned.set()


def failure(place: Connection, where: Revealed, what: str, error: Exception) -> str:
    """What to say when something could not be read from another machine: reason and remedy, without secrets."""
    reason = where.hide(first_line(error)).rstrip(".")
    if isinstance(error, TooSlow):
        return (
            f"{what} of {place.url} was not read within {place.timeout_seconds:g} s (timeout_seconds). Nothing was "
            "written. See what holds the server up, ask for less, or allow more time in pipeline.yaml; then resume the "
            "run."
        )
    if was_dropped(error):
        return (
            f"{what} of {place.url} could not be read, in {place.attempts} attempts: {reason}. Nothing was written. "
            "See that the server is up and reachable from where the step runs, and resume the run."
        )
    return (
        f"{what} of {place.url} cannot be read: {type(error).__name__}: {reason}. Correct the URL, the table's name or "
        "its extract in pipeline.yaml, or the rights of the user in it."
    )
