"""Ledger of what was said: a message that says the same within some hours is counted and not sent."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# Figures, and what else differs between two messages that say the same: run ids, times.
_DIFFERING = re.compile(r"\S*\d\S*")


@dataclass(frozen=True)
class Ledger:
    """A file that says which messages were sent when.

    Args:
        file: Where it is kept; none where nothing outlives the run: then each message is sent.
        hours: For how long the same is not said again.
    """

    file: Path | None
    hours: float

    def held_back(self, message: str, now: datetime) -> bool:
        """Count a message that was sent within the hours. Whether it was: then it is not to be sent again."""
        entries = self._read()
        entry = entries.get(_same(message))
        if entry is None or now - datetime.fromisoformat(entry["sent_at"]) >= timedelta(hours=self.hours):
            return False
        entry["held_back"] += 1
        self._write(entries)
        return True

    def held_since(self, message: str) -> str:
        """What to add to a message: how often it was held back since it was sent; empty where it was not."""
        entry = self._read().get(_same(message))
        if entry is None or not entry["held_back"]:
            return ""
        times = "once" if entry["held_back"] == 1 else f"{entry['held_back']} times"
        return f"The same was said {times} more since {entry['sent_at'][:16]}, and not sent."

    def sent(self, message: str, now: datetime) -> None:
        """Write down that a message was sent."""
        oldest = now - timedelta(days=90)
        entries = {
            key: entry for key, entry in self._read().items() if datetime.fromisoformat(entry["sent_at"]) > oldest
        }
        self._write(entries | {_same(message): {"sent_at": now.astimezone(UTC).isoformat(), "held_back": 0}})

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.file is None:
            return {}
        with suppress(FileNotFoundError):
            try:
                found: dict[str, dict[str, Any]] = json.loads(self.file.read_text("utf-8"))
                for entry in found.values():
                    datetime.fromisoformat(entry["sent_at"]), int(entry["held_back"])
                return found
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                print(f"{self.file} cannot be read, so that all is sent ({type(error).__name__})", file=sys.stderr)
        return {}

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        if self.file is None:
            return
        try:
            unfinished = self.file.with_name(f".{self.file.name}.unfinished")
            unfinished.write_text(json.dumps(entries, indent=1), "utf-8")
            unfinished.replace(self.file)
        except OSError as error:
            print(f"{self.file} cannot be written, so that more is sent ({error.strerror})", file=sys.stderr)


def _same(message: str) -> str:
    """What two messages that say the same have in common."""
    return hashlib.sha256(_DIFFERING.sub("#", message).encode()).hexdigest()[:16]
