"""Excel workbooks (.xlsx): the cells of a sheet as CSV, which is then read by the rules for CSV."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_lifecycle.components.data.ingest_data.files import nearest
from kfp_lifecycle.config.data import Connection, SourceFormat
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

SHEETS = re.compile(r"xl/worksheets/[^/]+\.xml")
FORMULA = re.compile(rb"<(\w+:)?f[ />]")
PART = 1 << 20
HEADER_AND_FIRST = 2


def csv_of_sheets(
    files: Sequence[Path], place: Connection, table: str, sheet: str | None, folder: Path
) -> tuple[list[Path], Connection]:
    """Write a sheet of each workbook as CSV.

    Args:
        files: The workbooks.
        place: How they are read; texts that are `missing` may be what Excel writes for an error, such as `#N/A`.
        table: The table's name, which its sheet may have.
        sheet: The sheet's name, if the project gives it.
        folder: Where to write.

    Returns:
        The CSV files, and how these are read.

    Raises:
        ContractViolation: a file is no workbook, its sheet is not to be found, or a cell of it stands for an error,
            for a formula that nobody has computed, or outside of the table; the message names the cell.
    """
    copies = []
    for number, file in enumerate(files):
        copy = folder / f"{number}-{file.stem}.csv"
        _write(file, place, table, sheet, copy)
        copies.append(copy)
    read = {"format": SourceFormat.csv, "separator": ",", "decimal": ".", "encoding": "utf-8"}
    return copies, place.model_copy(update=read)


def sheets_of(file: Path, table: str) -> list[str]:
    """The names of a workbook's sheets.

    Raises:
        ContractViolation: the file is no workbook.
    """
    with _workbook(file, table) as values:
        return [str(name) for name in values.sheetnames]


def _write(file: Path, place: Connection, table: str, sheet: str | None, copy: Path) -> None:
    with _workbook(file, table) as values, copy.open("w", encoding="utf-8", newline="") as written:
        chosen = _sheet(values.sheetnames, table, sheet, file.name)
        where = f"table {table}: the sheet {chosen!r} of {file.name}"
        _check_computed(file, table, chosen, values[chosen], where)
        rows = csv.writer(written, lineterminator="\n")
        numbered = enumerate(_rows(values[chosen]), start=1)
        head = _head(numbered)
        start, end = _span([cells for _, cells in head])
        for number, cells in itertools.chain(head, numbered):
            filled = _filled(cells)
            if not filled:
                # A blank line between rows is one to the rules for CSV, too.
                written.write("\n")
                continue
            outside = [place for place in filled if not start <= place < end]
            if outside:
                raise ContractViolation(
                    f"{where} has a value in the cell {_name(outside[0], number)}, which no name in its first row "
                    f"stands above. {_remedy(start, end)}"
                )
            padded = [*cells, *[None] * (end - len(cells))][start:end]
            rows.writerow([_text(value) for value in padded])
            for position, value in enumerate(padded, start=start):
                if isinstance(value, _Error) and value not in place.missing:
                    raise ContractViolation(
                        f"{where} has the error {value} in the cell {_name(position, number)}. Mend the formula, or, "
                        f'where it means a missing value, say so with source.missing: ["{value}"] in pipeline.yaml.'
                    )


def _remedy(start: int, end: int) -> str:
    if end - start == 1:
        return "Is that a title? Remove what stands above the row of names, and what stands below the table."
    return "Give its column a name, or move what is no part of the table to another sheet."


def _filled(cells: Sequence[Any]) -> list[int]:
    return [place for place, value in enumerate(cells) if value not in (None, "")]


def _head(numbered: Iterable[tuple[int, list[Any]]]) -> list[tuple[int, list[Any]]]:
    """The rows of a sheet to the first below its header, numbered."""
    head, found = [], 0
    for number, cells in numbered:
        head.append((number, cells))
        found += bool(_filled(cells))
        if found == HEADER_AND_FIRST:
            break
    return head


def _span(head: Iterable[Sequence[Any]]) -> tuple[int, int]:
    """The columns that a header stands above; a column before it, too, whose rows have a value: names of rows."""
    rows = [filled for cells in head if (filled := _filled(cells))]
    if not rows:
        return 0, 0
    names_rows = len(rows) > 1 and rows[1][0] == rows[0][0] - 1
    return rows[0][0] - names_rows, rows[0][-1] + 1


class _Error(str):
    """What a cell shows in place of a value: `#DIV/0!`."""


@contextlib.contextmanager
def _workbook(file: Path, table: str, *, formulas: bool = False) -> Iterator[Workbook]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    # A stream, since the library judges a path by its ending.
    with file.open("rb") as content:
        try:
            workbook = load_workbook(content, read_only=True, data_only=not formulas)
        except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ContractViolation(
                f"table {table}: {file.name} cannot be read as an Excel workbook (.xlsx): {error}. An older .xls, a "
                "workbook with a password and a damaged one are none; open it in a spreadsheet program and save it as "
                ".xlsx."
            ) from None
        yield workbook


def _sheet(names: Sequence[str], table: str, sheet: str | None, file: str) -> str:
    wanted = sheet or table
    if wanted in names:
        return wanted
    if sheet is None and len(names) == 1:
        return names[0]
    rule = f"Name it with source.tables.{table}.sheet in pipeline.yaml" if sheet is None else "Correct the name"
    raise ContractViolation(f"table {table}: {file} has no sheet {wanted}; {nearest(wanted, names)}. {rule}.")


def _rows(sheet: Worksheet) -> Iterator[list[Any]]:
    # A file may claim to be smaller than it is.
    sheet.reset_dimensions()
    for row in sheet.iter_rows():
        yield [_Error(cell.value) if cell.data_type == "e" else cell.value for cell in row]


def _check_computed(file: Path, table: str, sheet: str, values: Worksheet, where: str) -> None:
    """Refuse formulas without a value: a program wrote them, and no spreadsheet has computed them since."""
    with zipfile.ZipFile(file) as parts:
        names = [name for name in parts.namelist() if SHEETS.fullmatch(name)]
        if not any(FORMULA.search(part) for name in names for part in _parts(parts, name)):
            return
    with _workbook(file, table, formulas=True) as formulas:
        both = zip(_rows(formulas[sheet]), _rows(values), strict=True)
        for number, (written, computed) in enumerate(both, start=1):
            for position, (formula, value) in enumerate(zip(written, computed, strict=True)):
                if value is None and formula is not None:
                    raise ContractViolation(
                        f"{where} has a formula without a value in the cell {_name(position, number)}. Open it in a "
                        "spreadsheet program and save it, which computes it."
                    )


def _parts(archive: zipfile.ZipFile, name: str) -> Iterable[bytes]:
    with archive.open(name) as content:
        before = b""
        while part := content.read(PART):
            yield before + part
            before = part[-32:]


def _name(column: int, row: int) -> str:
    from openpyxl.utils import get_column_letter

    return f"{get_column_letter(column + 1)}{row}"


def _text(value: Any) -> str:
    """A cell as ISO text; a moment at midnight is a day, as a spreadsheet shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    return value.isoformat() if isinstance(value, (date, time)) else str(value)
