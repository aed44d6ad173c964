"""Data sheet: rows, dates, columns, what is missing and which rules held, out of the tables and their checks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.artifacts.validation import CheckResult, ValidationResults
from kfp_lifecycle.cli.data import DatasetVersion
from kfp_lifecycle.cli.data_sheet import sheet
from kfp_lifecycle.governance.data_sheet import data_sheet
from kfp_lifecycle.reports.model_card import sections_as_html, sections_as_markdown
from kfp_lifecycle.runtime.contract import ContractViolation

RUNS, TITLES = ["training-2", "training-1"], {"day": "Tag <der> Zählung | UTC"}
ORIGIN = {"project": "churn", "kept in": "s3://churn/datasets"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A version of one table, of which a tenth of one column is missing."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT i AS customer_id, CASE WHEN i % 10 > 0 THEN 'it''s' END AS \"plan | name\", "
            f"DATE '2026-01-01' + i::INTEGER AS day FROM range(100) AS t(i)) TO '{folder / 'customers.parquet'}'"
        )
    columns = {"customer_id": "BIGINT", "plan | name": "VARCHAR", "day": "DATE"}
    summary = TableSummary(rows=100, columns=columns)
    Manifest(as_of=datetime(2026, 4, 10, tzinfo=UTC), tables={"customers": summary}).write(folder)
    return folder


@pytest.fixture
def validated(tmp_path: Path) -> Path:
    """What its validation found."""
    folder = tmp_path / "validated"
    folder.mkdir()
    rule = {"table": "customers", "column": "day", "layer": "rules", "severity": "warning"}
    held = CheckResult(**rule, rule="is no day to come", passed=True)
    broken = CheckResult(**rule, rule="is a <working> day", passed=False, rows=28)
    ValidationResults(checks=[held, broken], quarantined={"customers": 3}).write(folder)
    return folder


def test_the_sheet_tells_rows_dates_missing_values_source_and_rules(dataset: Path, validated: Path) -> None:
    version, customers, held, broken = data_sheet("a7e77a59", dataset, validated, ORIGIN, RUNS, TITLES)
    assert version.sentences[0] == "`a7e77a59`: 100 rows in 1 tables, up to 2026-04-10T00:00:00+00:00."
    assert ["kept in", "s3://churn/datasets"] in version.table
    assert ["runs", "training-2, training-1"] in version.table
    rows = {row[0]: row for row in customers.table}
    assert rows["plan | name"][1:3] == ["VARCHAR", "10.0%"]
    assert rows["customer_id"][2] == "none"
    called = "Tag <der> Zählung | UTC [day]"
    assert rows[called][4] == "2026-01-01 to 2026-04-10"
    assert held.table[1:] == [["customers", called, "is no day to come", "rules"]]
    assert broken.table[1:] == [["customers", called, "is a <working> day", "warning, 28 rows"]]
    assert broken.sentences == ["3 rows of customers were put in quarantine."]


def test_page_and_markdown_escape_what_the_data_hold(dataset: Path, validated: Path) -> None:
    sections = data_sheet("a7e77a59", dataset, validated, ORIGIN, ["training-1"], {})
    page = sections_as_html("Data sheet", "churn", sections)
    assert "Data sheet: churn" in page
    assert "is a &lt;working&gt; day" in page
    assert "<script" not in page
    assert "|plan \\| name|VARCHAR|10.0%|" in sections_as_markdown("Data sheet", "churn", sections)


def test_a_version_that_passed_no_validation_is_told_to_be_so(dataset: Path) -> None:
    *_, rules = data_sheet("a7e77a59", dataset, None, ORIGIN, [], {})
    assert "No run here has let this version pass" in rules.sentences[0]


def test_a_table_that_is_damaged_is_named(dataset: Path) -> None:
    (dataset / "customers.parquet").write_bytes(b"half a file")
    with pytest.raises(ContractViolation, match=r"customers\.parquet cannot be read"):
        data_sheet("a7e77a59", dataset, None, ORIGIN, [], {})


def test_a_place_that_cannot_be_written_and_tables_that_are_gone_are_told(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = DatasetVersion("a7e77a59.dir", "churn", "", {"customers": 100}, "s3://churn/datasets", ["run-1"])
    place: dict[str, Any] = {"dataset": (str(dataset), {})}
    progress = SimpleNamespace(artifact=place.get)
    monkeypatch.setattr("kfp_lifecycle.cli.data_sheet.dataset_versions", lambda: [version])
    monkeypatch.setattr(
        "kfp_lifecycle.local.run_records.all_runs", lambda: [SimpleNamespace(id="run-1", progress=lambda: progress)]
    )
    sheet("a7e7", tmp_path / "sheet.md")
    assert "customer_id" in (tmp_path / "sheet.md").read_text("utf-8")
    with pytest.raises(ContractViolation, match=r"nowhere/sheet.md cannot be written \(No such file or directory\)"):
        sheet("a7e7", tmp_path / "nowhere" / "sheet.md")
    place.clear()
    with pytest.raises(ContractViolation, match="in no run here any more: lifecycle data checkout"):
        sheet("a7e7", tmp_path / "sheet.md")
