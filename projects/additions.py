"""Scaffolding of single parts: what `lifecycle add` writes into the files of a project that is there already.

Files are changed as text, so that their remarks stay, and only where the result can be read.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import CONFIGURATION_FILE, configuration_text, parse_configuration
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.projects.lacks import FEATURES, RULES
from kfp_lifecycle.projects.place import Place

TYPES = ("Int64", "Float64", "String")


def add_rule(project: Path, configuration: Configuration, table: str, rule: str, sql: str, remedy: str) -> Path:
    """Add a rule of SQL that gives the rows which break it, as a warning until somebody raised it.

    Raises:
        ConfigurationError: there is no such table, or the file cannot be read.
    """
    _known_table(configuration, table)
    file = project / configuration.validation.expectations / RULES
    text = file.read_text("utf-8") if file.is_file() else ""
    sql = sql or f"SELECT * FROM {quoted(table)} WHERE false"
    entry = {"table": table, "rule": rule, "sql": sql, "severity": "warning", "remedy": remedy or "Say what to do."}
    lines = [line for line in text.rstrip().splitlines() if line.strip() != "[]"]
    added = [f"{'-' if key == 'table' else ' '} {key}: {_text(value)}" for key, value in entry.items()]
    new = "\n".join([*lines, *([""] if lines else []), *added]) + "\n"
    if not isinstance(yaml.safe_load(new), list):
        raise ConfigurationError(f"{file} is no list of rules. Mend it first.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(new, "utf-8")
    return file


def add_source(
    project: Path,
    configuration: Configuration,
    table: str,
    key: list[str],
    event_time: str,
    place: Place | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Add a table of the source.

    Args:
        project: The project's folder.
        configuration: Its configuration.
        table: Its name in the project.
        key: Columns that tell its rows apart.
        event_time: When a row happened; empty for none.
        place: Where it is, which becomes a connection of the table's name; by default where `source.url` leads.
        settings: How that place is read.

    Raises:
        ConfigurationError: there is one of that name, `source.url` is a file that holds another table, or the
            configuration would be wrong with it.
    """
    described: dict[str, Any] = {"key": key, **({"event_time": event_time} if event_time else {})}
    text = configuration_text(project)
    if place is not None:
        described["connection"] = table
        described |= {"sheet": place.part} if place.is_workbook and place.part else {}
        described |= {"extract": place.extract} if place.extract else {}
        described |= {"query": f"SELECT * FROM {place.rows}"} if place.is_duckdb else {}
        filled = {name: value for name, value in settings.items() if value}
        text = _with_entry(text, ["source", "connections"], table, _mapping({"url": place.url, **filled}))
    elif configuration.source.url and Place(configuration.source.url, "", "").is_one_table:
        others = ", ".join(configuration.source.tables)
        raise ConfigurationError(
            f"source.url is one file, {configuration.source.url}, which is {others}: say where {table} is with --url "
            "FILE|URL[#TABLE]"
        )
    return _write(project, _with_entry(text, ["source", "tables"], table, _mapping(described)))


def add_schedule(project: Path, pipeline: str, cron: str) -> Path:
    """Let a pipeline recur.

    Raises:
        ConfigurationError: it recurs already, or the expression cannot be read.
    """
    return _write(project, _with_entry(configuration_text(project), ["schedules"], pipeline, _text(cron)))


