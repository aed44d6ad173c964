"""SQL transpilation: a view in the dialect of a warehouse gives the same values there, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from kfp_lifecycle.config.data import Table
from kfp_lifecycle.runtime.contract import ContractViolation

# Of what DuckDB understands, the part that means the same in BigQuery, Snowflake and Spark, or is made to (`_adapted`).
# A list of what differs would never be complete; a part that is missing here is refused, and another can be written.
STRUCTURE = (
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order, exp.Ordered, exp.Limit,
    exp.With, exp.CTE, exp.Subquery, exp.Union, exp.Except, exp.Intersect, exp.Exists, exp.Distinct, exp.Filter,
    exp.Table, exp.TableAlias, exp.Column, exp.Identifier, exp.Star, exp.Alias, exp.Paren, exp.Placeholder, exp.Var,
    exp.Literal, exp.Boolean, exp.Null, exp.Interval, exp.DataType, exp.DataTypeParam,
)  # fmt: skip
OPERATORS = (
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.In, exp.Between, exp.Is, exp.Like, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.DPipe,
)  # fmt: skip
FUNCTIONS = (
    exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.ArgMax, exp.ArgMin, exp.LogicalAnd, exp.LogicalOr,
    exp.Stddev, exp.StddevSamp, exp.Variance, exp.Window, exp.WindowSpec, exp.RowNumber, exp.Rank, exp.DenseRank,
    exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Cast, exp.Abs,
    exp.Floor, exp.Ceil, exp.Round, exp.Ln, exp.Exp, exp.Sqrt, exp.Lower, exp.Upper, exp.Length, exp.Concat, exp.Year,
    exp.Month, exp.Day, exp.Extract, exp.TimestampTrunc, exp.DateTrunc, exp.DateDiff,
)  # fmt: skip
UNDERSTOOD = frozenset((*STRUCTURE, *OPERATORS, *FUNCTIONS))
# A week begins on Sunday in one place and on Monday in another, and so its days are numbered.
PARTS_OF_TIME = {"YEAR", "QUARTER", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"}
PARTS_TO_EXTRACT = PARTS_OF_TIME - {"SECOND"}
SEMI_JOINS = ("SEMI", "ANTI")


@dataclass(frozen=True)
class Difference:
    """What one kind of expression may not be, since it is not alike everywhere."""

    kind: type[exp.Expr]
    found: Callable[[Any], bool]
    remedy: str


DIFFERENCES = (
    Difference(
        exp.Tuple, lambda _: True, "order by one expression; where it takes several, number the rows by row_number()"
    ),
    Difference(
        exp.Expr,
        lambda node: type(node) not in UNDERSTOOD,
        "write it with what SQL has in common (features/offline/transpilation.py lists it)",
    ),
    Difference(
        exp.Join,
        lambda join: join.method or join.side == "FULL",
        "join by ON or USING: INNER, LEFT, RIGHT, CROSS, SEMI or ANTI",
    ),
    Difference(exp.With, lambda with_: with_.recursive, "write it without recursion"),
    Difference(exp.Distinct, lambda distinct: distinct.args.get("on"), "keep the first of the rows by row_number()"),
    Difference(exp.DateDiff, lambda span: span.text("unit").upper() != "DAY", "count whole days: date_diff('day', …)"),
    Difference(
        exp.Extract,
        lambda extract: extract.name.upper() not in PARTS_TO_EXTRACT,
        f"take one of {', '.join(sorted(PARTS_TO_EXTRACT))}",
    ),
    Difference(
        exp.TimestampTrunc,
        lambda truncated: truncated.text("unit").upper() not in PARTS_OF_TIME,
        f"truncate to one of {', '.join(sorted(PARTS_OF_TIME))}",
    ),
    Difference(
        exp.DateTrunc,
        lambda truncated: truncated.text("unit").upper() not in PARTS_OF_TIME,
        f"truncate to one of {', '.join(sorted(PARTS_OF_TIME))}",
    ),
    Difference(exp.Like, lambda like: "\\" in like.sql(), "write the pattern without a backslash"),
    Difference(
        exp.Interval,
        lambda interval: not isinstance(interval.this, exp.Literal),
        "write the number of an interval as it is: INTERVAL 30 DAY",
    ),
    Difference(exp.ArgMax, lambda extreme: extreme.args.get("count"), "ask for one value"),
    Difference(exp.ArgMin, lambda extreme: extreme.args.get("count"), "ask for one value"),
)
# Those that the types of columns tell.
DIFFERENCES_OF_TYPES = (
    Difference(
        exp.Cast,
        lambda cast: (
            cast.to.is_type(*exp.DataType.INTEGER_TYPES)
            and cast.this.unnest().is_type(*exp.DataType.REAL_TYPES)
            and not isinstance(cast.this.unnest(), exp.Floor | exp.Ceil | exp.Round)
        ),
        "what lies between is rounded in one place and cut off in another; write round() or floor() around it",
    ),
    Difference(
        exp.Sub,
        lambda span: all(side.is_type(*exp.DataType.TEMPORAL_TYPES) for side in (span.left, span.right)),
        "count the days between them: date_diff('day', …)",
    ),
)


@dataclass(frozen=True)
class Shown:
    """A validated table as a warehouse has it."""

    place: str
    """Its name there, as that dialect's SQL writes it."""
    columns: Mapping[str, str]
    """DuckDB type by name."""


