"""What a check of the data found, in the words that reports and messages use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import duckdb
from pydantic import Field

from kfp_lifecycle.artifacts.validation import CheckResult, Severity
from kfp_lifecycle.data.sql import quoted

T = TypeVar("T")

# A message is read in a terminal and in a pod's status; the report has the rest.
LINES_IN_A_MESSAGE = 10
WIDEST_EXAMPLE = 60
# A table of ten thousand columns has more conditions than one query should hold.
CONDITIONS_IN_A_QUERY = 500

# Where SQL finds each table with the number of each row in its file, for conditions that need to tell rows apart.
NUMBERED = "numbered"
ROW = "file_row_number"


class Check(CheckResult):
    """A check result, and which rows are to blame for it."""

    blamed: str | tuple[int, ...] | None = Field(default=None, exclude=True, repr=False)
    """The rows that break it: an SQL condition on the table, or their numbers in the file. None where no row alone is
    to blame."""

    @property
    def subject(self) -> str:
        """What the check is about: `table.column`, or the table."""
        return f"{self.table}.{self.column}" if self.column else self.table

    @property
    def condition(self) -> str:
        """What was asked: layer, subject and rule."""
        return f"{self.layer}: {self.subject}: {self.rule}"

    @property
    def sentence(self) -> str:
        """The failure in one line: subject, rule, how many, examples, remedy."""
        found = f"{self.rows:,} found" if self.share is None else f"{self.rows:,} rows ({percent(self.share)})"
        examples = f", such as {'; '.join(self.examples)}" if self.examples else ""
        counted = f" {found}{examples}." if self.rows else ""
        return f"{self.subject}: {self.rule}.{counted} {self.remedy}".rstrip()


def failures(checks: Sequence[Check], severity: Severity) -> list[Check]:
    """The failed checks of a severity whose rows were not put aside, those of most rows first."""
    failed = [check for check in checks if not check.passed and check.severity == severity and not check.quarantined]
    return sorted(failed, key=lambda check: -check.rows)


def failure_message(checks: Sequence[Check]) -> str:
    """What stops the run: one line for each failed critical check."""
    failed = failures(checks, "critical")
    lines = [f"  - {check.sentence}" for check in failed[:LINES_IN_A_MESSAGE]]
    if len(failed) > LINES_IN_A_MESSAGE:
        lines.append(f"  - and {len(failed) - LINES_IN_A_MESSAGE} more, which the validation report shows.")
    return f"The data cannot be trusted; {len(failed)} of {len(checks)} checks failed:\n" + "\n".join(lines)


def examples_where(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], condition: str, count: int
) -> tuple[str, ...]:
    """Values of the columns in the first rows that meet an SQL condition, each once."""
    selected = ", ".join(map(quoted, columns))
    rows = connection.execute(
        f"SELECT DISTINCT {selected} FROM {quoted(table)} WHERE {condition} ORDER BY ALL LIMIT {count}"
    ).fetchall()
    return tuple(shown(dict(zip(columns, row, strict=True))) for row in rows)


def count_where(connection: duckdb.DuckDBPyConnection, table: str, conditions: Sequence[str]) -> list[int]:
    """How many rows meet each SQL condition, found in one pass over the table, or a few where conditions are many."""
    found: list[int] = []
    for part in batched(conditions, CONDITIONS_IN_A_QUERY):
        counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in part)
        found += connection.execute(f"SELECT {counts} FROM {quoted(table)}").fetchall()[0]
    return found


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in groups of at most `size`, in order."""
    return (items[start : start + size] for start in range(0, len(items), size))


def shown(values: dict[str, Any]) -> str:
    """An example: the value alone, or each with its name where there are several."""
    texts = {name: shown_value(value) for name, value in values.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def shown_value(value: Any) -> str:
    """A value on one short line."""
    text = "empty" if value is None else repr(value) if isinstance(value, str) else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= WIDEST_EXAMPLE else text[: WIDEST_EXAMPLE - 1] + "…"


def percent(share: float) -> str:
    """A share as people read it: 4.1%, and never 0% of something that is there."""
    return "less than 0.1%" if 0 < share < 0.001 else f"{share:.1%}"