def add_feature(
    project: Path, configuration: Configuration, table: str, name: str, sql: str, kind: str
) -> tuple[Path, Path]:
    """Add a feature as a view of its own: the SQL that computes it, its definition, and its place in the service.

    Args:
        project: The project's folder.
        configuration: Its configuration.
        table: Where it is computed from.
        name: The feature's, and its view's.
        sql: An aggregate of the entity's rows, in DuckDB's SQL.
        kind: One of `TYPES`.

    Raises:
        ConfigurationError: features are columns of a table, there is one of that name, or the definitions are written
            in a way that this cannot add to.
    """
    _known_table(configuration, table)
    if configuration.features.tables:
        raise ConfigurationError(
            f"features are the columns of {', '.join(configuration.features.tables)} (features.tables): add {name} to "
            f"the query of source.tables.{table}, such as: SELECT *, {sql} AS {quoted(name)} FROM source"
        )
    repository = project / configuration.features.repository
    definitions, query = repository / FEATURES, repository / f"{name}.sql"
    if query.exists():
        raise ConfigurationError(f"{query} is there already: choose another name")
    key = configuration.entity.key
    text = definitions.read_text("utf-8")
    entity, service, last = _definitions_in(text, definitions)
    imported = {alias.name for node in ast.parse(text).body if isinstance(node, ast.ImportFrom) for alias in node.names}
    missing = sorted({"FeatureView", "Field", "FileSource", kind} - imported)
    if missing:
        raise ConfigurationError(f"{definitions} does not import {', '.join(missing)} of feast: import that first")
    lines = text.splitlines()
    row, column = last.end_lineno or 0, last.end_col_offset or 0
    # Columns of a syntax tree are counted in bytes.
    line = lines[row - 1].encode()
    lines[row - 1] = f"{line[:column].decode()}, {name}{line[column:].decode()}"
    view = [
        f"{name} = FeatureView(",
        f"    name={_text(name)},",
        f"    entities=[{entity}],",
        "    schema=[",
        f"        Field(name={_text(key)}, dtype={_key_type(text, key)}),",
        f"        Field(name={_text(name)}, dtype={kind}),",
        "    ],",
        f'    source=FileSource(path="{name}.parquet", timestamp_field="event_timestamp"),',
        ")",
        "",
    ]
    lines[service.lineno - 1 : service.lineno - 1] = view
    new = "\n".join(lines) + "\n"
    ast.parse(new)
    query.write_text(
        f"SELECT\n    {quoted(key)},\n    {sql} AS {quoted(name)}\nFROM {quoted(table)}\nGROUP BY {quoted(key)}\n",
        "utf-8",
    )
    definitions.write_text(new, "utf-8")
    return query, definitions


def _definitions_in(text: str, file: Path) -> tuple[str, ast.Assign, ast.expr]:
    """The name of the entity, the service's statement, and the last of the service's features."""
    entity, service = None, None
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            called = getattr(statement.value.func, "id", "")
            if called == "Entity" and isinstance(statement.targets[0], ast.Name):
                entity = statement.targets[0].id
            elif called == "FeatureService":
                service = statement
    if service is not None and entity is not None:
        assert isinstance(service.value, ast.Call)
        for keyword in service.value.keywords:
            if keyword.arg == "features" and isinstance(keyword.value, ast.List) and keyword.value.elts:
                return entity, service, keyword.value.elts[-1]
    raise ConfigurationError(
        f"{file} has no `entity = Entity(…)` and `service = FeatureService(…, features=[…])` at its top level, to "
        "which a feature could be added. Add it by hand."
    )


def _key_type(text: str, key: str) -> str:
    """The type that the definitions already give the entity's key."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name, kind = given.get("name"), given.get("dtype")
            if isinstance(name, ast.Constant) and name.value == key and isinstance(kind, ast.Name):
                return kind.id
    return "Int64"


def _with_entry(text: str, section: list[str], name: str, value: str) -> str:
    """The configuration with `name: value` in a section, which is begun where there is none.

    Raises:
        ConfigurationError: there is an entry of that name, or the section is not written line by line.
    """
    place = ".".join(section)
    node: Node | None = yaml.compose(text)
    for key in section:
        node = _value_of(node, key)
    if node is None and len(section) == 1:
        return f"{text.rstrip()}\n\n{section[0]}:\n  {name}: {value}\n"
    if node is None:
        return _with_entry(text, section[:-1], section[-1], f"\n{name}: {value}")
    if not isinstance(node, MappingNode) or node.flow_style or not node.value:
        raise ConfigurationError(
            f"{CONFIGURATION_FILE}: {place} is not written line by line: add {name}: {value} there"
        )
    if _value_of(node, name) is not None:
        raise ConfigurationError(f"{CONFIGURATION_FILE}: {place}.{name} is there already: change it there")
    first = node.value[0][0].start_mark
    lines = text.splitlines()
    indent = " " * first.column
    lines.insert(first.line, indent + f"{name}: {value}".replace(": \n", f":\n{indent}  "))
    return "\n".join(lines) + "\n"


def _write(project: Path, text: str) -> Path:
    """Write the configuration where it can be used."""
    parse_configuration(text)
    file = project / CONFIGURATION_FILE
    file.write_text(text, "utf-8")
    return file


def _value_of(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if isinstance(name, ScalarNode) and name.value == key), None)


def _known_table(configuration: Configuration, table: str) -> None:
    if table not in configuration.source.tables:
        known = ", ".join(configuration.source.tables)
        raise ConfigurationError(f"source.tables has no {table}; it has {known}")


def _mapping(values: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{name}: {_text(value)}' for name, value in values.items())}}}"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
