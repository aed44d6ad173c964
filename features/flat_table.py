"""Flat tables: a label and features that stand in columns, one row for each entity, as the SQL and the Feast
definitions that a project would otherwise write.

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
    refuse_repeated(connection, table, key)
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


def refuse_repeated(connection: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    """Refuse a table with several rows of an entity.

    Args:
        connection: A session with a view of the table.
        table: Its name.
        key: The entity's key column.

    Raises:
        ContractViolation: there are such rows; the message counts them.
    """
    twice = connection.execute(
        f"SELECT {quoted(key)}, count(*) AS times FROM {quoted(table)} GROUP BY 1 HAVING times > 1 ORDER BY ALL"
    ).fetchall()
    if twice:
        raise ContractViolation(
            f"{table} has several rows for {len(twice):,} of its entities, such as {twice[0][1]:,} for {key} "
            f"{twice[0][0]}; a label and features from columns take one row for each. Make one row of them with the "
            f"query of source.tables.{table}, such as SELECT {quoted(key)}, count(*) AS {table}_rows FROM source GROUP "
            "BY 1, or name the column that tells the rows apart as entity.key."
        )


def definitions_folder(feature_repo: Path, configuration: Configuration, validated: Path, folder: Path) -> Path:
    """Where the feature definitions are: the project's own, or those made of `features.tables`.

    Args:
        feature_repo: The project's.
        configuration: Its `features`, `entity`, `label` and `training.weight`.
        validated: The validated tables.
        folder: A new folder for what is made.

    Raises:
        ContractViolation: as `flat_definitions`.
    """
    if not configuration.features.tables:
        return feature_repo
    summaries = Manifest.read(validated).tables
    columns = {table: summaries[table].columns for table in configuration.features.tables}
    folder.mkdir(parents=True)
    for name, content in flat_definitions(configuration, columns).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def flat_definitions(configuration: Configuration, columns: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """`features.py` and the SQL of the views that `features.tables` stand for, by file name.

    Args:
        configuration: Its `features`, `entity`, `label` and `training.weight`.
        columns: DuckDB types of the columns of each of the tables, by name.

    Raises:
        ContractViolation: a column cannot be a feature, two have one name, one that is left out is not there, or the
            tables cannot be joined since their keys are of different types.
    """
    features, key = configuration.features, configuration.entity.key
    _refuse_unknown(configuration, columns)
    _refuse_unlike_keys(key, columns)
    chosen = {table: _chosen(configuration, table, columns[table]) for table in features.tables}
    _refuse_shared_names(configuration, chosen)
    beside = {*features.sensitive, configuration.training.weight}
    used = {table: [name for name in of_table if f"{table}:{name}" not in beside] for table, of_table in chosen.items()}
    for table, of_table in chosen.items():
        if not of_table or not any(used.values()):
            raise ContractViolation(
                f"{table} has no column that is left to be a feature: the key, the label, features.leave_out and "
                "features.sensitive take all of them."
            )
    key_type = columns[features.tables[0]][key]
    return {
        "features.py": _features_file(configuration, chosen, used, key_type),
        **{f"{table}.sql": _view_sql(table, key, of_table) for table, of_table in chosen.items()},
    }


def _refuse_unknown(configuration: Configuration, columns: Mapping[str, Mapping[str, str]]) -> None:
    known = {name for table, of_table in columns.items() for name in (*of_table, *(f"{table}.{n}" for n in of_table))}
    unknown = [name for name in configuration.features.leave_out if name not in known]
    if unknown:
        has = "; ".join(f"{table} has {_some(list(of_table))}" for table, of_table in columns.items())
        raise ContractViolation(
            f"features.leave_out names {', '.join(unknown)}, which {' and '.join(columns)} does not have; {has}."
        )


def _refuse_unlike_keys(key: str, columns: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse to join numbers with texts: whether 7 is the text 07 or 7, nobody can know."""
    for table, of_table in columns.items():
        if key not in of_table:
            raise ContractViolation(
                f"{table} has no column {key}, the key that features.tables are joined by; it has "
                f"{_some(list(of_table))}. Give it that name with the query of source.tables.{table}."
            )
    first, *others = columns
    for table in others:
        kind, other = columns[first][key], columns[table][key]
        if (kind in KEYS) != (other in KEYS) or (kind not in KEYS and kind != other):
            like = "BIGINT" if kind in KEYS else kind
            raise ContractViolation(
                f"{key} is {kind} in {first} and {other} in {table}, so that no row of one can be told to be of "
                f"the other. Make them alike with the query of source.tables.{table}, such as SELECT * REPLACE "
                f"(CAST({quoted(key)} AS {like}) AS {quoted(key)}) FROM source, where that gives the keys of {first}."
            )


def _chosen(configuration: Configuration, table: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Types of the columns of a table that are in its view."""
    label = configuration.label
    labels = {label.place[1]} if label.place[0] == table else set()
    apart = {configuration.entity.key, *labels, *configuration.features.left_out(table)}
    chosen = {name: kind for name, kind in columns.items() if name not in apart}
    strange = [f"{name} ({kind})" for name, kind in chosen.items() if _type(kind) is None]
    if strange:
        raise ContractViolation(
            f"{_some(strange)} of {table} can be no feature as it is: a model takes numbers and texts. Name it in "
            f"features.leave_out, or make a number of it with the query of source.tables.{table}, such as "
            "date_diff('day', column, DATE '2026-01-01')."
        )
    return chosen


def _refuse_shared_names(configuration: Configuration, chosen: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse two features of one name: a training set has one column of each."""
    taken = {configuration.label.name: "the label"} if len(chosen) > 1 else {}
    for table, of_table in chosen.items():
        for name in of_table:
            if name in taken:
                raise ContractViolation(
                    f"{name} of {table} has the name of {taken[name]}, and each feature needs its own. Leave one out "
                    f"(features.leave_out: [{table}.{name}]), or rename it with the query of source.tables.{table}: "
                    f"SELECT * RENAME ({quoted(name)} AS {quoted(f'{table}_{name}')}) FROM source."
                )
        taken |= dict.fromkeys(of_table, f"a column of {table}")


def _features_file(
    configuration: Configuration,
    chosen: Mapping[str, Mapping[str, str]],
    used: Mapping[str, Sequence[str]],
    key_type: str,
) -> str:
    features, entity = configuration.features, configuration.entity
    kind, value_type = ("Int64", "INT64") if key_type in KEYS else ("String", "STRING")
    views = []
    for number, (table, columns) in enumerate(chosen.items(), start=1):
        fields = [f"        Field(name={entity.key!r}, dtype={kind}),"]
        fields += [f"        Field(name={name!r}, dtype={_type(of)})," for name, of in columns.items()]
        views += [
            f"view_{number} = FeatureView(",
            f"    name={table!r},",
            "    entities=[entity],",
            "    schema=[",
            *fields,
            "    ],",
            f'    source=FileSource(path="{table}.parquet", timestamp_field="event_timestamp"),',
            ")",
        ]
    served = [f"view_{number}[{list(names)!r}]" for number, names in enumerate(used.values(), start=1) if names]
    return "\n".join(
        [
            f'"""Made of the columns of {" and ".join(chosen)} (features.tables)."""',
            "",
            "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType",
            "from feast.types import Float64, Int64, String",
            "",
            f"entity = Entity(name={entity.name!r}, join_keys=[{entity.key!r}], value_type=ValueType.{value_type})",
            *views,
            f"service = FeatureService(name={features.service!r}, features=[{', '.join(served)}])",
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
