"""Configuration of business metrics: what predictions were worth, as expressions over what became of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kfp_lifecycle.config.section import Section, text

Expression = Annotated[str, text(r"(?s)^[^\0;]*\S[^\0;]*$", "an expression is one value in DuckDB's SQL, without ;")]


class BusinessMetric(Section):
    """A mean over predictions: of an expression of DuckDB's SQL, asked of each prediction and what became of it."""

    value: Expression
    """What one prediction counts, such as `outcome * saved` or `decision::INT`; a prediction for which it is null does
    not count. It may use `score`, `decision`, `outcome` (the label, null until its horizon has passed), `version`,
    `entity`, `time`, `horizon_end`, `hold_out` and `treated` (acted upon: null where there is no hold-out to compare
    with); `saved`, `action` and `success_rate` of `training.costs`; `TABLE.COLUMN` of a table with one row for each
    entity; and queries in parentheses over the project's tables."""
    where: Expression | None = None
    """Which predictions, a condition of the same kind; all without it."""
    title: str = ""
    """In words, for pages; its name without."""
    unit: Literal["money", "share", "number"] = "number"
    """How it is written: `money` in the currency of `training.costs`, `share` in percent."""
    per: int = Field(default=1, gt=0)
    """Predictions that it is told for, such as 1000."""
