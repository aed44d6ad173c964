"""The project's business rules: Great Expectations for one table, SQL for several."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from components.contract import ContractViolation
from components.data.tables import TableSummary, columns_of, first_line, quoted
from components.data.validate_data.checks import Check, Severity, shown, shown_value

# Read at import: nothing about a run is reported to anyone.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import list_registered_expectation_implementations

RULES_FILE = "rules.yaml"
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")


class Rule(BaseModel):
    """One entry of `rules.yaml`: an expectation on a table, or a query whose every row is a violation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    rule: str
    """What has to hold, in words: "an amount is above 0"."""
    remedy: str
    """What to do when it does not."""
    severity: Severity = "critical"
    expectation: str | None = None
    """A Great Expectations name, such as `expect_column_values_to_be_between`."""
    kwargs: dict[str, Any] = {}
    """The expectation's arguments, as Great Expectations names them."""
    sql: str | None = None
    """DuckDB query over the tables that gives what breaks the rule, one row for each."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Rule:
        if (self.expectation is None) == (self.sql is None):
            raise ValueError(f"the rule {self.rule!r} needs either an expectation or sql")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that the expectation is about."""
        named = [self.kwargs[argument] for argument in COLUMN_ARGUMENTS if argument in self.kwargs]
        return [column for one in named for column in (one if isinstance(one, list) else [one])]


def load_rules(expectations: Path, tables: Collection[str]) -> list[Rule]:
    """Read `rules.yaml`, a list that may be empty.

    Raises:
        ContractViolation: it is missing or no list of rules, or a rule names an unknown table or expectation.
    """
    file = expectations / RULES_FILE
    where = f"{expectations.name}/{RULES_FILE}"
    if not file.is_file():
        raise ContractViolation(f"{where} is missing. Write the business rules there; `[]` if there are none.")
    try:
        rules = TypeAdapter(list[Rule]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractViolation(f"{where} is not YAML: {error}. Correct it there.") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ContractViolation(f"{where} is no list of rules: {problems}. Correct it there.") from error
    known = list_registered_expectation_implementations()
    for rule in rules:
        for kind, name, names in (("table", rule.table, tables), ("expectation", rule.expectation, known)):
            if name is not None and name not in names:
                close = difflib.get_close_matches(name, names, n=1) or sorted(names)[:5]
                raise ContractViolation(
                    f"{where}: the rule {rule.rule!r} names the {kind} {name}, which is unknown. "
                    f"Did you mean {' or '.join(close)}?"
                )
    return rules


def rule_checks(
    connection: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    tables: Mapping[str, TableSummary],
    samples: Mapping[str, str | None],
    examples: int,
) -> list[Check]:
    """Check every rule.

    Args:
        connection: A session with a view for each table.
        rules: The rules.
        tables: Rows and column types by table.
        samples: SQL condition for the rows that expectations look at, by table; None for all.
        examples: How many offending values to show.

    Raises:
        ContractViolation: an expectation does not take its arguments, or a query cannot be run.
    """
    by_table = sorted((rule for rule in rules if rule.expectation), key=lambda rule: rule.table)
    checks = [
        check
        for table, group in groupby(by_table, key=lambda rule: rule.table)
        for check in _expectation_checks(connection, list(group), tables[table], samples[table], examples)
    ]
    queries = [_query_check(connection, rule, examples) for rule in rules if rule.sql]
    return checks + queries


def _expectation_checks(
    connection: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    summary: TableSummary,
    sample: str | None,
    examples: int,
) -> list[Check]:
    """The checks of one table, which is read once, with no more columns than its expectations need."""
    table = rules[0].table
    columns = dict.fromkeys(column for rule in rules for column in rule.columns if column in summary.columns)
    selected = ", ".join(map(quoted, columns or summary.columns))
    where = f" WHERE {sample}" if sample else ""
    rows = connection.sql(f"SELECT {selected} FROM {quoted(table)}{where}").df()
    context = gx.get_context(mode="ephemeral")
    # A log is no place for progress bars.
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("tables")
        .add_dataframe_asset(table)
        .add_batch_definition_whole_dataframe("all rows")
        .get_batch({"dataframe": rows})
    )
    checks = []
    for rule in rules:
        missing = sorted(set(rule.columns) - set(summary.columns))
        if missing:
            checks.append(_not_judged(rule, summary, f"the table has no column {', '.join(missing)}"))
            continue
        outcome = batch.validate(
            _expectation(rule), result_format={"result_format": "SUMMARY", "partial_unexpected_count": 20}
        )
        problems = _exceptions(outcome.exception_info)
        if problems:
            checks.append(_not_judged(rule, summary, problems))
            continue
        share = (outcome.result.get("unexpected_count") or 0) / len(rows)
        values = dict.fromkeys(shown_value(value) for value in outcome.result.get("partial_unexpected_list") or ())
        if not values and "observed_value" in outcome.result:
            values = {f"observed {shown_value(outcome.result['observed_value'])}": None}
        checks.append(
            Check(
                table=table,
                column=rule.columns[0] if rule.columns else None,
                layer="rules",
                rule=rule.rule,
                severity=rule.severity,
                passed=bool(outcome.success),
                rows=round(share * summary.rows),
                share=share,
                examples=() if outcome.success else tuple(values)[:examples],
                remedy=rule.remedy,
            )
        )
    return checks


def _expectation(rule: Rule) -> Expectation:
    try:
        return ExpectationConfiguration(type=str(rule.expectation), kwargs=rule.kwargs).to_domain_obj()
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise ContractViolation(
            f"{RULES_FILE}: the rule {rule.rule!r} gives {rule.expectation} arguments that it does not take: {error}. "
            "Correct its kwargs."
        ) from error


def _exceptions(information: Mapping[str, Any]) -> str:
    """What went wrong while an expectation was computed; empty where nothing did."""
    one = information.get("exception_message")
    found = [one] if one else [each["exception_message"] for each in information.values() if isinstance(each, dict)]
    return "; ".join(dict.fromkeys(str(message).splitlines()[0] for message in found if message))


def _not_judged(rule: Rule, summary: TableSummary, reason: str) -> Check:
    return Check(
        table=rule.table,
        column=rule.columns[0] if rule.columns else None,
        layer="rules",
        rule=f"{rule.rule} (it cannot be judged: {reason})",
        severity=rule.severity,
        passed=False,
        rows=summary.rows,
        share=1.0,
        remedy=f"Mend the table, or correct {RULES_FILE}.",
    )


def _query_check(connection: duckdb.DuckDBPyConnection, rule: Rule, examples: int) -> Check:
    query = f"FROM (\n{str(rule.sql).strip().rstrip(';')}\n)"
    try:
        names = list(columns_of(connection, query))
        rows = connection.execute(f"SELECT count(*) {query}").fetchall()[0][0]
        found = connection.execute(f"{query} LIMIT {examples}").fetchall() if rows else []
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException):
            raise
        raise ContractViolation(
            f"{RULES_FILE}: the query of the rule {rule.rule!r} cannot be run: {first_line(error)}. Correct its sql, "
            "or restore what it reads."
        ) from error
    return Check(
        table=rule.table,
        column=None,
        layer="rules",
        rule=rule.rule,
        severity=rule.severity,
        passed=not rows,
        rows=rows,
        examples=tuple(shown(dict(zip(names, row, strict=True))) for row in found),
        remedy=rule.remedy,
    )
