"""Excel workbooks as a source: what is read of a sheet, and what is refused by the name of its cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from shop import ORDERS, ingest, make_project, parquet_rows

from kfp_lifecycle.runtime.contract import ContractViolation

HEADER = ["order_id", "ordered_at", "amount", "paid_by", "day", "paid"]
ROWS = [
    [1, datetime(2025, 1, 1, 10, 30), 10.5, "card", date(2025, 1, 1), True],
    [2, datetime(2025, 1, 2), 11, None, date(2025, 1, 2), False],
    [3, datetime(2025, 1, 3, 9), 12.75, 'a "b", c\nd', date(2025, 1, 3), True],
]


def workbook(file: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], at: tuple[int, int] = (0, 0)) -> str:
    """Write sheets, each table's first cell so many rows down and columns to the right; its path."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for down, row in enumerate(rows, start=1 + at[0]):
            for right, value in enumerate(row, start=1 + at[1]):
                sheet.cell(down, right, value)
    book.save(file)
    return str(file)


def refusal(tmp_path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], **source: Any) -> str:
    project = make_project(tmp_path / "shop", workbook(tmp_path / "orders.xlsx", sheets), **source)
    with pytest.raises(ContractViolation) as violation:
        ingest(project, tmp_path / "tables")
    return str(violation.value)


@pytest.mark.parametrize("at", [(0, 0), (2, 3)])
def test_a_sheet_becomes_a_typed_table_wherever_it_stands(tmp_path: Path, at: tuple[int, int]) -> None:
    url = workbook(tmp_path / "orders.xlsx", {"Orders of 2025": [HEADER, *ROWS]}, at)
    manifest = ingest(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert manifest.tables["orders"].columns == {
        "order_id": "BIGINT",
        "ordered_at": "TIMESTAMP",
        "amount": "DOUBLE",
        "paid_by": "VARCHAR",
        "day": "DATE",
        "paid": "BOOLEAN",
    }
    assert parquet_rows(tmp_path / "tables/orders.parquet") == [tuple(row) for row in ROWS]


def test_a_column_before_the_header_names_its_rows(tmp_path: Path) -> None:
    rows = [[None, *HEADER], *([f"r{number}", *row] for number, row in enumerate(ROWS))]
    url = workbook(tmp_path / "orders.xlsx", {"orders": rows}, (1, 2))
    assert next(iter(ingest(make_project(tmp_path / "shop", url), tmp_path / "tables").tables["orders"].columns)) == (
        "row_name"
    )
    assert parquet_rows(tmp_path / "tables/orders.parquet")[1] == ("r1", *ROWS[1])


def test_the_sheet_is_the_one_of_the_tables_name_or_the_one_that_is_named(tmp_path: Path) -> None:
    other = [HEADER, [9, datetime(2026, 1, 1), 1, "cash", date(2026, 1, 1), True]]
    url = workbook(tmp_path / "shop.xlsx", {"Notes": [["read me"]], "orders": [HEADER, *ROWS], "More": other})
    assert ingest(make_project(tmp_path / "one", url), tmp_path / "first").tables["orders"].rows == 3
    tables = {"orders": {**ORDERS, "sheet": "More"}}
    assert ingest(make_project(tmp_path / "two", url, tables), tmp_path / "second").tables["orders"].rows == 1


def test_a_sheet_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"January": [HEADER], "February": [HEADER]})
    assert "orders.xlsx has no sheet orders; it has February, January" in told
    assert "source.tables.orders.sheet" in told


def test_an_error_in_a_cell_is_refused_unless_it_means_a_missing_value(tmp_path: Path) -> None:
    rows = [HEADER, ROWS[0], [2, datetime(2025, 1, 2), "#N/A", "cash", date(2025, 1, 2), True]]
    assert "has the error #N/A in the cell C3" in refusal(tmp_path, {"orders": rows})
    url = workbook(tmp_path / "orders.xlsx", {"orders": rows})
    manifest = ingest(make_project(tmp_path / "shop", url, missing=["#N/A"]), tmp_path / "tables")
    assert manifest.tables["orders"].columns["amount"] == "DOUBLE"


def test_a_formula_that_nobody_computed_is_no_missing_value(tmp_path: Path) -> None:
    rows = [HEADER, [1, datetime(2025, 1, 1), "=1+1", "card", date(2025, 1, 1), True]]
    assert "has a formula without a value in the cell C2" in refusal(tmp_path, {"orders": rows})


def test_a_value_outside_of_the_table_is_refused(tmp_path: Path) -> None:
    assert "has a value in the cell G2" in refusal(tmp_path, {"orders": [HEADER, [*ROWS[0], "checked by Ann"]]})


def test_a_title_above_the_table_is_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"orders": [["Orders of 2025"], HEADER, *ROWS]})
    assert "has a value in the cell B2" in told
    assert "Is that a title?" in told


def test_a_second_table_below_the_first_is_refused(tmp_path: Path) -> None:
    assert "blank line" in refusal(tmp_path, {"orders": [HEADER, ROWS[0], [], ["Sum", None, 10.5]]})


def test_a_file_that_is_no_workbook_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "orders.xlsx").write_bytes(b"\xd0\xcf\x11\xe0 an older kind")
    with pytest.raises(ContractViolation, match=r"cannot be read as an Excel workbook.*save it as .xlsx"):
        ingest(make_project(tmp_path / "shop", str(tmp_path / "orders.xlsx")), tmp_path / "tables")
