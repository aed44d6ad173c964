"""Names that clients give: the key of an entity and the id of a request, each in the one way it may be written."""

from __future__ import annotations

import random
import re

from kfp_lifecycle.artifacts import entity_key as keys
from kfp_lifecycle.serving.server.errors import InvalidRequest, shown

MOST_ID_CHARACTERS = 256
# What a key or an id may not hold: it would begin another line of a log, or is half a character.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)

Key = int | str


def entity_key(value: object, name: str, row: int, key_type: str = "") -> Key:
    """An entity's key, as tables and the online store hold it.

    Args:
        value: What was sent.
        name: Of the key, for messages.
        row: Where it stood.
        key_type: DuckDB's type of the key; empty where it is not known.

    Raises:
        InvalidRequest: it names no entity, or names it in another way.
    """
    where = f"`{name}` in row {row}"
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise InvalidRequest(f"{where} is {shown(value)}: a whole number must fit 64 bits")
        return _of_type(value, name, row, key_type)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where} must name an entity, not {shown(value)}")
    if len(value) > MOST_ID_CHARACTERS or _CONTROL.search(value) or value != value.strip():
        raise InvalidRequest(
            f"{where} is {shown(value)}: a key is plain text of at most {MOST_ID_CHARACTERS} characters, without "
            "control characters and without spaces around it"
        )
    if not _PLAIN_NUMBER.fullmatch(value) and _is_number(value):
        raise InvalidRequest(f"{where} is {shown(value)}: write it in plain digits, {int(value)}")
    return _of_type(value, name, row, key_type)


def _of_type(value: Key, name: str, row: int, key_type: str) -> Key:
    """The key as its tables hold it; where its type is not known, as it was sent."""
    if not key_type:
        return value
    try:
        return keys.entity_key(name, key_type, value)
    except ValueError as error:
        raise InvalidRequest(f"`{name}` in row {row}: {error}") from error


def request_id(identifier: str | None, header: str) -> str:
    """A request's id: its own, that of its header, or one made up.

    Raises:
        InvalidRequest: it is too long, or would not stay on one line of a log.
    """
    found = identifier or header
    if not found:
        return made_up_id()
    if _is_odd(found):
        raise InvalidRequest(
            f"the id is {shown(found)}: it is plain text of at most {MOST_ID_CHARACTERS} characters, without control "
            "characters"
        )
    return found


def header_id(header: bytes) -> str:
    """The id that the header x-request-id says, whatever its bytes are."""
    return header.decode("utf-8", "backslashreplace")


def plain_id(identifier: str | None) -> str:
    """An id as a refusal may name it: itself; empty where it may be none."""
    return identifier if identifier and not _is_odd(identifier) else ""


def made_up_id() -> str:
    """The id of a request that has none."""
    return f"{random.getrandbits(128):032x}"


def _is_odd(identifier: str) -> bool:
    return len(identifier) > MOST_ID_CHARACTERS or _CONTROL.search(identifier) is not None


def _is_number(text: str) -> bool:
    """Whether Python, or a database, could take it for a whole number."""
    try:
        int(text)
    except ValueError:
        return False
    return True
