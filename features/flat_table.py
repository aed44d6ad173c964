"""Flat table: a label and features that stand in the columns of one table, as the SQL and the Feast definitions that a
project would otherwise write.

It imports no Feast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import Label
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    import duckdb

# DuckDB's types of columns that are numbers to a model; a DECIMAL is another.
NUMBERS = {
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "FLOAT", "DOUBLE",
}  # fmt: skip
KEYS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
# Of the events of a label that names no positive value.
POSITIVE = ("1", "1.0", "true")
SHOWN = 6


def label_sql(configuration: Configuration) -> str:
    """The label query that `label.column` stands for."""
    label, key = configuration.label, quoted(configuration.entity.key)
    table, column = label.place
    group = f", {quoted(configuration.split.group)}" if configuration.split.group else ""
    return (
        f"-- Made of label.column: {label.column}\n"
        f"SELECT {key}, CASE WHEN {quoted(column)} IS NULL THEN NULL WHEN {is_positive(label)} THEN 1 ELSE 0 END "
        f"AS {quoted(label.name)}{group}\nFROM {quoted(table)}\n"
    )


def is_positive(label: Label) -> str:
    """SQL that tells whether a value of the label's column is the event."""
    value, positive = f"CAST({quoted(label.place[1])} AS VARCHAR)", label.positive
    if positive is None:
        return f"{value} IN ({', '.join(map(literal, POSITIVE))})"
    if isinstance(positive, bool):
        return f"{value} = {literal(str(positive).lower())}"
    if isinstance(positive, int | float):
        return f"TRY_CAST({value} AS DOUBLE) = {float(positive)!r}"
    return f"{value} = {literal(str(positive))}"


