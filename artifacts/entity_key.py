"""Entity key parser: each key has one way to be written, and what is written in another way is refused."""

from __future__ import annotations

import re
from typing import Any

# Bits of a whole number, by the DuckDB type of the key.
WHOLE = {"INTEGER": 32, "BIGINT": 64}
_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,18}")


def entity_key(name: str, key_type: str, given: Any) -> int | str:
    """An entity's key, as tables and the online store hold it.

    A whole number may come as a number or as its plain decimal digits: no sign but a minus, no zero before them, no
    space, no underscore, no digits of another script. A text may come as itself, or as a whole number for its digits.

    Args:
        name: The key column, for messages.
        key_type: Its DuckDB type: INTEGER, BIGINT or VARCHAR.
        given: What a request names.

    Raises:
        ValueError: it is no such key.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        number: int | None = given
    else:
        number = int(given) if isinstance(given, str) and _PLAIN.fullmatch(given) else None
    if key_type in WHOLE:
        bits = WHOLE[key_type]
        if number is not None and -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            return number
        raise ValueError(f"{name} must be a whole number, not {given!r:.60}: plain digits, in {bits} bits")
    if isinstance(given, int) and number is not None:
        return str(number)
    # A half of a surrogate pair is in no table.
    if isinstance(given, str) and given and not re.search("[\ud800-\udfff]", given):
        return given
    raise ValueError(f"{name} must be a text that is not empty, not {given!r:.60}")
