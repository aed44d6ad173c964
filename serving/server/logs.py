"""The server's own log: lines of text or of JSON, written by a thread, so that a slow reader holds no request up."""

from __future__ import annotations

import contextlib
import logging
import sys
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any

import msgspec

MOST_WAITING = 10_000
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """A record as one JSON object, on one line whatever it holds."""

    def __init__(self, model: str, version: str) -> None:
        """Note what is in every line."""
        super().__init__()
        self._always = {"model": model, "model_version": version}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().encode("utf-8", "backslashreplace").decode(),
            **self._always,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return str(msgspec.json.encode(content), "utf-8")


class _Handler(QueueHandler):
    """Hands records over as they are, and lets go of those for which there is no room."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A traceback is written by the thread, too."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand over."""
        with contextlib.suppress(Full):
            self.queue.put_nowait(record)


def start_logging(as_json: bool, model: str, version: str) -> QueueListener:
    """Log to standard error from now on.

    Args:
        as_json: Whether as JSON lines.
        model: The model's name.
        version: Its version.

    Returns:
        The thread; when it is stopped, all has been written.
    """
    written = logging.StreamHandler(sys.stderr)
    written.setFormatter(JsonLines(model, version) if as_json else logging.Formatter(TEXT))
    queue: Queue[logging.LogRecord] = Queue(MOST_WAITING)
    logging.basicConfig(level=logging.INFO, handlers=[_Handler(queue)], force=True)
    listener = QueueListener(queue, written)
    listener.start()
    return listener
