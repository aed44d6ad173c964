"""YAML 1.2 (core schema), and no key twice: what a person reads in the file is what the program does.

PyYAML follows YAML 1.1, where `012` is 10, `12:30` is 750 and `no` is false, and of a key that stands twice it keeps
the last without a word.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
# YAML 1.2.2, section 10.3.2, with the characters that each can begin with.
SCALARS = (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        ),
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; a key that stands in it twice is an error that names both places."""
        places: dict[Hashable, yaml.Mark] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or a mapping", key_node.start_mark)
            if key in places:
                raise yaml.constructor.ConstructorError(
                    f"the key {key!r} stands here first", places[key], "and again", key_node.start_mark
                )
            places[key] = key_node.start_mark
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """YAML 1.2 has no merge keys: `<<` is a key like others."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, which puts a text in quotes where either version of YAML would read something else."""


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(node.value).lower()
    # Python writes infinity and not-a-number without the point.
    return float(text.replace(".", "") if text.endswith(("inf", "nan")) else text)


for _name, _pattern, _first in SCALARS:
    _exact = re.compile(f"^(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"{TAG}{_name}", _exact, _first)
    _Dumper.add_implicit_resolver(f"{TAG}{_name}", _exact, _first)
_Loader.add_constructor(f"{TAG}int", _integer)
_Loader.add_constructor(f"{TAG}float", _float)


def load_yaml(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        yaml.YAMLError: it is no YAML, a key stands twice in one mapping, or it asks for more than plain values.
    """
    return yaml.load(text, _Loader)


def dump_yaml(values: Any) -> str:
    """A value as a YAML document, its keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