def refuse_untranspilable(file: Path, query: str, dialect: str, tables: Mapping[str, Table]) -> None:
    """Refuse a view's SQL that a warehouse would not understand as DuckDB does.

    What depends on the types of columns, which no project states, is found by `transpile` in the run.

    Args:
        file: Where the query is from.
        query: One SELECT of DuckDB.
        dialect: `bigquery`, `snowflake` or `spark`.
        tables: The tables of the configuration.

    Raises:
        ContractViolation: it names the file, the expression and what to write in its place.
    """
    tree = _parsed(file, query, dialect, tables)
    _generated(file, _adapted(tree, dialect), dialect)


def transpile(
    file: Path, query: str, dialect: str, tables: Mapping[str, Table], shown: Mapping[str, Shown], as_of: datetime
) -> str:
    """A view's SQL in the dialect of a warehouse, over tables that are cut at a moment.

    Args:
        file: Where the query is from.
        query: One SELECT of DuckDB.
        dialect: `bigquery`, `snowflake` or `spark`.
        tables: The tables of the configuration.
        shown: The tables as the warehouse has them, times as UTC without a zone.
        as_of: Nothing later than this is seen; `$as_of` in the query.

    Raises:
        ContractViolation: as `refuse_untranspilable`, or a column is not there.
    """
    moment = _moment(as_of)
    # In its place before columns are resolved: a parameter has no type.
    tree = _parsed(file, query, dialect, tables).transform(
        lambda node: moment.copy() if isinstance(node, exp.Placeholder) else node
    )
    schema: dict[str, object] = {name: dict(table.columns) for name, table in shown.items()}
    try:
        tree = annotate_types(qualify(tree, dialect="duckdb", schema=schema), schema=schema, dialect="duckdb")
    except OptimizeError as error:
        raise ContractViolation(
            f"{file}: {error}. A warehouse is shown columns of numbers, texts, booleans, dates and times only: "
            + "; ".join(f"{name} has {', '.join(table.columns)}" for name, table in shown.items())
            + "."
        ) from error
    _refuse(file, tree, dialect, DIFFERENCES_OF_TYPES)
    for scope in traverse_scope(tree):
        for alias, source in list(scope.sources.items()):
            if isinstance(source, exp.Table):
                source.replace(_cut(source.name, tables[source.name], shown[source.name], dialect, moment, alias))
    tree = _adapted(cast(exp.Query, tree), dialect)
    if dialect == "snowflake":
        # Names that were not quoted are in capitals there: so are the tables' columns.
        for name in tree.find_all(exp.Identifier):
            name.set("this", name.this.upper())
    return _generated(file, tree, dialect)


