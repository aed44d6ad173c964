"""API keys: a secret for each client, of which the server remembers digests."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from kfp_lifecycle.runtime.contract import ContractViolation

LOGGER = logging.getLogger(__name__)
# 16 characters drawn from 64 are 96 bits: nobody guesses them.
FEWEST_CHARACTERS = 16
RULE = f"hold a line client:key for each client, each key of at least {FEWEST_CHARACTERS} characters without spaces"


class ApiKeys:
    """The keys of a file or a variable."""

    def __init__(self, place: str) -> None:
        """Read them.

        Args:
            place: A file's path, or `${VARIABLE}`.

        Raises:
            ContractViolation: there are none, or one could be guessed.
        """
        self._place = place
        self._file = None if place.startswith("${") else Path(place)
        self._read_of: tuple[int, int] | None = None
        self._told = ""
        self._names = self._read()

    def client_of(self, key: bytes) -> str | None:
        """Whose key it is; None for nobody's. Compared are digests, so that time tells nothing of a key."""
        return self._names.get(hashlib.sha256(key).digest())

    def renew(self) -> None:
        """Read the file again where it has changed; what cannot be read leaves the keys as they were."""
        if self._file is None:
            return
        try:
            if self._state(self._file) == self._read_of:
                return
            self._names, self._told = self._read(), ""
            LOGGER.info("the API keys were read again: %d", len(self._names))
        except (OSError, ContractViolation) as error:
            if str(error) != self._told:
                self._told = str(error)
                LOGGER.error("the API keys stay as they were: %s", error)

    def _read(self) -> dict[bytes, str]:
        if self._file is None:
            content = os.environ.get(self._place[2:-1], "")
            if not content:
                raise ContractViolation(
                    f"--api_keys: the variable {self._place[2:-1]} is not set. Let a secret set it, or name a file"
                )
        else:
            try:
                self._read_of = self._state(self._file)
                content = self._file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ContractViolation(f"--api_keys: {self._file} cannot be read: {error}") from error
        names: dict[bytes, str] = {}
        for number, line in enumerate(map(str.strip, content.splitlines()), start=1):
            if not line or line.startswith("#"):
                continue
            client, _, key = line.partition(":")
            if not client.strip() or len(key) < FEWEST_CHARACTERS or key.split() != [key]:
                raise ContractViolation(f"--api_keys: line {number} of {self._place} is none. It must {RULE}")
            names[hashlib.sha256(key.encode()).digest()] = client.strip()
        if not names:
            raise ContractViolation(f"--api_keys: {self._place} holds no keys. It must {RULE}")
        return names

    @staticmethod
    def _state(file: Path) -> tuple[int, int]:
        found = file.stat()
        return found.st_mtime_ns, found.st_ino
