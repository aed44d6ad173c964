"""The project's business rules: expectations on one table, SQL over several."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from kfp_lifecycle.artifacts.validation import Severity
from kfp_lifecycle.config.strict_yaml import load_yaml
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.data.checks import Check, shown
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.runtime.contract import ContractViolation

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
    derived: dict[str, str] = {}
    """With `expectation`: columns that it finds beside the table's own, a SQL expression by name. It may ask other
    tables, in parentheses: `(SELECT min(opened) FROM accounts a WHERE a.number = bills.account)`."""
    sql: str | None = None
    """DuckDB query over the tables that gives what breaks the rule, one row for each. Where the key of the rule's table
    is among its columns, those rows of the table are to blame, and can be put in quarantine."""
    column: str | None = None
    """With `sql`: the column that the rule is about, which the report then draws."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Rule:
        if (self.expectation is None) == (self.sql is None):
            raise ValueError(f"the rule {self.rule!r} needs either an expectation or sql")
        if self.expectation and self.column:
            raise ValueError(f"the rule {self.rule!r} names its column in kwargs")
        if self.sql and self.derived:
            raise ValueError(f"the rule {self.rule!r} derives columns for an expectation, and has none")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that the expectation is about."""
        named = [self.kwargs[argument] for argument in COLUMN_ARGUMENTS if argument in self.kwargs]
        return [column for one in named for column in (one if isinstance(one, list) else [one])]


@dataclass(frozen=True)
class ExpectationOutcome:
    """What Great Expectations found in one table."""

    table: str
    checks: list[Check]
    results: str
    """Its validation results, JSON."""
    data_docs: str
    """Its page about them, HTML that asks for nothing else."""


def load_rules(expectations: Path, tables: Collection[str]) -> list[Rule]:
    """Read `rules.yaml`, a list that may be empty.

    Raises:
        ContractViolation: it is missing or no list of rules, or a rule names an unknown table.
    """
    file = expectations / RULES_FILE
    where = f"{expectations.name}/{RULES_FILE}"
    if not file.is_file():
        raise ContractViolation(f"{where} is missing. Write the business rules there; `[]` if there are none.")
    try:
        rules = TypeAdapter(list[Rule]).validate_python(load_yaml(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractViolation(f"{where} is not YAML: {error}. Correct it there.") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ContractViolation(f"{where} is no list of rules: {problems}. Correct it there.") from error
    for rule in rules:
        if rule.table not in tables:
            raise unknown(rule, "table", rule.table, tables)
    return rules


def unknown(rule: Rule, kind: str, name: str, known: Collection[str]) -> ContractViolation:
    """The error of a rule that names something that does not exist."""
    close = difflib.get_close_matches(name, known, n=1) or sorted(known)[:5]
    return ContractViolation(
        f"{RULES_FILE}: the rule {rule.rule!r} names the {kind} {name}, which is unknown. "
        f"Did you mean {' or '.join(close)}?"
    )


def query_checks(
    connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], keys: Mapping[str, Sequence[str]], examples: int
) -> list[Check]:
    """Check every rule that is a query.

    Args:
        connection: A session with a view for each table.
        rules: The rules; expectations among them are passed over.
        keys: The columns that identify a row, by table.
        examples: How many offending rows to show.

    Raises:
        ContractViolation: a query cannot be run.
    """
    return [_query_check(connection, rule, keys[rule.table], examples) for rule in rules if rule.sql]


def _query_check(connection: duckdb.DuckDBPyConnection, rule: Rule, key: Sequence[str], examples: int) -> Check:
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
    keys = ", ".join(map(quoted, key))
    return Check(
        table=rule.table,
        column=rule.column,
        layer="rules",
        rule=rule.rule,
        severity=rule.severity,
        passed=not rows,
        rows=rows,
        examples=tuple(shown(dict(zip(names, row, strict=True))) for row in found),
        remedy=rule.remedy,
        blamed=f"({keys}) IN (SELECT ({keys}) {query})" if set(key) <= set(names) else None,
    )
