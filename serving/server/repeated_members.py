"""Duplicate members of JSON objects: of a name that is there twice, decoders take the last value without a word
(RFC 8259, section 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kfp_lifecycle.serving.server.errors import InvalidRequest, shown

# Python's decoder lets nobody else go on meanwhile: so many values take it a tenth of a second at the most.
MOST_VALUES = 300_000


def refuse_repeated(body: bytes, members: int) -> None:
    """Refuse a body in which an object has two members of one name.

    Args:
        body: JSON, which has been decoded.
        members: How many members all of its objects have, as they were decoded: where there are as many colons, no name
            is there twice, and nothing else is looked at. Nor is it in a body of more than MOST_VALUES values.

    Raises:
        InvalidRequest: a name is there twice, or the body is nested too deeply to be known.
    """
    if body.count(b":") == members or body.count(b",") > MOST_VALUES:
        return
    try:
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise InvalidRequest("the body is no JSON: it is nested too deeply") from error


def _once(members: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise InvalidRequest(f"{shown(name)} is there twice in one object: which of its values is meant?")
        seen.add(name)
