"""How many rows a table has and how fresh it is, against the bounds that `pipeline.yaml` sets."""

from __future__ import annotations

from datetime import datetime, timedelta

from kfp_lifecycle.config.validation import Bounds
from kfp_lifecycle.data.checks import Check


def bounds_checks(
    table: str, bounds: Bounds, rows: int, newest: datetime | None, as_of: datetime, now: datetime
) -> list[Check]:
    """Check a table's bounds: one check for each that is set.

    Args:
        table: The table.
        bounds: Its bounds.
        rows: How many rows it has.
        newest: Its newest event that is not in the future; None where it has none.
        as_of: The newest of all tables.
        now: Moment of the check. All times are UTC without a zone.
    """
    counted, age = (
        f"it has {rows:,}",
        "it has no event" if newest is None else f"its newest is of {newest:%Y-%m-%d %H:%M}",
    )
    checks = []

    def check(holds: bool, rule: str, found: str, remedy: str) -> None:
        checks.append(
            Check(
                table=table,
                column=None,
                layer="statistics",
                rule=rule if holds else f"{rule}; {found}",
                severity="critical",
                passed=holds,
                remedy=f"{remedy}, or change validation.bounds.{table}.",
            )
        )

    if bounds.min_rows is not None:
        check(rows >= bounds.min_rows, f"it has at least {bounds.min_rows:,} rows", counted, "Find what was not loaded")
    if bounds.max_rows is not None:
        check(rows <= bounds.max_rows, f"it has at most {bounds.max_rows:,} rows", counted, "Find what came twice")
    for days, since, what in (
        (bounds.max_lag_days, as_of, f"the newest event of all tables ({as_of:%Y-%m-%d %H:%M})"),
        (bounds.max_age_days, now, f"now ({now:%Y-%m-%d %H:%M} UTC)"),
    ):
        if days is not None:
            fresh = newest is not None and since - newest <= timedelta(days=days)
            rule = f"its newest event is at most {days:g} days older than {what}"
            check(fresh, rule, age, "Look whether its last load failed")
    return checks
