"""Polluted CSV files with their truth: the kinds of the Pollock benchmark and of real exports, made from one table.

Pollock (Vitagliano et al., VLDB 2023) takes a clean file and breaks one thing in each copy: the header, the separators,
quotes or line ends of the file or of a single row, what stands around the table. These are made by the same idea.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from kfp_lifecycle.components.data.ingest_data.delimited import CsvTable, select_delimited
from kfp_lifecycle.config.data import Connection
from kfp_lifecycle.runtime.contract import ContractViolation

HEADER = ("number", "day", "code", "price", "name", "note")
ROWS = tuple(
    (
        str(row),
        f"2025-01-{row:02}",
        f"{row:03}",
        f"{row * 1.5 + 0.25:.2f}",
        ("Ann, B.", "it's", 'the "best"', "Zoë", "")[row % 5],
        ("two\nlines", "", "plain", "a;b|c", "x")[row % 5],
    )
    for row in range(1, 13)
)
Row = tuple[str, ...]


@dataclass(frozen=True)
class OddFile:
    """A file, and what its author meant."""

    name: str
    content: bytes
    rows: tuple[Row, ...] = ROWS
    """The cells; an empty one has no value."""
    readable: bool = False
    """Whether it can be read in one way only, so that refusing it is a loss."""
    suffix: str = "csv"
    options: dict[str, object] = field(default_factory=dict)


def written(
    rows: tuple[Row, ...] = ROWS, header: Row | None = HEADER, separator: str = ",", end: str = "\n", **options: object
) -> str:
    """Rows as plain CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, **options)  # type: ignore[arg-type]
    writer.writerows([*([header] if header else []), *rows])
    return text.getvalue()


def odd_files() -> Iterator[OddFile]:
    """All of them, those of whole files first."""
    yield from _whole_files()
    yield from _around_the_table()
    yield from _cut_off()
    yield from _single_rows()


def _whole_files() -> Iterator[OddFile]:
    plain = written()
    for name, text in (
        ("clean", plain),
        ("all quoted", written(quoting=csv.QUOTE_ALL)),
        ("separated by semicolons", written(separator=";")),
        ("separated by tabs", written(separator="\t")),
        ("separated by bars", written(separator="|")),
        ("line ends of Windows", written(end="\r\n")),
        ("line ends of old Macs", written(end="\r\n").replace("\r\n", "\r")),
        ("a byte order mark", f"\ufeff{plain}"),
        ("two line ends at the end", f"{plain}\n"),
        ("three blank lines at the end", f"{plain}\n\n\n"),
        ("two blank first lines", f"\n\n{plain}"),
        ("blank first line of Windows", f"\r\n{written(end=chr(13) + chr(10))}"),
        ("Excel's line of the separator", f"sep=;\n{written(separator=';')}"),
        ("a separator at the end of each row", "".join(_with_last(HEADER, ROWS))),
        ("names in capitals", written(header=tuple(name.upper() for name in HEADER))),
        ("names with spaces around them", written(header=tuple(f" {name} " for name in HEADER))),
        ("names in quotes", '"number","day","code","price","name","note"\n' + written(header=None)),
        ("one row", written(ROWS[:1])),
    ):
        yield OddFile(name, text.encode(), ROWS[:1] if name == "one row" else ROWS, readable=True)
    simple = tuple((*row[:4], "x", "y z") for row in ROWS)
    spaced = "".join(", ".join(cells) + "\n" for cells in (HEADER, *simple))
    yield OddFile("a space after each separator", spaced.encode(), simple, readable=True)
    yield OddFile("compressed", gzip.compress(plain.encode()), readable=True, suffix="csv.gz")
    yield OddFile(
        "compressed, without a last line end", gzip.compress(plain[:-1].encode()), readable=True, suffix="csv.gz"
    )
    last = tuple((*row[:5], "in quotes") for row in ROWS)
    yield OddFile(
        "no last line end after a quote", written(last, quoting=csv.QUOTE_ALL)[:-1].encode(), last, readable=True
    )
    yield OddFile("separated by spaces", written(separator=" ").encode())
    yield OddFile("no last line end", plain[:-1].encode())
    yield OddFile("no header", written(header=None).encode())
    yield OddFile("two headers", written((("(piece)", "(date)", "(id)", "(EUR)", "(text)", "(text)"), *ROWS)).encode())
    yield OddFile("a header and no row", written(()).encode(), ())
    yield OddFile("nothing", b"", ())
    yield OddFile("a blank line", b"\n", ())
    yield OddFile("quotes are apostrophes", written(quotechar="'").encode())
    yield OddFile("quotes around all are apostrophes", written(quotechar="'", quoting=csv.QUOTE_ALL).encode())
    yield OddFile("a backslash before a quote", written(doublequote=False, escapechar="\\").encode())
    yield OddFile("nothing quoted", written(quoting=csv.QUOTE_NONE, escapechar="\\").encode())
    yield OddFile("Latin-1", plain.encode("latin-1"))
    yield OddFile("UTF-16", plain.encode("utf-16"))
    yield OddFile("a header one name short", written(header=HEADER[:-1]).encode())
    yield OddFile("a header one name long", written(header=(*HEADER, "more")).encode())
    yield OddFile("a first name left out", written(header=("", *HEADER[1:])).encode())
    yield OddFile("a name twice", written(header=("number", *HEADER[1:5], "number")).encode())
    yield OddFile("names that differ in case", written(header=("number", "Number", *HEADER[2:])).encode())
    continental = tuple((*row[:3], row[3].replace(".", ","), *row[4:]) for row in ROWS)
    commas = written(continental, separator=";").encode()
    yield OddFile("decimal commas", commas, ROWS, readable=True, options={"decimal": ","})
    yield OddFile("decimal commas that nobody named", commas, ROWS)
    yield OddFile("rows without quotes and commas in text", plain.replace('"Ann, B."', "Ann, B.").encode())
    for place in range(5, 60, 6):
        compressed = bytearray(gzip.compress(plain.encode() * 50, compresslevel=0, mtime=0))
        compressed[-place * 11] ^= 0x04
        yield OddFile(f"a flipped bit in a compressed file, {place}", bytes(compressed), ROWS * 50, suffix="csv.gz")


