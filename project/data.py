"""Configuration of the data: where it comes from, and when a batch is bad."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from project.section import Name, Probability, RelativePath, Section


class Entity(Section):
    """What a prediction is about."""

    name: Name
    """The entity's name, as the Feast definitions call it."""
    key: Name
    """Column that identifies one entity in every table, feature view and request."""


class Table(Section):
    """One source table. The query may reshape it; all later steps see the result."""

    key: list[Name] = Field(min_length=1)
    """Columns that together identify a row: no two rows may share them."""
    event_time: Name
    """When the thing happened. A feature as of a date sees no row that happened after it."""
    arrival_time: Name | None = None
    """When the row became known, if later. A feature as of a date sees no row that arrived after it."""
    label_only: bool = False
    """Only the label's query sees this table: no feature can be computed from it."""
    query: str | None = None
    """SQL (DuckDB) that produces the table from the source; by default the source's table of the same name, whole.
    A file source is visible to it as `source`."""


class SourceFormat(StrEnum):
    """How a file source is to be read."""

    duckdb = "duckdb"
    parquet = "parquet"
    csv = "csv"
    jsonl = "jsonl"
    text = "text"


class Source(Section):
    """Where the data comes from."""

    url: str = Field(min_length=1)
    """`duckdb:///FILE`, `file:///FILE_OR_FOLDER` (a path without a leading slash is relative to the working folder), or
    `package://PACKAGE/FILE` for a file inside an installed Python package."""
    format: SourceFormat = SourceFormat.duckdb
    """How to read it. `text` gives one column, `line`, for the table's query to take apart."""
    tables: dict[Name, Table] = Field(min_length=1)
    """The tables to ingest, by name."""


class Validation(Section):
    """When a batch is bad."""

    expectations: RelativePath = "expectations"
    """Folder with a TFDV schema for each table (`<table>.pbtxt`) and the business rules (`rules.yaml`)."""
    examples: int = Field(default=3, ge=0, le=20)
    """How many offending values a message shows."""
    drift_threshold: Probability = 0.2
    """Largest allowed distance (Jensen-Shannon for numbers, L-infinity for categories, 0 to 1) of a column from the
    last accepted snapshot; it is a warning, since a business may change."""
    max_rows: int | None = Field(default=None, gt=0)
    """Refuse a table with more rows than this; none by default."""
    sample_rows: int = Field(default=2_000_000, ge=1000)
    """Of a larger table, statistics and expectations look at a sample of about this many rows, and the report says so.
    Keys, times and SQL rules always see every row."""
