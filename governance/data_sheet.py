"""Data sheet of a version of the data (Gebru et al. 2021, "Datasheets for datasets")."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from kfp_lifecycle.artifacts.model_card import CardSection
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.artifacts.titles import Titles, title_and_name
from kfp_lifecycle.artifacts.validation import ValidationResults
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

DATES = ("DATE", "TIMESTAMP")


def data_sheet(
    version: str,
    dataset: Path,
    validated: Path | None,
    origin: Mapping[str, str],
    runs: Sequence[str],
    titles: Titles,
) -> list[CardSection]:
    """The sheet of a version whose tables are here.

    Args:
        version: Its name.
        dataset: The tables.
        validated: What validation made of them; None where it stopped the run, or is gone.
        origin: Where it comes from and is kept, in words.
        runs: The runs that worked on it, the newest first.
        titles: What people call columns whose name is another one.

    Raises:
        ContractViolation: the tables cannot be read.
    """
    manifest = Manifest.read(dataset)
    tables = [_table(name, summary, dataset / f"{name}.parquet", titles) for name, summary in manifest.tables.items()]
    rows = sum(summary.rows for summary in manifest.tables.values())
    overview = CardSection(
        heading="Version",
        sentences=[
            f"`{version}`: {rows:,} rows in {len(tables)} tables"
            + (f", up to {manifest.as_of_text}." if manifest.as_of_text else ", without times."),
            "The version is the digest of the tables' content: the same name is the same data, byte by byte.",
        ],
        table=[
            ["what", "which"],
            *([name, value] for name, value in origin.items() if value),
            ["runs", ", ".join(runs)],
        ],
    )
    return [overview, *tables, *_held(validated, titles)]


def _table(name: str, summary: TableSummary, file: Path, titles: Titles) -> CardSection:
    """Rows, columns, what is missing, and the dates."""
    import duckdb

    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            asked = []
            for column, kind in summary.columns.items():
                asked += [f"count(*) - count({quoted(column)})", f"approx_count_distinct({quoted(column)})"]
                span = f"min({quoted(column)})::VARCHAR || ' to ' || max({quoted(column)})::VARCHAR"
                asked.append(span if kind.startswith(DATES) else "NULL")
            found = connection.execute(f"SELECT {', '.join(asked)} FROM read_parquet({literal(str(file))})").fetchone()
    except duckdb.Error as error:
        raise ContractViolation(f"{file} cannot be read ({str(error).splitlines()[0]:.200}).") from error
    assert found is not None
    table = [["column", "type", "missing", "different values, about", "from, to"]]
    for number, (column, kind) in enumerate(summary.columns.items()):
        missing, different, span = found[3 * number : 3 * number + 3]
        share = f"{missing / summary.rows:.1%}" if summary.rows and missing else "none"
        table.append([title_and_name(column, titles), kind, share, f"{different:,}", span or ""])
    loads = [
        f"Read at {load.at:%Y-%m-%d %H:%M} UTC: {load.added:,} new, {load.changed:,} changed, {load.removed:,} gone."
        for load in summary.loads
    ]
    return CardSection(heading=f"Table {name}", sentences=[f"{summary.rows:,} rows.", *loads], table=table)


def _held(validated: Path | None, titles: Titles) -> list[CardSection]:
    """The rules that held, those that did not, and what was put aside."""
    results = None
    with contextlib.suppress(ContractViolation):
        results = ValidationResults.read(validated) if validated is not None else None
    if results is None:
        sentence = "No run here has let this version pass its validation, or what it found is gone."
        return [CardSection(heading="Rules", sentences=[sentence])]
    head = ["table", "column", "rule", "layer"]
    held = [
        [check.table, title_and_name(check.column or "", titles), check.rule, check.layer]
        for check in results.checks
        if check.passed
    ]
    broken = [
        [check.table, title_and_name(check.column or "", titles), check.rule, f"{check.severity}, {check.rows:,} rows"]
        for check in results.checks
        if not check.passed
    ]
    aside = [f"{rows:,} rows of {table} were put in quarantine." for table, rows in results.quarantined.items()]
    sections = [
        CardSection(
            heading="Rules that held", sentences=[f"{len(held)} of {len(results.checks)}."], table=[head, *held]
        )
    ]
    if broken or aside:
        table = [[*head[:3], "how"], *broken] if broken else []
        sections.append(CardSection(heading="Rules that did not hold", sentences=aside, table=table))
    return sections