def _with_last(header: Row, rows: tuple[Row, ...]) -> Iterator[str]:
    for cells in (header, *rows):
        yield f"{written((cells,), header=None)[:-1]},\n"


def _around_the_table() -> Iterator[OddFile]:
    plain = written()
    for name, before, after in (
        ("a title", "Sales of January\n", ""),
        ("a title and a blank line", "Sales of January\n\n", ""),
        ("a comment", "# made by hand\n", ""),
        ("a title with separators", "Sales,,,,,\n", ""),
        ("a sum", "", "78,,,120.00,,\n"),
        ("a footnote", "", "* provisional\n"),
        ("a footnote below a blank line", "", "\n* provisional\n"),
        ("the same table again", "", plain),
        ("the same table below a blank line", "", f"\n{plain}"),
        ("a narrower table below", "", "\na,b\n1,2\n"),
        ("a wider table below", "", "\na,b,c,d,e,f,g\n1,2,3,4,5,6,7\n"),
    ):
        # A sum is a row like others: nobody can tell, who does not know the table.
        rows = (*ROWS, ("78", "", "", "120.00", "", "")) if name == "a sum" else ROWS
        yield OddFile(f"{name} around the table", f"{before}{plain}{after}".encode(), rows)
    lines = plain.splitlines(keepends=True)
    yield OddFile("a blank line between rows", "".join([*lines[:2], "\n", *lines[2:]]).encode())


def _cut_off() -> Iterator[OddFile]:
    content = written().encode()
    for cut in range(1, 60):
        if content[-cut - 1 : -cut] != b"\n":
            yield OddFile(f"cut off {cut} bytes before its end", content[:-cut])
    compressed = gzip.compress(content)
    for cut in range(1, len(compressed), 23):
        yield OddFile(f"compressed, and cut off {cut} bytes before its end", compressed[:-cut], suffix="csv.gz")


def _single_rows() -> Iterator[OddFile]:
    """One row, or one place in it, is not like the others."""
    lines = [written((row,), header=None) for row in (HEADER, *ROWS)]

    def with_line(number: int, line: str) -> bytes:
        return "".join([*lines[:number], line, *lines[number + 1 :]]).encode()

    for number, line in enumerate(lines):
        body = line[:-1]
        places = _separators(body)
        for place in places:
            yield OddFile(
                f"row {number}, a separator too many at {place}", with_line(number, f"{body[:place]},{body[place:]}\n")
            )
            yield OddFile(
                f"row {number}, a separator too few at {place}",
                with_line(number, f"{body[:place]}{body[place + 1 :]}\n"),
            )
            yield OddFile(
                f"row {number}, a semicolon at {place}", with_line(number, f"{body[:place]};{body[place + 1 :]}\n")
            )
            yield OddFile(
                f"row {number}, a quote before {place}", with_line(number, f'{body[:place]}"{body[place:]}\n')
            )
            yield OddFile(
                f"row {number}, a quote after {place}", with_line(number, f'{body[: place + 1]}"{body[place + 1 :]}\n')
            )
        yield OddFile(f"row {number}, a separator at its end", with_line(number, f"{body},\n"))
        yield OddFile(f"row {number}, a separator at its start", with_line(number, f",{line}"))
        yield OddFile(f"row {number}, a quote at its end", with_line(number, f'{body}"\n'))
        yield OddFile(
            f"row {number}, by semicolons",
            with_line(number, written(((HEADER, *ROWS)[number],), header=None, separator=";")),
        )
        yield OddFile(
            f"row {number}, twice a line end", with_line(number, f"{line}\n"), readable=number == len(lines) - 1
        )
        yield OddFile(f"row {number}, no line end", with_line(number, body))
        for name, end in (("Windows", "\r\n"), ("old Macs", "\r")):
            yield OddFile(f"row {number}, the line end of {name}", with_line(number, f"{body}{end}"), readable=True)


def _separators(line: str) -> list[int]:
    """Where separators stand in a row, those in quotes left out."""
    places, quoted = [], False
    for place, letter in enumerate(line):
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            places.append(place)
    return places


def outcome(file: OddFile, folder: Path) -> str:
    """`right`, `refused` with the reason, or `wrong` with what was read."""
    place = folder / f"odd.{file.suffix}"
    place.write_bytes(file.content)
    (folder / "scratch").mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            rows = select_delimited(
                connection,
                [place],
                Connection(url=f"file:///{place}", **file.options),
                CsvTable("odd", None, (), whole=True),
                folder / "scratch",
            )
            read = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({rows})").fetchall()
        except (ContractViolation, duckdb.Error) as error:
            return f"refused: {error}"
    found = [tuple(_as_told(cell) for cell in row) for row in read]
    meant = [tuple(_as_told(cell) for cell in row) for row in file.rows]
    return "right" if sorted(found) == sorted(meant) else f"wrong: {found[:3]} for {meant[:3]}"


def _as_told(cell: str | None) -> str:
    """A number as a number, so that 1.5 is 1.50; a code with zeros in front stays what it is."""
    if not cell or (cell[0] == "0" and cell[1:2] not in ("", ".")):
        return cell or ""
    try:
        return repr(float(cell))
    except ValueError:
        return cell
