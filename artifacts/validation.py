"""Validation results: every check of a dataset, and how many rows were put in quarantine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part

Layer = Literal["schema", "statistics", "rules"]
Severity = Literal["critical", "warning"]


class CheckResult(Part):
    """One condition on one table, and whether the data meet it."""

    table: str
    """The table."""
    column: str | None
    """None where the condition is on the table, or on several columns."""
    layer: Layer
    """Which layer of validation asked it."""
    rule: str
    """What has to hold, in words."""
    severity: Severity
    """`critical` stops the run."""
    passed: bool
    """Whether it holds."""
    rows: int = 0
    """How many rows, or results of a rule's query, break it."""
    share: float | None = None
    """The rows as a share of the table, 0 to 1; None where what is counted are not its rows."""
    examples: tuple[str, ...] = ()
    """Some of the offending values."""
    remedy: str = ""
    """What to do about it."""
    recent: bool = False
    """Whether it is about the newest days alone."""
    quarantined: bool = False
    """Whether the rows that break it were put aside, so that it did not stop the run."""


class ValidationResults(Document):
    """What `validate_data` found in a dataset that it hands on."""

    FILE = "validation.json"
    WRITER = "validate_data"

    checks: list[CheckResult]
    """Every check, those that passed among them."""
    quarantined: dict[str, int] = Field(default={})
    """Rows put aside, by table that lost some."""
