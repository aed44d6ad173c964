"""The business rules that are expectations of Great Expectations, which is imported with this module."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from kfp_lifecycle.artifacts.tables import TableSummary, parquet_file
from kfp_lifecycle.components.data.validate_data.rules import RULES_FILE, ExpectationOutcome, Rule, unknown
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.data.checks import ROW, Check, shown_value
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of, tables_database
from kfp_lifecycle.runtime.contract import ContractViolation

# Read at import: nothing about a run is reported to anyone.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.datasource.fluent import PandasDatasource
from great_expectations.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import list_registered_expectation_implementations
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

# It tells of each folder that it makes.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

# Great Expectations' pages are made to be read online; without these they are as readable, and ask no one for anything.
FROM_ELSEWHERE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<a\b[^>]*href=.https?:[^>]*>.*?</a>", re.DOTALL
)


def expectation_outcomes(
    folder: Path,
    rules: Sequence[Rule],
    tables: Mapping[str, TableSummary],
    samples: Mapping[str, str | None],
    examples: int,
    blame: bool,
) -> list[ExpectationOutcome]:
    """Check every rule that is an expectation, the rules of a table together.

    Args:
        folder: The folder of tables.
        rules: The rules; queries among them are passed over.
        tables: Rows and column types by table.
        samples: SQL condition for the rows that are looked at, by table; None for all.
        examples: How many offending values to show.
        blame: Whether to tell which rows break a rule; then no sample is taken.

    Raises:
        ContractViolation: a rule names an unknown expectation, or one that does not take its arguments.
    """
    known = list_registered_expectation_implementations()
    asked = sorted((rule for rule in rules if rule.expectation), key=lambda rule: rule.table)
    for rule in asked:
        if rule.expectation not in known:
            raise unknown(rule, "expectation", str(rule.expectation), known)
    context = gx.get_context(mode="ephemeral")
    # A log is no place for progress bars.
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("tables")
    with tables_database(folder, tables) as connection:
        return [
            _outcome(
                source,
                connection,
                folder,
                list(group),
                tables[table],
                None if blame else samples[table],
                examples,
                blame,
            )
            for table, group in groupby(asked, key=lambda rule: rule.table)
        ]


def _outcome(
    source: PandasDatasource,
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    rules: list[Rule],
    summary: TableSummary,
    sample: str | None,
    examples: int,
    blame: bool,
) -> ExpectationOutcome:
    """The outcome of one table, which is read once, with no more columns than its expectations need."""
    table = rules[0].table
    file = literal(str(parquet_file(folder.resolve(), table)))
    rows_of_table = f"FROM read_parquet({file}, file_row_number = {blame}) AS {quoted(table)}"
    checks, expectations = [], []
    columns: dict[str, str] = {}
    for number, rule in enumerate(rules):
        known = {**{name: quoted(name) for name in summary.columns}, **rule.derived}
        problem = _reason_not_to_judge(connection, rule, summary, rows_of_table, columns)
        if problem:
            checks.append(_not_judged(rule, summary, problem))
        else:
            expectations.append(_expectation(rule, number))
            columns |= {column: known[column] for column in rule.columns}
    columns = columns or {name: quoted(name) for name in summary.columns}
    selected = ", ".join(f"{value} AS {quoted(name)}" for name, value in columns.items()) + (
        f", {ROW}" if blame else ""
    )
    where = f" WHERE {sample}" if sample else ""
    rows = connection.sql(f"SELECT {selected} {rows_of_table}{where}").df()
    batch = (
        source.add_dataframe_asset(table)
        .add_batch_definition_whole_dataframe("all rows")
        .get_batch({"dataframe": rows})
    )
    detail: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": 20}
    if blame:
        detail |= {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]}
        detail |= {"return_unexpected_index_query": False}
    outcome = batch.validate(gx.ExpectationSuite(name=table, expectations=expectations), result_format=detail)
    for result in sorted(outcome.results, key=_number):
        checks.append(_check(rules[_number(result)], result, len(rows), summary, examples))
    return ExpectationOutcome(table, checks, *_documents(outcome))


def _reason_not_to_judge(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    summary: TableSummary,
    rows_of_table: str,
    columns: Mapping[str, str],
) -> str:
    """Why the columns of a rule cannot be had; empty where they can."""
    missing = sorted(set(rule.columns) - set(summary.columns) - set(rule.derived))
    if missing:
        return f"the table has no column {', '.join(missing)}"
    for name, expression in rule.derived.items():
        if name in summary.columns or columns.get(name, expression) != expression:
            return f"there is another column {name}; give the derived one a name of its own"
        try:
            columns_of(connection, f"SELECT {expression} {rows_of_table}")
        except duckdb.Error as error:
            return f"{name} cannot be derived: {first_line(error)}"
    return ""


def _number(result: ExpectationValidationResult) -> int:
    """Which rule a result is of."""
    configuration = result.expectation_config
    assert configuration is not None
    assert configuration.meta is not None
    return int(configuration.meta["number"])


def _check(
    rule: Rule, result: ExpectationValidationResult, looked_at: int, summary: TableSummary, examples: int
) -> Check:
    problems = _exceptions(result.exception_info or {})
    if problems:
        return _not_judged(rule, summary, problems)
    share = (result.result.get("unexpected_count") or 0) / looked_at
    values = dict.fromkeys(shown_value(value) for value in result.result.get("partial_unexpected_list") or ())
    if not values and "observed_value" in result.result:
        values = {f"observed {shown_value(result.result['observed_value'])}": None}
    blamed = result.result.get("unexpected_index_list")
    return Check(
        table=rule.table,
        column=rule.columns[0] if rule.columns else None,
        layer="rules",
        rule=rule.rule,
        severity=rule.severity,
        passed=bool(result.success),
        rows=round(share * summary.rows),
        share=share,
        examples=() if result.success else tuple(values)[:examples],
        remedy=rule.remedy,
        blamed=tuple(int(row[ROW]) for row in blamed) if blamed and not result.success else None,
    )


def _expectation(rule: Rule, number: int) -> Expectation:
    try:
        return ExpectationConfiguration(
            type=str(rule.expectation), kwargs=rule.kwargs, meta={"number": number}, description=rule.rule
        ).to_domain_obj()
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


def _documents(outcome: ExpectationSuiteValidationResult) -> tuple[str, str]:
    """Great Expectations' own results as JSON, and its page about them as HTML."""
    for result in outcome.results:
        # Thousands of values are no document; a few are, and the quarantine has every row.
        for key in ("unexpected_list", "unexpected_index_list"):
            result.result.pop(key, None)
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
    return json.dumps(outcome.to_json_dict(), indent=1), FROM_ELSEWHERE.sub("", page)