def _parsed(file: Path, query: str, dialect: str, tables: Mapping[str, Table]) -> exp.Query:
    try:
        tree = sqlglot.parse_one(query.strip().rstrip(";"), dialect="duckdb")
    except SqlglotError as error:
        raise ContractViolation(
            f"{file} cannot be read for {dialect}: {str(error).splitlines()[0]} Write it in plainer SQL."
        ) from error
    _refuse(file, tree, dialect, DIFFERENCES)
    assert isinstance(tree, exp.Query)
    for table in _base_tables(tree):
        if table.db or table.name not in tables or tables[table.name].label_only:
            features = ", ".join(name for name, described in tables.items() if not described.label_only)
            raise _refused(file, table, dialect, f"a feature is computed from {features} alone")
    return tree


def _refuse(file: Path, tree: exp.Expr, dialect: str, differences: Iterable[Difference]) -> None:
    for node in tree.walk():
        for difference in differences:
            if isinstance(node, difference.kind) and difference.found(node):
                raise _refused(file, node, dialect, difference.remedy)


def _adapted(tree: exp.Query, dialect: str) -> exp.Query:
    """The query with the parts rewritten that read alike and mean something else."""
    # What is inside first: a part that was rewritten is taken whole into the part around it.
    for node in reversed(list(tree.walk(bfs=True))):
        rewrite = REWRITES.get(type(node))
        rewritten = rewrite(node, dialect) if rewrite else node
        if rewritten is not node:
            node.replace(rewritten)
    return tree


def _quotient(node: Any, dialect: str) -> exp.Expr:
    # Snowflake keeps few digits of a quotient of whole numbers. A division by zero is an error in all three, as
    # DuckDB's infinity is for us.
    return exp.Div(this=_cast(node.left, "DOUBLE"), expression=node.right.copy(), typed=False, safe=False)


def _average(node: Any, dialect: str) -> exp.Expr:
    return node if isinstance(node.this, exp.Distinct) else exp.Avg(this=_cast(node.this, "DOUBLE"))


def _days(node: Any, dialect: str) -> exp.Expr:
    # Spark counts spans of 24 hours between times, and midnights between dates.
    first, second = _cast(node.expression, "DATE"), _cast(node.this, "DATE")
    return exp.DateDiff(this=second, expression=first, unit=exp.var("DAY"))


def _interval(node: Any, dialect: str) -> exp.Expr:
    if dialect != "bigquery":
        return cast(exp.Expr, node)
    return exp.Interval(this=exp.Literal.number(node.this.name), unit=node.args["unit"].copy())


def _type(node: Any, dialect: str) -> exp.Expr:
    # All times are UTC without a zone by then.
    times = (exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPTZ)
    return exp.DataType.build("TIMESTAMPNTZ") if node.is_type(*times) else node


def _filter(node: Any, dialect: str) -> exp.Expr:
    """An aggregate of some rows, without FILTER, which only Spark has."""
    aggregate, condition = node.this, node.expression.this
    if isinstance(aggregate, exp.ArgMax | exp.ArgMin):
        return _ordered_by(aggregate, condition)
    distinct = isinstance(aggregate.this, exp.Distinct)
    values = aggregate.this.expressions if distinct else [aggregate.this]
    values = [exp.Literal.number(1) if isinstance(value, exp.Star) else value for value in values]
    chosen = [exp.case().when(condition.copy(), value.copy()) for value in values]
    whole: exp.Expr = type(aggregate)(this=exp.Distinct(expressions=chosen) if distinct else chosen[0])
    return whole


def _count_if(node: Any, dialect: str) -> exp.Expr:
    return exp.Count(this=exp.case().when(node.this.copy(), "1"))


def _extreme(node: Any, dialect: str) -> exp.Expr:
    return cast(exp.Expr, node) if isinstance(node.parent, exp.Filter) else _ordered_by(node, None)


