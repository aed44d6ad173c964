"""Configuration of the data: where it comes from, and when a batch is bad."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from project.section import Name, Section


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
