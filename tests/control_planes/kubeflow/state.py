"""State of the control plane: every resource in one SQLite file, whole after each request."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

KINDS = ("experiments", "pipelines", "versions", "runs", "recurring_runs", "tasks")

Document = dict[str, Any]


class State:
    """Resources by kind and ID. What is changed in a document counts when it is saved."""

    def __init__(self, file: Path) -> None:
        self.lock = threading.RLock()
        """Held by whoever reads and writes more than one resource at once."""
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS resources (kind TEXT, id TEXT, document TEXT, PRIMARY KEY (kind, id))"
        )
        self._resources: dict[str, dict[str, Document]] = {kind: {} for kind in KINDS}
        for kind, identity, document in self._database.execute("SELECT kind, id, document FROM resources"):
            self._resources[kind][identity] = json.loads(document)

    def all(self, kind: str) -> list[Document]:
        """Every resource of a kind."""
        with self.lock:
            return list(self._resources[kind].values())

    def get(self, kind: str, identity: str) -> Document | None:
        """A resource, None where there is none."""
        return self._resources[kind].get(identity)

    def save(self, kind: str, document: Document) -> None:
        """Keep a resource as it is now."""
        with self.lock:
            self._resources[kind][document["id"]] = document
            self._database.execute(
                "INSERT OR REPLACE INTO resources VALUES (?, ?, ?)", (kind, document["id"], json.dumps(document))
            )

    def delete(self, kind: str, identity: str) -> None:
        """Forget a resource."""
        with self.lock:
            self._resources[kind].pop(identity, None)
            self._database.execute("DELETE FROM resources WHERE kind = ? AND id = ?", (kind, identity))

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self._database.close()
