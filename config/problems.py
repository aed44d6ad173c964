"""Validation errors of a configuration, in words that name the key, the rule and the remedy."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.section import WORDS

RENAMED = {
    "largest_bad_share": "max_bad_share",
    "largest_null_increase": "max_null_increase",
    "largest_row_change": "max_row_change",
    "at_least": "min",
    "at_most": "max",
    "smallest_class": "min_class_rows",
    "smallest_group": "min_group_rows",
}
"""Earlier names of keys, and what they are called now."""
COLUMNS = {"key", "event_time", "arrival_time", "watermark"}
"""Keys that name a column of a table."""


def describe_error(detail: ErrorDetails | Mapping[str, Any]) -> str:
    """One validation error in plain words, with the nearest known name where a key is unknown."""
    path = [part for part in detail["loc"] if part not in ("float", "int", "categorical")]
    name = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        known = known_keys(path[:-1])
        key = str(path[-1])
        close = [RENAMED[key]] if RENAMED.get(key) in known else difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
        return f"{name}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{name}: this key is required"
    if detail["type"] in ("secret_url", "store"):
        return f"{name}: {detail['msg']}"
    # What breaks a rule of a whole section is named by the rule; the section itself would only be half shown.
    found = "" if isinstance(detail["input"], dict) else f" (it is {detail['input']!r:.80})"
    return f"{name or 'the file'}: {_words(detail, path)}{found}"


def _words(detail: ErrorDetails | Mapping[str, Any], path: Sequence[str | int]) -> str:
    """The rule that a value breaks, and the remedy."""
    given = f"{detail['input']!s:.60}"
    if detail["type"] == "list_type":
        return f"it is a list, also of one: [{given}]"
    if detail["type"] == "union_tag_not_found":
        return "it lacks `type`, which says what it is: float, int or categorical"
    if detail["type"] != "string_pattern_mismatch":
        return str(detail["msg"]).removeprefix("Value error, ")
    words = WORDS[detail["ctx"]["pattern"]]
    if not COLUMNS & {str(part) for part in path[-2:]}:
        return words
    return (
        f"{words}; give a column that is called otherwise such a name with its table's query: SELECT * RENAME "
        f'("{given}" AS new_name) FROM source'
    )


def known_keys(path: Iterable[str | int]) -> list[str]:
    """The keys that the section at `path` may have; empty where any key may stand."""
    models: list[type[BaseModel]] = [Configuration]
    for part in path:
        following: list[type[BaseModel]] = []
        for model in models:
            field = model.model_fields.get(str(part))
            if field is not None:
                following += _models_in(field.annotation)
        # A key of a free mapping (a table's name) or a position in a list leads to the models found already.
        models = following or models
    return sorted({key for model in models for key in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is None and not isinstance(annotation, types.UnionType):
        return []
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