def _order(node: Any, dialect: str) -> exp.Expr:
    """Where BigQuery has nulls first, as it may not be told otherwise in every window, the nulls are told apart."""
    if dialect != "bigquery":
        return cast(exp.Expr, node)
    keys = []
    for key in node.expressions:
        descending, nulls_first = bool(key.args.get("desc")), bool(key.args.get("nulls_first"))
        if descending == nulls_first:
            unknown = exp.case().when(exp.Is(this=key.this.copy(), expression=exp.null()), "1").else_("0")
            keys.append(exp.Ordered(this=unknown, desc=descending, nulls_first=not descending))
        keys.append(exp.Ordered(this=key.this.copy(), desc=descending, nulls_first=not descending))
    return exp.Order(expressions=keys)


def _select(node: Any, dialect: str) -> exp.Expr:
    """Without the joins that only Spark has."""
    for join in list(node.args.get("joins") or []) if dialect != "spark" else []:
        on = join.args.get("on")
        if join.kind in SEMI_JOINS and on is not None:
            exists: exp.Expr = exp.Exists(this=exp.select("1").from_(join.this.copy()).where(on.copy()))
            join.pop()
            node.where(exists if join.kind == "SEMI" else exp.Not(this=exists), copy=False)
    return cast(exp.Expr, node)


REWRITES: Mapping[type[exp.Expr], Callable[[Any, str], exp.Expr]] = {
    exp.Div: _quotient,
    exp.Avg: _average,
    exp.DateDiff: _days,
    exp.Interval: _interval,
    exp.DataType: _type,
    exp.Filter: _filter,
    exp.CountIf: _count_if,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.Order: _order,
    exp.Select: _select,
}


def _ordered_by(extreme: exp.ArgMax | exp.ArgMin, condition: exp.Expr | None) -> exp.Expr:
    """An `arg_max` that passes over rows without a value, as DuckDB does, and those that do not meet the condition."""
    known = exp.Not(this=exp.Is(this=exp.paren(extreme.this.copy()), expression=exp.null()))
    chosen = exp.and_(condition.copy(), known) if condition is not None else known
    ordering = exp.case().when(chosen, extreme.expression.copy())
    return type(extreme)(this=extreme.this.copy(), expression=ordering)


def _cut(name: str, table: Table, shown: Shown, dialect: str, moment: exp.Expr, alias: str) -> exp.Subquery:
    """A table as it was known at a moment, in the place of its name."""

    def column(of: str) -> exp.Column:
        return exp.column(exp.to_identifier(of.lower(), quoted=True))

    rows = exp.select(*(column(of) for of in shown.columns)).from_(exp.to_table(shown.place, dialect=dialect))
    for time in table.times:
        rows = rows.where(exp.LTE(this=column(time), expression=moment.copy()))
    return rows.subquery(exp.to_identifier(alias, quoted=True))


def _base_tables(tree: exp.Query) -> Iterator[exp.Table]:
    for scope in traverse_scope(tree):
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                yield source


def _generated(file: Path, tree: exp.Query, dialect: str) -> str:
    try:
        return tree.sql(dialect=dialect, comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except SqlglotError as error:
        reason = str(error).splitlines()[0]
        raise ContractViolation(
            f"{file} cannot be written for {dialect}: {reason}. Write it in plainer SQL."
        ) from error


def _moment(moment: datetime) -> exp.Cast:
    return _cast(exp.Literal.string(f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"), "TIMESTAMP")


def _cast(node: exp.Expr, to: str) -> exp.Cast:
    return exp.Cast(this=node.copy(), to=exp.DataType.build(to))


def _refused(file: Path, node: exp.Expr, dialect: str, remedy: str) -> ContractViolation:
    written = node.sql(dialect="duckdb", comments=False)
    return ContractViolation(
        f"{file}: {written:.80} might mean something else in {dialect}, which is to compute this view "
        f"(offline_store): {remedy}. With offline_store: duckdb all of DuckDB's SQL can be used."
    )
