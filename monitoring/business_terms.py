"""Terms of business metrics: what an expression may use, its defaults, and what is wrong with one before anything runs.

It needs no DuckDB, which the command line may lack.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import sqlglot
from sqlglot import exp

from kfp_lifecycle.config.business import BusinessMetric
from kfp_lifecycle.config.configuration import Configuration

COLUMNS = (
    "score",
    "decision",
    "outcome",
    "version",
    "entity",
    "time",
    "horizon_end",
    "hold_out",
    "treated",
    "saved",
    "action",
    "success_rate",
)
"""What a row of the outcome table has, for expressions."""
DEFAULTS: dict[str, BusinessMetric] = {
    "acted_upon": BusinessMetric(
        value="coalesce(treated, decision)::INT", unit="share", title="predictions that were acted upon"
    ),
    "events_where_acted": BusinessMetric(
        value="outcome", where="coalesce(treated, decision)", unit="share", title="events among those acted upon"
    ),
    "events_where_not": BusinessMetric(
        value="outcome", where="NOT coalesce(treated, decision)", unit="share", title="events among the others"
    ),
    "value": BusinessMetric(
        value="decision::INT * (outcome * success_rate * saved - action)",
        where="coalesce(hold_out, true)",
        unit="money",
        per=1000,
        title="value of acting by the costs",
    ),
}
"""Rates by decision, and what decisions are worth by `training.costs`: of the hold-out where there is one, since an
action changes the outcome that it is judged by."""
# What gives another value at another time.
CLOCKS = (exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentTime, exp.CurrentDatetime, exp.Rand)
CLOCK_NAMES = {"now", "today", "random", "uuid", "gen_random_uuid", "get_current_timestamp", "setseed"}
# How sqlglot underlines.
ESCAPES = re.compile("\x1b\\[[0-9;]*m")
COLUMN_OF_SCHEMA = re.compile(r'^feature \{\s*name: "([^"]+)"', re.MULTILINE)


def metrics_of(configuration: Configuration) -> dict[str, BusinessMetric]:
    """The defaults and the project's own by name, which replace those of the same name."""
    return DEFAULTS | configuration.monitoring.business


def tables_by_entity(configuration: Configuration) -> list[str]:
    """Tables with one row for each entity, whose columns an expression may name."""
    return [
        name
        for name, table in configuration.source.tables.items()
        if table.key == [configuration.entity.key] and not table.label_only
    ]


def known_columns(expectations: Path) -> dict[str, list[str]]:
    """The columns of each table that has an accepted schema."""
    files = sorted(expectations.glob("*.pbtxt")) if expectations.is_dir() else []
    return {file.stem: COLUMN_OF_SCHEMA.findall(file.read_text("utf-8")) for file in files}


def problems(configuration: Configuration, columns: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """What is wrong with the project's metrics, as far as it can be seen without data.

    Args:
        configuration: Its `monitoring.business`, `source.tables` and `entity`.
        columns: Of tables, as far as they are known.

    Returns:
        The setting, and what is wrong in a sentence.
    """
    return [
        (f"monitoring.business.{name}.{part}", reason)
        for name, metric in configuration.monitoring.business.items()
        for part, text in (("value", metric.value), ("where", metric.where))
        if text is not None
        for reason in _wrong(text, configuration, columns)
    ]


def _wrong(text: str, configuration: Configuration, columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    try:
        [tree] = sqlglot.parse(text, dialect="duckdb")
    except (sqlglot.errors.SqlglotError, ValueError) as error:
        reason = ESCAPES.sub("", str(error)).splitlines()[0]
        yield f"{text!r} is no expression of DuckDB's SQL: {reason}"
        return
    if not isinstance(tree, exp.Condition | exp.Subquery | exp.Unary | exp.Cast):
        yield f"{text!r} is no value of one prediction: write an expression, and a query in parentheses"
        return
    for part in tree.walk():
        if isinstance(part, exp.AggFunc | exp.Window) and part.find_ancestor(exp.Select) is None:
            yield (
                f"{text!r} adds up over rows ({part.sql('duckdb')}): it is asked of one prediction, and the mean is "
                "taken of what it gives"
            )
        elif isinstance(part, CLOCKS) or (isinstance(part, exp.Anonymous) and part.name.lower() in CLOCK_NAMES):
            yield f"{text!r} uses {part.sql('duckdb')}, which is another value at another time: use time or horizon_end"
        elif isinstance(part, exp.Table) and part.name not in configuration.source.tables and not _is_cte(part):
            tables = ", ".join(configuration.source.tables)
            yield f"{text!r} reads the table {part.name}; there are {tables}"
        elif isinstance(part, exp.Column) and not isinstance(part.this, exp.Star):
            yield from _unknown_column(part, text, configuration, columns)


def _is_cte(table: exp.Table) -> bool:
    select = table.find_ancestor(exp.Select)
    while select is not None:
        if table.name in {cte.alias for cte in select.ctes}:
            return True
        select = select.find_ancestor(exp.Select)
    return False


def _unknown_column(
    column: exp.Column, text: str, configuration: Configuration, columns: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    select, name, table = column.find_ancestor(exp.Select), column.name.lower(), column.table
    read = [] if select is None else [found.name for found in select.find_all(exp.Table)]
    if select is not None and (not table or table not in configuration.source.tables):
        # A name of the query's own tables, or of the prediction; what cannot be known is left to the run.
        certain = all(found in columns for found in read) and not table and not select.find(exp.Subquery, exp.CTE)
        named = {found.alias.lower() for found in select.find_all(exp.Alias)}
        known = {*COLUMNS, *(other.lower() for found in read for other in columns.get(found, ()))}
        if certain and name not in known | named:
            yield _no_column(text, name, sorted(known))
        return
    if not table:
        if name not in COLUMNS:
            yield _no_column(text, name, COLUMNS, configuration)
    elif select is None and table not in tables_by_entity(configuration):
        own = ", ".join(tables_by_entity(configuration)) or "none"
        yield (
            f"{text!r} names {table}.{column.name}, and of {table} there is no one row for each "
            f"{configuration.entity.key}: write a query in parentheses. Tables with one row are: {own}"
        )
    elif table in columns and name not in {other.lower() for other in columns[table]}:
        yield _no_column(text, f"{table}.{column.name}", [f"{table}.{other}" for other in columns[table]])


def _no_column(text: str, name: str, known: Sequence[str], configuration: Configuration | None = None) -> str:
    near = difflib.get_close_matches(name, known, 1)
    own = tables_by_entity(configuration) if configuration is not None else []
    others = f", and TABLE.COLUMN of {', '.join(own)}" if own else ""
    hint = f" Is {near[0]} meant?" if near else ""
    return f"{text!r} names {name}, which is no column here; there are {', '.join(known)}{others}.{hint}"
