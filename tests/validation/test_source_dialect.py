"""What `lifecycle init` reads: of a database or a workbook with several tables one is named, and none is guessed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import pytest
from openpyxl import Workbook

from kfp_lifecycle.projects.place import place_of
from kfp_lifecycle.projects.source_dialect import read_table
from kfp_lifecycle.runtime.contract import ContractViolation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A DuckDB file, a SQLite file under another's ending and a workbook, each with two tables."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE people AS SELECT 1 AS id; CREATE TABLE bills AS SELECT 2 AS id")
    with sqlite3.connect(tmp_path / "clinic.db") as database:
        database.executescript("CREATE TABLE patients (id INTEGER); CREATE TABLE visits (id INTEGER)")
        database.execute("INSERT INTO visits VALUES (7)")
    book = Workbook()
    for name in ("Info", "Kunden 2025"):
        sheet = book.create_sheet(name)
        sheet.append(["id"])
        sheet.append([3])
    del book["Sheet"]
    book.save(tmp_path / "kunden.XLSX")
    (tmp_path / "notes.rtf").write_text("id")
    (tmp_path / "twice.csv").write_text("a,a,b\n1,2,3\n")
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "names", "such_as"),
    [
        ("shop.duckdb", "bills, people", "shop.duckdb#bills"),
        ("clinic.db", "patients, visits", "clinic.db#patients"),
        ("kunden.XLSX", "Info, Kunden 2025", "kunden.XLSX#Info"),
    ],
)
def test_of_several_tables_one_has_to_be_named(folder: Path, given: str, names: str, such_as: str) -> None:
    with pytest.raises(ContractViolation) as told:
        read_table(place_of(given, folder), folder / "out")
    assert f"It has {names}. Name it after a #, such as --from '{such_as}'." in str(told.value)


@pytest.mark.parametrize(
    ("given", "table", "value"),
    [("shop.duckdb#people", "people", 1), ("clinic.db#Visits", "visits", 7), ("kunden.XLSX#Info", "info", 3)],
)
def test_the_one_that_is_named_is_read(folder: Path, given: str, table: str, value: int) -> None:
    read_table(place_of(given, folder), folder / "out")
    assert duckdb.read_parquet(str(folder / "out" / f"{table}.parquet")).fetchall() == [(value,)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("old.xls", "it is an old Excel workbook, which is not read here. Save it as CSV"),
        ("postgresql://shop.example/shop", "which table of the database is meant"),
        ("out", "it is a folder. Name a file in it"),
        ("twice.csv", "twice.csv has the column 'a' twice. Give each column a name of its own"),
        ("shop.duckdb#customers", "shop.duckdb has no table customers; it has bills, people"),
        ("clinic.db#Bills", "clinic.db has no table Bills; it has patients, visits"),
        ("kunden.XLSX#Kunden", "kunden.XLSX has no sheet Kunden; it has Info, Kunden 2025"),
        ("notes.rtf", "how its name ends does not say what it is. Give it one of these endings: .csv, .dat"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(folder: Path, given: str, words: str) -> None:
    with pytest.raises(ContractViolation, match=words):
        read_table(place_of(given, folder), folder / "out")


def test_a_text_file_with_an_ending_of_statistics_programs_is_a_table(folder: Path) -> None:
    (folder / "german.data").write_text("id|amount\n1|2.5\n2|3.5\n")
    read = read_table(place_of("german.data", folder), folder / "out")
    assert (read["settings"]["format"], read["settings"]["separator"]) == ("csv", "|")


def test_lines_of_two_encodings_are_told(folder: Path) -> None:
    lines = ["id,name", "1,Müller", "2,Meier", "3,José"]
    encodings = ["ascii", "utf-8", "ascii", "latin-1"]
    content = b"".join(f"{line}\n".encode(used) for line, used in zip(lines, encodings, strict=True))
    (folder / "joined.csv").write_bytes(content)
    found = " ".join(read_table(place_of("joined.csv", folder), folder / "out")["findings"])
    assert "1 of its lines are UTF-8, the first is line 2, and 1 are not, the first is line 4" in found
    (folder / "one.csv").write_bytes("id,name\n1,Müller\n".encode("latin-1"))
    assert "mixed" not in " ".join(read_table(place_of("one.csv", folder), folder / "out")["findings"])


@pytest.mark.parametrize("title", ["Customers 2025,,\n", "Customers 2025\n\n"])
def test_a_title_above_the_header_is_told_as_one(folder: Path, title: str) -> None:
    (folder / "titled.csv").write_text(f"{title}id,name,amount\n1,a,2\n2,b,3\n")
    with pytest.raises(ContractViolation, match="title"):
        read_table(place_of("titled.csv", folder), folder / "out")


def test_a_number_sign_may_be_part_of_a_files_name(folder: Path) -> None:
    (folder / "C# users.csv").write_text("id,amount\n1,2\n")
    place = place_of("C# users.csv", folder)
    assert (place.part, place.table) == ("", "c_users")
