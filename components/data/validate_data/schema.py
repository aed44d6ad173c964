"""A table against its schema, and against the last snapshot that was accepted: what TFDV finds, in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

import duckdb
import tensorflow_data_validation as tfdv
from google.protobuf.text_format import ParseError
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from components.contract import ContractViolation
from components.data.tables import TableSummary, literal, quoted
from components.data.validate_data.checks import Check, count_where, examples_where, percent
from components.data.validate_data.table_statistics import Statistics

TYPE_WORDS = {schema_pb2.INT: "whole numbers", schema_pb2.FLOAT: "numbers", schema_pb2.BYTES: "text"}
NEW_COLUMN = "SCHEMA_NEW_COLUMN"
MISSING_COLUMN = "SCHEMA_MISSING_COLUMN"
DRIFT = ("COMPARATOR_L_INFTY_HIGH", "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH")


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
                f"{expectations.name}/ has no schema for the table {table}. Make one from a good batch with "
                f"`python -m components.data.validate_data.infer_schema TABLES {expectations.name}`, and review it."
            )
        try:
            schemas[table] = tfdv.load_schema_text(str(file))
        except (ParseError, UnicodeDecodeError) as error:
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
) -> list[Check]:
    """Compare a table's statistics with its schema: one check for each column, or for each thing wrong with it.

    Rows are counted, and examples taken, over the whole table, also where the statistics are of a sample.
    """
    anomalies = _by_column(tfdv.validate_statistics(statistics, schema))
    new = [column for column, reasons in anomalies.items() if NEW_COLUMN in _types(reasons)]
    features = {feature.name: feature for feature in schema.feature}
    checks = []
    for column in dict.fromkeys([*features, *anomalies]):
        reasons = anomalies.get(column, [])
        if not reasons:
            checks.append(Check(table, column, "schema", "it is as the schema says", "critical", passed=True))
        elif column in new:
            checks.append(
                Check(table, column, "schema", "the schema knows every column", "warning", passed=False,
                      remedy=f"If it is meant to be there, describe it in {table}.pbtxt.")
            )  # fmt: skip
        elif MISSING_COLUMN in _types(reasons):
            checks.append(_missing_column(table, column, summary, new))
        else:
            checks += [
                _anomaly(connection, table, summary, schema, features[column], reason, examples) for reason in reasons
            ]
    return checks


def drift_checks(
    table: str,
    schema: schema_pb2.Schema,
    statistics: Statistics,
    accepted: Statistics,
    threshold: float,
    identifiers: Collection[str],
) -> list[Check]:
    """Compare each column's distribution with the last accepted snapshot's. Drift is a warning: a business may change.

    Args:
        table: The table.
        schema: Its schema.
        statistics: Of this snapshot.
        accepted: Of the last snapshot that passed.
        threshold: Largest allowed distance, 0 to 1: Jensen-Shannon divergence of numbers, L-infinity of categories.
        identifiers: Columns that name things; they, and times, differ each time by nature.
    """
    compared = schema_pb2.Schema()
    compared.CopyFrom(schema)
    for feature in compared.feature:
        if feature.name in identifiers or feature.HasField("time_domain"):
            continue
        if feature.type == schema_pb2.BYTES:
            feature.drift_comparator.infinity_norm.threshold = threshold
        else:
            feature.drift_comparator.jensen_shannon_divergence.threshold = threshold
    anomalies = tfdv.validate_statistics(statistics, compared, previous_statistics=accepted)
    return [
        Check(
            table=table,
            column=".".join(measured.path.step),
            layer="statistics",
            rule=f"it is distributed as in the last accepted snapshot (distance {measurement.value:.3f}, "
            f"at most {threshold:g})",
            severity="warning",
            passed=measurement.value <= threshold,
            remedy="See in the report how it changed; a model trained on it will have changed too.",
        )
        for measured in anomalies.drift_skew_info
        for measurement in measured.drift_measurements
    ]


def _by_column(anomalies: anomalies_pb2.Anomalies) -> dict[str, list[anomalies_pb2.AnomalyInfo.Reason]]:
    return {".".join(info.path.step) or name: list(info.reason) for name, info in anomalies.anomaly_info.items()}


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


def _anomaly(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    summary: TableSummary,
    schema: schema_pb2.Schema,
    feature: schema_pb2.Feature,
    reason: anomalies_pb2.AnomalyInfo.Reason,
    examples: int,
) -> Check:
    rule, broken, remedy = _in_words(anomalies_pb2.AnomalyInfo.Type.Name(reason.type), feature, schema)
    rows = count_where(connection, table, [broken])[0] if broken else summary.rows
    found = examples_where(connection, table, [feature.name], broken or "true", examples)
    return Check(
        table=table,
        column=feature.name,
        layer="schema",
        rule=rule or f"{reason.short_description}: {reason.description}",
        severity="critical",
        passed=False,
        rows=rows,
        share=rows / summary.rows,
        examples=found,
        remedy=f"{remedy or 'Mend the source'}, or change {table}.pbtxt if this is how it is now.",
    )


def _in_words(kind: str, feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> tuple[str, str | None, str]:
    """Rule, SQL condition of the rows that break it, and remedy, of a type of anomaly; empty for rare ones."""
    column = quoted(feature.name)
    if kind == "ENUM_TYPE_UNEXPECTED_STRING_VALUES":
        values = _domain(feature, schema)
        return (
            f"it is one of {', '.join(values)}",
            f"{column} NOT IN ({', '.join(map(literal, values))})",
            "Look for a swapped column or a changed code in the source",
        )
    if kind in ("INT_TYPE_SMALL_INT", "INT_TYPE_BIG_INT", "FLOAT_TYPE_SMALL_FLOAT", "FLOAT_TYPE_BIG_FLOAT"):
        domain = feature.int_domain if feature.HasField("int_domain") else feature.float_domain
        if "SMALL" in kind:
            return f"it is at least {domain.min:g}", f"{column} < {domain.min!r}", "Mend the source"
        return f"it is at most {domain.max:g}", f"{column} > {domain.max!r}", "Mend the source"
    if kind in ("FEATURE_TYPE_LOW_FRACTION_PRESENT", "FEATURE_TYPE_LOW_NUMBER_PRESENT", "FEATURE_TYPE_NOT_PRESENT"):
        least = feature.presence.min_fraction
        filled = f"it is filled in {'all' if least == 1 else f'at least {percent(least)} of'} rows"
        return filled, f"{column} IS NULL", "Find out why the source lost it"
    if kind == "UNEXPECTED_DATA_TYPE":
        return f"it holds {TYPE_WORDS[feature.type]}", None, "Look for a changed type or a swapped column in the source"
    return "", None, ""


def _domain(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> list[str]:
    if feature.HasField("string_domain"):
        return list(feature.string_domain.value)
    return [value for domain in schema.string_domain if domain.name == feature.domain for value in domain.value]
