"""Tables between the data steps: a Parquet file for each, beside a manifest of what they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.runtime.contract import ContractViolation

# The moment of tables without times, in place of the newest event: the same data give the same bytes.
TIMELESS = datetime(1970, 1, 1, tzinfo=UTC)


class Load(Part):
    """One reading of a table that is read incrementally."""

    at: datetime
    """When it was read, UTC."""
    since: datetime | None
    """The smallest watermark that was asked for; None where everything was."""
    added: int
    """Rows with a new key."""
    changed: int
    """Rows with a known key and other values."""
    removed: int
    """Rows that were gone from the span that was asked for."""


class TableSummary(Part):
    """What a manifest says of one table."""

    rows: int
    """How many it has."""
    columns: dict[str, str]
    """DuckDB type by name, in the table's order."""
    loads: list[Load] = Field(default=[])
    """Which readings it came from, of a table that is read incrementally."""


class Manifest(Document):
    """The list of what is in a folder of tables. It holds nothing of the run, so the same data gives the same bytes.

    It is written last of all: a folder without one is unfinished, and no step reads it.
    """

    FILE = "manifest.json"
    WRITER = "ingest_data"

    as_of: datetime
    """Newest event time over all tables, UTC; 1970-01-01 where no table has times."""
    tables: dict[str, TableSummary]
    """By name, in the configuration's order."""

    @property
    def as_of_text(self) -> str:
        """`as_of`, ISO 8601; empty where no table has times."""
        return "" if self.as_of == TIMELESS else self.as_of.isoformat()

    def metadata(self) -> dict[str, Any]:
        """What a person or the next step would ask first."""
        rows = {name: table.rows for name, table in self.tables.items()}
        return {
            "rows": rows,
            "as_of": self.as_of_text,
            "loads": {name: len(table.loads) for name, table in self.tables.items() if table.loads},
            "summary": f"{sum(rows.values()):,} rows in {len(rows)} tables",
        }

    @classmethod
    def read(cls, place: Path) -> Self:
        """Read the manifest of a folder of tables.

        Raises:
            ContractViolation: there is none, it cannot be read, or a table that it lists is missing.
        """
        folder = place.parent if place.is_file() else place
        if not (folder / cls.FILE).is_file():
            raise ContractViolation(
                f"{folder.name} is no finished folder of tables: its {cls.FILE} is missing. "
                "Hand in the output of a step that succeeded."
            )
        manifest = super().read(place)
        missing = [name for name in manifest.tables if not parquet_file(folder, name).is_file()]
        if missing:
            raise ContractViolation(
                f"{folder.name} lacks {', '.join(f'{name}.parquet' for name in missing)}, which its {cls.FILE} lists. "
                "Run the step that wrote it again."
            )
        return manifest


def parquet_file(folder: Path, table: str) -> Path:
    """Where a table stands in a folder of tables."""
    return folder / f"{table}.parquet"
