"""A connection that failed is tried again, an answer is not; and patience ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from kfp_lifecycle.connections import retries as attempts
from kfp_lifecycle.connections.retries import Deadline, TooSlow, in_time, persistently, was_dropped


@pytest.mark.parametrize(
    ("error", "dropped"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError("timed out"), True),
        (OSError("[libpq] Execution error: server closed the connection unexpectedly"), True),
        (RuntimeError('connection to server at "h", port 1 failed: Connection refused'), True),
        (RuntimeError("FATAL:  the database system is starting up"), True),
        (RuntimeError("FATAL:  sorry, too many clients already"), True),
        (RuntimeError('(2013, "Lost connection to MySQL server during query")'), True),
        (RuntimeError("503, message='Service Unavailable', url='https://host/a'"), True),
        (RuntimeError("An error occurred (SlowDown) when calling the GetObject operation"), True),
        (RuntimeError('FATAL:  password authentication failed for user "me"'), False),
        (
            RuntimeError("ERROR:  relation \"orders\" does not exist\nQuery was: SELECT 500, 'connection refused'"),
            False,
        ),
        (RuntimeError("ERROR:  cannot create a temporary table in a read-only transaction, LINE 500"), False),
        (FileNotFoundError("orders.csv"), False),
        (PermissionError("orders.csv"), False),
        (OSError(28, "No space left on device"), False),
        (TooSlow("no end"), False),
    ],
)
def test_only_a_failed_connection_is_worth_another_attempt(error: Exception, dropped: bool) -> None:
    assert was_dropped(error) is dropped


def test_no_attempt_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.05)
    tries = 0

    def fail() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        persistently(fail, 20, Deadline(1), str)
    assert 1 < tries < 10


def test_what_is_produced_comes_in_order_and_a_failure_after_it() -> None:
    def produce() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the end")

    seen = []
    with pytest.raises(ValueError, match="the end"):
        seen += in_time(produce, Deadline(5))
    arriving = in_time(produce, Deadline(5))
    assert [next(arriving) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_producer_that_is_left_behind_is_closed() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    arriving = in_time(produce, Deadline(5))
    assert next(arriving) == 1
    arriving.close()  # type: ignore[attr-defined]
    assert closed.wait(200)


def test_silence_ends_at_the_deadline() -> None:
    answered = threading.Event()

    def silent() -> Iterator[int]:
        answered.wait(60)
        yield 1

    started = time.monotonic()
    with pytest.raises(TooSlow):
        next(in_time(silent, Deadline(0.1)))
    assert time.monotonic() - started < 30
    answered.set()
