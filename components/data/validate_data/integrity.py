"""What must hold in any table, whatever it is about: keys identify rows, times are possible, numbers are numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from kfp_lifecycle.artifacts.tables import TableSummary
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.data.checks import NUMBERED, ROW, Check, count_where, examples_where, shown
from kfp_lifecycle.data.sql import literal, quoted

FRACTIONS = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Condition:
    """Something that no row may be."""

    columns: tuple[str, ...]
    rule: str
    broken: str
    """SQL that is true for a row that breaks the rule."""
    remedy: str


def integrity_checks(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: Table,
    summary: TableSummary,
    now: datetime,
    examples: int,
) -> list[Check]:
    """Check a table's keys, times and numbers over all its rows.

    Args:
        connection: A session with a view for each table.
        name: The table.
        table: Its key and times.
        summary: Its rows and column types.
        now: Moment of the check, UTC without a zone: nothing can have happened later.
        examples: How many offending values to show.
    """
    conditions = [*_key_conditions(table), *_time_conditions(table, now), *_number_conditions(summary)]
    counts = count_where(connection, name, [condition.broken for condition in conditions])
    checks = [_uniqueness(connection, name, table, summary, examples)]
    for condition, rows in zip(conditions, counts, strict=True):
        found = examples_where(connection, name, condition.columns, condition.broken, examples) if rows else ()
        checks.append(
            Check(
                table=name,
                column=condition.columns[0],
                layer="statistics",
                rule=condition.rule,
                severity="critical",
                passed=not rows,
                rows=rows,
                share=rows / summary.rows,
                examples=found,
                remedy=condition.remedy,
                blamed=condition.broken,
            )
        )
    return checks


def _key_conditions(table: Table) -> list[Condition]:
    return [
        Condition((key,), "a key is never empty", f"{quoted(key)} IS NULL", "Find out why the source lost it.")
        for key in table.key
    ]


def _time_conditions(table: Table, now: datetime) -> list[Condition]:
    conditions = []
    for column in table.times:
        time = quoted(column)
        conditions += [
            Condition(
                (column,),
                "every row has a time",
                f"{time} IS NULL OR NOT isfinite({time})",
                "Without it nobody knows which row a feature may see; mend the source.",
            ),
            Condition(
                (column,),
                f"no time is in the future ({now:%Y-%m-%d %H:%M} UTC)",
                f"isfinite({time}) AND {time} > TIMESTAMP {literal(now.isoformat(sep=' '))}",
                "Look for a wrong time zone, unit or clock in the source.",
            ),
        ]
    if table.arrival_time and table.event_time:
        arrival, event = quoted(table.arrival_time), quoted(table.event_time)
        conditions.append(
            Condition(
                (table.arrival_time, table.event_time),
                f"no row arrives before it happens ({table.event_time})",
                f"{arrival} < {event}",
                "One of the two times is wrong; look for a time zone or swapped columns.",
            )
        )
    return conditions


def _number_conditions(summary: TableSummary) -> list[Condition]:
    return [
        Condition(
            (column,),
            "a number is finite",
            f"NOT isfinite({quoted(column)})",
            "Look for a division by zero or an overflow in the source.",
        )
        for column, kind in summary.columns.items()
        if kind in FRACTIONS
    ]


def _uniqueness(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, summary: TableSummary, examples: int
) -> Check:
    keys = ", ".join(map(quoted, table.key))
    repeated = f"SELECT {keys}, count(*) - 1 AS surplus FROM {quoted(name)} GROUP BY {keys} HAVING count(*) > 1"
    rows = int(connection.execute(f"SELECT coalesce(sum(surplus), 0) FROM ({repeated})").fetchall()[0][0])
    found: tuple[str, ...] = ()
    if rows:
        values = connection.execute(f"SELECT {keys} FROM ({repeated}) ORDER BY ALL LIMIT {examples}").fetchall()
        found = tuple(shown(dict(zip(table.key, row, strict=True))) for row in values)
    return Check(
        table=name,
        column=table.key[0] if len(table.key) == 1 else None,
        layer="statistics",
        rule=f"{' and '.join(table.key)} identifies a row: no two rows share it",
        severity="critical",
        passed=not rows,
        rows=rows,
        share=rows / summary.rows,
        examples=found,
        remedy="A load ran twice, or the key in pipeline.yaml is not the whole key.",
        blamed=_repeated(name, table, summary),
    )


def _repeated(name: str, table: Table, summary: TableSummary) -> str:
    """Condition for rows that share a key: of equal ones all but the first, of others all, since none is known right.

    It is on the table with numbered rows.
    """
    keys, cells = (", ".join(map(quoted, columns)) for columns in (table.key, summary.columns))
    return (
        f"{ROW} IN (SELECT unnest(CASE WHEN count(DISTINCT hash({cells})) = 1 THEN list({ROW} ORDER BY {ROW})[2:] "
        f"ELSE list({ROW}) END) FROM {NUMBERED}.{quoted(name)} GROUP BY {keys} HAVING count(*) > 1)"
    )
