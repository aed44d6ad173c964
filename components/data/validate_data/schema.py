"""A table against its schema: what TFDV finds, in plain words, with the rows that are to blame."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from kfp_lifecycle.artifacts.tables import TableSummary
from kfp_lifecycle.data.checks import Check, count_where, examples_where, percent
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.table_statistics import Statistics
from kfp_lifecycle.data.tfdv import validate_statistics
from kfp_lifecycle.runtime.contract import ContractViolation

TYPE_WORDS = {schema_pb2.INT: "whole numbers", schema_pb2.FLOAT: "numbers", schema_pb2.BYTES: "text"}
NEW_COLUMN = "SCHEMA_NEW_COLUMN"
MISSING_COLUMN = "SCHEMA_MISSING_COLUMN"
NO_SHAPE = "INVALID_FEATURE_SHAPE"
UNKNOWN_VALUE = "ENUM_TYPE_UNEXPECTED_STRING_VALUES"
OUT_OF_RANGE = ("INT_TYPE_SMALL_INT", "INT_TYPE_BIG_INT", "FLOAT_TYPE_SMALL_FLOAT", "FLOAT_TYPE_BIG_FLOAT")
TOO_FEW = ("FEATURE_TYPE_LOW_FRACTION_PRESENT", "FEATURE_TYPE_LOW_NUMBER_PRESENT", "FEATURE_TYPE_NOT_PRESENT")


def load_schemas(expectations: Path, tables: Collection[str]) -> dict[str, schema_pb2.Schema]:
    """Read the schema of each table.

    Raises:
        ContractViolation: a table has none, or it is not a TFDV schema in text form.
    """
    schemas = {}
    for table in tables:
        file = expectations / f"{table}.pbtxt"
        if not file.is_file():
            raise ContractViolation(
                f"{expectations.name}/ has no schema for the table {table}. Propose one from good data with "
                f"`lifecycle schema infer {table}`, and review it."
            )
        try:
            schemas[table] = text_format.Parse(file.read_text(encoding="utf-8"), schema_pb2.Schema())
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise ContractViolation(
                f"{expectations.name}/{file.name} is not a TFDV schema in text form: {error}. Correct it there."
            ) from error
    return schemas


def schema_checks(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    summary: TableSummary,
    schema: schema_pb2.Schema,
    statistics: Statistics,
    examples: int,
    sampled: bool,
) -> list[Check]:
    """Compare a table's statistics with its schema: one check for each column, or for each thing wrong with it.

    Args:
        connection: A session with a view for each table.
        table: The table.
        summary: Its rows and column types.
        schema: Its schema.
        statistics: Of all rows, or of a sample. Rows are counted, and examples taken, over all in either case.
        examples: How many offending values to show.
        sampled: Whether the statistics are of a sample: then each row's values are looked at as well.
    """
    anomalies = _by_column(validate_statistics(statistics, schema))
    unseen = _unseen(connection, table, schema, summary, anomalies) if sampled else {}
    new = [column for column, reasons in anomalies.items() if NEW_COLUMN in _types(reasons)]
    features = {feature.name: feature for feature in schema.feature}
    checks = []
    for column in dict.fromkeys([*features, *anomalies]):
        reasons = anomalies.get(column, [])
        if column in unseen:
            checks += [_broken(connection, table, summary, column, violation, examples) for violation in unseen[column]]
        elif not reasons:
            checks.append(
                Check(
                    table=table,
                    column=column,
                    layer="schema",
                    rule="it is as the schema says",
                    severity="critical",
                    passed=True,
                )
            )
        elif column in new:
            checks.append(
                Check(
                    table=table,
                    column=column,
                    layer="schema",
                    rule="the schema knows every column",
                    severity="warning",
                    passed=False,
                    remedy=f"If it is meant to be there, describe it in {table}.pbtxt.")
            )  # fmt: skip
        elif MISSING_COLUMN in _types(reasons):
            checks.append(_missing_column(table, column, summary, new))
        else:
            checks += [
                _anomaly(connection, table, summary, schema, features[column], reason, examples) for reason in reasons
            ]
    return checks


def _by_column(anomalies: anomalies_pb2.Anomalies) -> dict[str, list[anomalies_pb2.AnomalyInfo.Reason]]:
    return {".".join(info.path.step) or name: _telling(info.reason) for name, info in anomalies.anomaly_info.items()}


def _telling(reasons: Iterable[anomalies_pb2.AnomalyInfo.Reason]) -> list[anomalies_pb2.AnomalyInfo.Reason]:
    """Without the one that a missing value brings with it: that a column with gaps has no shape."""
    told = [reason for reason in reasons if anomalies_pb2.AnomalyInfo.Type.Name(reason.type) != NO_SHAPE]
    return told or list(reasons)


def _types(reasons: list[anomalies_pb2.AnomalyInfo.Reason]) -> set[str]:
    return {anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in reasons}


def _missing_column(table: str, column: str, summary: TableSummary, new: list[str]) -> Check:
    close = difflib.get_close_matches(column, new, n=1, cutoff=0.5) or new
    renamed = f"Did a migration rename it? New in the table: {', '.join(close)}. " if new else ""
    return Check(
        table=table,
        column=column,
        layer="schema",
        rule="the column exists",
        severity="critical",
        passed=False,
        rows=summary.rows,
        share=1.0,
        remedy=f"{renamed}Restore it in the source, or map it in source.tables.{table}.query.",
    )


@dataclass(frozen=True)
class Violation:
    """What is wrong with a column, in words."""

    rule: str
    remedy: str
    rows: str | None = None
    """SQL condition of the rows that show it; None where all do."""
    to_blame: bool = True
    """Whether those rows alone are wrong, so that the table is right without them."""


def _anomaly(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    summary: TableSummary,
    schema: schema_pb2.Schema,
    feature: schema_pb2.Feature,
    reason: anomalies_pb2.AnomalyInfo.Reason,
    examples: int,
) -> Check:
    violation = _in_words(anomalies_pb2.AnomalyInfo.Type.Name(reason.type), feature, schema)
    if violation is None:
        violation = Violation(f"{reason.short_description}: {reason.description}", "Mend the source")
    return _broken(connection, table, summary, feature.name, violation, examples)


def _broken(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    summary: TableSummary,
    column: str,
    violation: Violation,
    examples: int,
) -> Check:
    rows = count_where(connection, table, [violation.rows])[0] if violation.rows else summary.rows
    return Check(
        table=table,
        column=column,
        layer="schema",
        rule=violation.rule,
        severity="critical",
        passed=False,
        rows=rows,
        share=rows / summary.rows,
        examples=examples_where(connection, table, [column], violation.rows or "true", examples),
        remedy=f"{violation.remedy}, or change {table}.pbtxt if this is how it is now.",
        blamed=violation.rows if violation.to_blame else None,
    )


def _unseen(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    schema: schema_pb2.Schema,
    summary: TableSummary,
    anomalies: dict[str, list[anomalies_pb2.AnomalyInfo.Reason]],
) -> dict[str, list[Violation]]:
    """What a sample did not show: by column, the rules that some row of the whole table breaks."""
    possible = [
        (feature.name, violation)
        for feature in schema.feature
        if feature.name in summary.columns and feature.name not in anomalies
        for violation in _row_rules(feature, schema)
    ]
    counts = count_where(connection, table, [str(violation.rows) for _, violation in possible])
    found: dict[str, list[Violation]] = {}
    for (column, violation), rows in zip(possible, counts, strict=True):
        if rows:
            found.setdefault(column, []).append(violation)
    return found


def _row_rules(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> Iterator[Violation]:
    """The rules of a column that each row keeps or breaks by itself."""
    kinds = []
    if allowed_values(feature, schema):
        kinds.append(UNKNOWN_VALUE)
    for name, small, big in (("int_domain", *OUT_OF_RANGE[:2]), ("float_domain", *OUT_OF_RANGE[2:])):
        if feature.HasField(name):
            domain = getattr(feature, name)
            kinds += [kind for kind, bound in ((small, "min"), (big, "max")) if domain.HasField(bound)]
    if feature.presence.min_fraction == 1:
        kinds.append(TOO_FEW[0])
    for kind in kinds:
        violation = _in_words(kind, feature, schema)
        if violation and violation.rows and violation.to_blame:
            yield violation


def _in_words(kind: str, feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> Violation | None:
    """A type of anomaly in words; None for the rare ones, which TFDV describes itself."""
    column = quoted(feature.name)
    if kind == UNKNOWN_VALUE:
        values = allowed_values(feature, schema)
        return Violation(
            f"it is one of {', '.join(values)}",
            "Look for a swapped column or a changed code in the source",
            f"{column} NOT IN ({', '.join(map(literal, values))})",
        )
    if kind in OUT_OF_RANGE:
        domain = feature.int_domain if feature.HasField("int_domain") else feature.float_domain
        if "SMALL" in kind:
            return Violation(f"it is at least {domain.min:g}", "Mend the source", f"{column} < {domain.min!r}")
        return Violation(f"it is at most {domain.max:g}", "Mend the source", f"{column} > {domain.max!r}")
    if kind in TOO_FEW:
        least = feature.presence.min_fraction
        filled = f"it is filled in {'all' if least == 1 else f'at least {percent(least)} of'} rows"
        # Where some may be missing, no single missing one is wrong.
        return Violation(filled, "Find out why the source lost it", f"{column} IS NULL", to_blame=least == 1)
    if kind == "UNEXPECTED_DATA_TYPE":
        words = TYPE_WORDS[feature.type]
        return Violation(f"it holds {words}", "Look for a changed type or a swapped column in the source")
    return None


def allowed_values(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> list[str]:
    """The texts that a column may hold; none where the schema lists none."""
    if feature.HasField("string_domain"):
        return list(feature.string_domain.value)
    return [value for domain in schema.string_domain if domain.name == feature.domain for value in domain.value]