def check_label_column(connection: duckdb.DuckDBPyConnection, configuration: Configuration) -> None:
    """Refuse a label's column that does not tell one event from none, for each entity once.

    Args:
        connection: A session with a view for each table.
        configuration: Its `label` has a column.

    Raises:
        ContractViolation: the column is not there, has gaps, one value, more than two, or none that is the event; or
            the table has several rows of an entity.
    """
    label, key = configuration.label, configuration.entity.key
    table, column = label.place
    columns = [row[0] for row in connection.execute(f"DESCRIBE {quoted(table)}").fetchall()]
    for name, setting in ((column, "label.column"), (configuration.split.group, "split.group")):
        if name and name not in columns:
            raise ContractViolation(f"{setting} names {name}, which {table} does not have; it has {_some(columns)}.")
    twice = connection.execute(
        f"SELECT {quoted(key)}, count(*) AS times FROM {quoted(table)} GROUP BY 1 HAVING times > 1 ORDER BY ALL"
    ).fetchall()
    if twice:
        raise ContractViolation(
            f"{table} has several rows for {len(twice):,} of its entities, such as {twice[0][1]:,} for {key} "
            f"{twice[0][0]}; a label and features from columns take one row for each. Make one row of them with the "
            f"query of source.tables.{table}, or name the column that tells the rows apart as entity.key."
        )
    counts = connection.execute(
        f"SELECT CAST({quoted(column)} AS VARCHAR), count(*), bool_or({is_positive(label)}) FROM {quoted(table)} "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    rows = sum(count for _, count, _ in counts)
    known = [(value, count, event) for value, count, event in counts if value is not None]
    told = _some([f"{value!r} ({count:,})" for value, count, _ in known])
    missing = rows - sum(count for _, count, _ in known)
    if missing:
        raise ContractViolation(
            f"The label {label.column} is missing in {missing:,} of {rows:,} rows. Leave these rows out with the query "
            f'of source.tables.{table} (WHERE "{column}" IS NOT NULL), or mend the source.'
        )
    if len(known) > 2:
        raise ContractViolation(
            f"The label {label.column} has {len(known):,} values: {told}. The model is binary: it tells one event from "
            f"none, and more classes than two are not supported. Make two of them with the query of "
            f"source.tables.{table}, such as: SELECT * REPLACE ({quoted(column)} = {literal(str(known[0][0]))} AS "
            f"{quoted(column)}) FROM source."
        )
    if len(known) < 2:
        raise ContractViolation(
            f"The label {label.column} has one value in all {rows:,} rows: {told}. Nothing can be learned from one "
            "class: look whether rows were left out, or whether it is the right column."
        )
    if not any(event for _, _, event in known):
        asked = "is not set" if label.positive is None else f"is {label.positive!r}"
        raise ContractViolation(
            f"The label {label.column} has the values {told}, and label.positive, the one that means that a "
            f"{configuration.entity.name} {label.title}, {asked}. Name one of them, a text in quotes: "
            f'positive: "{known[-1][0]}".'
        )


def definitions_folder(feature_repo: Path, configuration: Configuration, validated: Path, folder: Path) -> Path:
    """Where the feature definitions are: the project's own, or those made of `features.table`.

    Args:
        feature_repo: The project's.
        configuration: Its `features`, `entity`, `label` and `training.weight`.
        validated: The validated tables.
        folder: A new folder for what is made.

    Raises:
        ContractViolation: a column of the table cannot be a feature.
    """
    if configuration.features.table is None:
        return feature_repo
    columns = Manifest.read(validated).tables[configuration.features.table].columns
    folder.mkdir(parents=True)
    for name, content in flat_definitions(configuration, columns).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def flat_definitions(configuration: Configuration, columns: Mapping[str, str]) -> dict[str, str]:
    """`features.py` and the SQL of the one view that `features.table` stands for, by file name.

    Args:
        configuration: Its `features`, `entity`, `label` and `training.weight`.
        columns: DuckDB types of the table's columns, by name.

    Raises:
        ContractViolation: a column of the table cannot be a feature, or one that is left out is not there.
    """
    features, entity, label = configuration.features, configuration.entity, configuration.label
    table = features.table
    assert table is not None
    unknown = [name for name in features.leave_out if name not in columns]
    if unknown:
        raise ContractViolation(
            f"features.leave_out names {', '.join(unknown)}, which {table} does not have; it has "
            f"{_some(list(columns))}."
        )
    labels = {label.place[1]} if label.place[0] == table else set()
    left_out = {entity.key, *labels, *features.leave_out}
    chosen = {name: kind for name, kind in columns.items() if name not in left_out}
    strange = [f"{name} ({kind})" for name, kind in chosen.items() if _type(kind) is None]
    if strange:
        raise ContractViolation(
            f"{_some(strange)} of {table} can be no feature as it is: a model takes numbers and texts. Name it in "
            f"features.leave_out, or make a number of it with the query of source.tables.{table}, such as "
            "date_diff('day', column, DATE '2026-01-01')."
        )
    beside = {reference.partition(":")[2] for reference in features.sensitive}
    beside |= {(configuration.training.weight or "").partition(":")[2]}
    used = [name for name in chosen if name not in beside]
    if not used:
        raise ContractViolation(
            f"{table} has no column that is left to be a feature: the key, the label, features.leave_out and "
            "features.sensitive take all of them."
        )
    return {
        "features.py": _features_file(configuration, chosen, used, columns[entity.key]),
        f"{table}.sql": _view_sql(table, entity.key, chosen),
    }


def _features_file(configuration: Configuration, chosen: Mapping[str, str], used: Sequence[str], key_type: str) -> str:
    features, entity = configuration.features, configuration.entity
    kind, value_type = ("Int64", "INT64") if key_type in KEYS else ("String", "STRING")
    fields = [f"        Field(name={entity.key!r}, dtype={kind}),"]
    fields += [f"        Field(name={name!r}, dtype={_type(of)})," for name, of in chosen.items()]
    return "\n".join(
        [
            f'"""Made of the columns of the table {features.table} (features.table)."""',
            "",
            "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType",
            "from feast.types import Float64, Int64, String",
            "",
            f"entity = Entity(name={entity.name!r}, join_keys=[{entity.key!r}], value_type=ValueType.{value_type})",
            "view = FeatureView(",
            f"    name={features.table!r},",
            "    entities=[entity],",
            "    schema=[",
            *fields,
            "    ],",
            f'    source=FileSource(path="{features.table}.parquet", timestamp_field="event_timestamp"),',
            ")",
            f"service = FeatureService(name={features.service!r}, features=[view[{list(used)!r}]])",
            "",
        ]
    )


def _view_sql(table: str, key: str, chosen: Mapping[str, str]) -> str:
    values = [quoted(key)]
    for name, kind in chosen.items():
        cast = {"Float64": "DOUBLE", "String": "VARCHAR"}[_type(kind) or ""]
        values.append(quoted(name) if kind == cast else f"CAST({quoted(name)} AS {cast}) AS {quoted(name)}")
    return "SELECT\n    " + ",\n    ".join(values) + f"\nFROM {quoted(table)}\n"


def _type(kind: str) -> str | None:
    """Feast's type of a feature from a column of this DuckDB type; None where it can be none."""
    if kind in NUMBERS or kind.startswith("DECIMAL"):
        return "Float64"
    return "String" if kind == "VARCHAR" or kind.startswith("ENUM") else None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
