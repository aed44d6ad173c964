"""The keys of `pipeline.yaml` in words, read from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from kfp_lifecycle.config.loading import configuration_schema

Line = tuple[str, str, str, str]


def explanation(key: str) -> list[Line]:
    """Name, type, default and meaning of a key and all below it; of all keys for `""`."""
    schema = configuration_schema()
    return [line for line in _lines(schema, schema["$defs"], "") if not key or f"{line[0]}.".startswith(f"{key}.")]


def _lines(section: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[Line]:
    for name, field in section.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = f", {escape(json.dumps(field['default']))} by default" if _has_default(field) else ""
        # A field that only says what its section says of itself carries no description of its own.
        descriptions = [field, *(definitions[reference] for reference in _references(field))]
        text = next((item["description"] for item in descriptions if "description" in item), "")
        yield path, _kind(field, definitions), default, " ".join(text.split())
        for step, inner in _sections(field):
            yield from _lines(definitions[inner], definitions, f"{path}{step}.")


def _has_default(field: dict[str, Any]) -> bool:
    """Whether there is a default to be shown; that of a section stands with its keys."""
    default = field.get("default")
    return default is not None and (not isinstance(default, dict) or (bool(default) and not _references(field)))


def _references(field: dict[str, Any]) -> list[str]:
    options = [field, *field.get("anyOf", []), *field.get("oneOf", []), *field.get("allOf", [])]
    return [option["$ref"].rsplit("/", 1)[1] for option in options if "$ref" in option]


def _sections(field: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The sections a field holds, with what stands between its name and theirs: nothing, a name, a position."""
    yield from (("", name) for name in _references(field))
    if isinstance(field.get("additionalProperties"), dict):
        yield from ((".NAME", name) for name in _references(field["additionalProperties"]))
    if isinstance(field.get("items"), dict):
        yield from ((".0", name) for name in _references(field["items"]))


def _kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    kinds: list[str] = []
    for option in field.get("anyOf", [field]):
        # A choice of words is a definition of its own, as a section is.
        described = definitions[_references(option)[0]] if "$ref" in option else option
        if "enum" in described:
            kinds += map(str, described["enum"])
        else:
            named = "section" if "$ref" in option else option.get("type", "section")
            kinds += named if isinstance(named, list) else [named]
    return " | ".join(kinds)
