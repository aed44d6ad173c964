"""Configuration of validation: when a batch is bad, and what becomes of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from kfp_lifecycle.config.beam import Beam
from kfp_lifecycle.config.section import Name, Probability, RelativePath, Section


class OnBadRows(StrEnum):
    """What becomes of rows that break a critical check."""

    stop = "stop"
    quarantine = "quarantine"


class Bounds(Section):
    """How many rows a table must have, and how fresh its newest must be."""

    min_rows: int | None = Field(default=None, gt=0)
    """Fewest rows; none by default."""
    max_rows: int | None = Field(default=None, gt=0)
    """Most rows; none by default."""
    max_lag_days: float | None = Field(default=None, ge=0)
    """Most days from the table's newest event to the newest event of all tables: a table that lags was not loaded."""
    max_age_days: float | None = Field(default=None, ge=0)
    """Most days from the table's newest event to the moment of the check. Not for historical data."""

    @model_validator(mode="after")
    def _some_number_of_rows_is_allowed(self) -> Bounds:
        if self.min_rows and self.max_rows and self.min_rows > self.max_rows:
            raise ValueError(f"min_rows is {self.min_rows}, more than max_rows, {self.max_rows}: no table can be right")
        return self


class Validation(Section):
    """When a batch is bad, and what becomes of it."""

    expectations: RelativePath = "expectations"
    """Folder with a TFDV schema for each table (`<table>.pbtxt`) and the business rules (`rules.yaml`)."""
    examples: int = Field(default=3, ge=0, le=20)
    """How many offending values a message shows."""
    on_bad_rows: OnBadRows = OnBadRows.stop
    """`stop`: one row that breaks a critical check stops the run. `quarantine`: such rows are put aside with their
    reasons (`quarantine/<table>.parquet` beside the validated tables) and the rest goes on. What no row alone is to
    blame for, such as a missing column, stops the run in either case."""
    max_bad_share: Probability = 0.01
    """With `quarantine`: largest share of a table's rows that may be put aside; beyond it the run stops."""
    bounds: dict[Name, Bounds] = Field(default={})
    """Rows and freshness by table; a table that is not named here is not bounded."""
    recent_days: int = Field(default=28, gt=0)
    """The newest days, of which rows, missing values and distributions are compared with the newest days of the last
    accepted dataset. Whole weeks, so that each weekday counts alike."""
    drift_threshold: Probability = 0.2
    """Largest allowed distance (Jensen-Shannon for numbers, L-infinity for categories, 0 to 1) of a column from the
    last accepted dataset, and of a feature from what production is asked with, beyond what chance explains; more is a
    warning, since a business may change."""
    max_null_increase: Probability = 0.1
    """How much larger the share of missing values in the newest days may be than in those of the last accepted
    dataset, beyond what chance explains; more stops the run."""
    max_row_change: float = Field(default=2.0, gt=1)
    """The newest days may have this many times the rows, or this fraction of them, that those of the last accepted
    dataset had, beyond what chance explains; more or less is a warning."""
    outlier_distance: float = Field(default=3.0, gt=1)
    """A number is an outlier when it is this many times as far from the last accepted dataset's median as anything in
    that was, on the same side; outliers are a warning."""
    max_rows: int | None = Field(default=None, gt=0)
    """Refuse a table with more rows than this; none by default."""
    sample_rows: int = Field(default=500_000, ge=1000)
    """Of a larger table, the statistics of values are those of a sample of about this many rows, and the report says
    so. Everything that a single row can break is looked for in every row."""
    beam: Beam | None = None
    """Have TFDV's statistics computed by Apache Beam: for tables beyond one machine, on Dataflow or Flink. Then they
    are of all rows, whatever `sample_rows` says. By default the step computes them itself, on all its cores, which is
    quicker for all that fits there."""
    expectation_rows: int = Field(default=10_000_000, ge=1000)
    """Great Expectations holds the columns it judges in memory; of a table with more rows it sees a sample of about
    this many, and the report says so. With `quarantine` it sees every row."""
