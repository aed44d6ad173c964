"""CSV dialect and shape: which separator all rows agree on, and that every row has as many fields as the header.

CSV parsers forgive: a surplus separator, a stray quote, a blank line. What they make of it is a guess, and one cell
that shifted shifts every cell after it. So each byte is looked at before a parser does: a file that can be read in one
way only is read, whatever its separator or line ends, and every other is refused with its line.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]

COMMA, SPACE = ",", " "
SEPARATORS = (COMMA, ";", "\t", "|")
NAMES = {COMMA: "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", SPACE: "spaces"}
QUOTE, APOSTROPHE, LF, CR = b'"'[0], b"'"[0], b"\n"[0], b"\r"[0]
BOM = b"\xef\xbb\xbf"
# The first line by which Excel is told the separator.
SEPARATOR_LINE = re.compile(rb"sep=([^\r\n])\r?\n?$")
# Bytes that are looked at in one go, and the longest that a row may be.
CHUNK = 8 << 20
LONGEST_ROW = 16 << 20
# A single column of words looks like two that a space divides; nobody's text has the same spaces in every row.
FEWEST_BY_SPACES = 3
LINE_COMPARED = 16
LARGEST_ASCII = 127
NOT_UTF_8 = "Say how its letters are written with source.encoding in pipeline.yaml, such as cp1252"


class Misshapen(Exception):
    """A file is not the table that its header announces. The text names the line."""


@dataclass(frozen=True)
class Dialect:
    """How the rows of a file are divided into fields."""

    separator: str
    spaced: bool = False
    """Whether each separator is followed by a space that belongs to it."""
    header_spaced: bool = False
    """Whether those of the header are, and no others."""

    @property
    def delimiter(self) -> str:
        """What stands between two fields."""
        return f"{self.separator} " if self.spaced else self.separator


@dataclass(frozen=True)
class Shape:
    """A file that can be read in one way."""

    file: Path
    """The file to read: the source's own, or a copy with plain line ends and nothing around its rows."""
    dialect: Dialect
    names: tuple[str, ...]
    """The header; the last is empty where each row ends with a separator."""
    rows: int
    """How many there are below the header."""


@dataclass(frozen=True)
class _Head:
    """What stands before the rows."""

    skipped: int
    """Lines before the header."""
    separator: str | None
    """As the file itself says."""
    header: bytes
    whole: bytes
    """The bytes up to the header's end, as they are."""


@dataclass
class _Scan:
    """What a file is like under one dialect."""

    rows: int = 0
    plain: bool = True
    """Whether a parser finds the rows as they are: one kind of line end, and no blank line."""


def shape_of(
    file: Path, separator: str | None, wanted: Sequence[str] | None, whole_lines: bool, scratch: Path
) -> Shape:
    """Find the one way in which a CSV file can be read.

    Args:
        file: UTF-8 text, compressed where its name ends with `.gz`.
        separator: What stands between fields; None where the file is to show it.
        wanted: Names of the columns by the project's schema, which decide where a file could be read in two ways.
        whole_lines: Whether the last line must have an end, as the last one of a file that was written to its end has.
        scratch: Folder for a copy, where the file's line ends or blank lines need one.

    Raises:
        Misshapen: there is no way, or more than one.
        EOFError, OSError, zlib.error: what was compressed is damaged: its checksum is not that of its content.
    """
    head = _head(file)
    names_by: dict[Dialect, tuple[str, ...]] = {}
    found: dict[Dialect, _Scan] = {}
    problems: dict[Dialect, str] = {}
    for dialect in _dialects(head, separator):
        try:
            names_by[dialect] = _names(head.header, dialect)
            found[dialect] = _scan(file, head, dialect, len(names_by[dialect]), whole_lines)
        except Misshapen as problem:
            problems[dialect] = str(problem)
    if len(found) > 1 and wanted is not None:
        named = {dialect: scan for dialect, scan in found.items() if set(names_by[dialect]) <= {*wanted, ""}}
        found = named or found
    if not found:
        raise Misshapen(problems[max(problems, key=lambda dialect: (dialect.separator == COMMA, -len(problems)))])
    if len(found) > 1:
        ways = " and ".join(NAMES.get(dialect.separator, repr(dialect.separator)) for dialect in found)
        raise Misshapen(
            f"can be read in {len(found)} ways, by {ways}: each gives every row as many fields as the header. Say "
            "which with source.separator in pipeline.yaml"
        )
    ((dialect, scan),) = found.items()
    if not scan.plain or head.skipped:
        file = _plain_copy(file, head, scratch)
    return Shape(file, dialect, names_by[dialect], scan.rows)


def check_gzip(file: Path) -> None:
    """Read a compressed file to its end, as its checksum wants: other readers do not look at that.

    Raises:
        EOFError, OSError, zlib.error: it is damaged or cut off.
    """
    with gzip.open(file) as content:
        while content.read(CHUNK):
            pass


def utf_8_copy(file: Path, encoding: str, scratch: Path) -> Path:
    """A file's text, written in another encoding, as UTF-8.

    Raises:
        UnicodeError: it is no text in that encoding.
        EOFError, OSError, zlib.error: as `shape_of`.
    """
    copy = scratch / f"{file.name.removesuffix('.gz')}.utf-8.csv"
    with _opened(file) as content, copy.open("wb") as written:
        decoder = codecs.getincrementaldecoder(encoding)()
        while part := content.read(CHUNK):
            written.write(decoder.decode(part).encode())
        written.write(decoder.decode(b"", final=True).encode())
    return copy


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as stored:
        if file.suffix == ".gz":
            with gzip.open(stored) as content:
                yield cast(IO[bytes], content)
        else:
            yield stored


def _dialects(head: _Head, separator: str | None) -> list[Dialect]:
    """The dialects that the header allows."""
    text = _outside_quotes(head.header)
    known = separator or head.separator
    present = [known] if known else [each for each in SEPARATORS if each.encode() in text]
    if not present and text.count(SPACE.encode()) >= FEWEST_BY_SPACES - 1:
        return [Dialect(SPACE), Dialect(COMMA)]
    dialects = []
    for each in present or [COMMA]:
        if each != SPACE and 0 < text.count(each.encode()) == text.count(f"{each} ".encode()):
            dialects += [Dialect(each, spaced=True), Dialect(each, header_spaced=True)]
        else:
            dialects.append(Dialect(each))
    return dialects


def _outside_quotes(row: bytes) -> bytes:
    return re.sub(rb'"[^"]*"', b'""', row)


def _names(header: bytes, dialect: Dialect) -> tuple[str, ...]:
    try:
        text = header.decode("utf-8")
        read = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=dialect.separator,
            strict=True,
            skipinitialspace=dialect.spaced or dialect.header_spaced,
        )
        return tuple(name.strip() for name in next(read, []))
    except UnicodeDecodeError as error:
        raise Misshapen(f"is no UTF-8 text: {error.reason} in its header. {NOT_UTF_8}") from error
    except csv.Error as error:
        raise Misshapen(f"has a header that cannot be read: {error}") from error


def _head(file: Path) -> _Head:
    """The header, and what stands before it: a byte order mark, blank lines, Excel's `sep=;`."""
    separator, taken = None, b""
    for skipped, row in enumerate(_rows(file)):
        line = row.removeprefix(BOM) if not taken else row
        taken += row
        text = line.rstrip(b"\r\n")
        told = SEPARATOR_LINE.match(line)
        if told and separator is None:
            separator = told[1].decode("utf-8", "replace")
        elif text.strip():
            return _Head(skipped, separator, text, taken)
    raise Misshapen("lacks even a header. Write the names of its columns first")


def _rows(file: Path) -> Iterator[bytes]:
    """The first rows of a file with their line ends, a quoted field's line ends not counted."""
    with _opened(file) as content:
        start = content.read(CHUNK)
    position = 0
    while position < len(start):
        end, quoted = position, False
        while end < len(start):
            letter = start[end]
            end += 1
            if letter == QUOTE:
                quoted = not quoted
            elif letter in (LF, CR) and not quoted:
                if letter == CR and start[end : end + 1] == b"\n":
                    end += 1
                break
        yield start[position:end]
        position = end


def _scan(file: Path, head: _Head, dialect: Dialect, fields: int, whole_lines: bool) -> _Scan:
    """Look at every row below the header.

    Raises:
        Misshapen: one is not as the header says; the text names its line.
    """
    scan = _Scan()
    lines = head.whole.count(b"\n") or head.whole.count(b"\r")
    ends: set[str] = set()
    blank: int | None = None
    for part, last in _whole_rows(file, len(head.whole), lines):
        rows = _Part(part, dialect)
        part_text = part.tobytes() if len(part) and part.max() > LARGEST_ASCII else b""
        try:
            part_text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = lines + 1 + part_text.count(b"\n", 0, error.start)
            raise Misshapen(f"is no UTF-8 text: {error.reason} in line {line:,}. {NOT_UTF_8}") from error
        rows.check_quotes(lines)
        if last and whole_lines and file.suffix != ".gz" and not rows.is_ended:
            raise Misshapen(
                "has no line end after its last row, so nobody can tell whether that is whole or was cut off. Write it "
                "to its end, with a line end, or set last_line_may_be_open for this source in pipeline.yaml"
            )
        for at in np.flatnonzero(rows.blank):
            blank = int(at) if blank is None else blank
            scan.plain = False
        full = np.flatnonzero(~rows.blank)
        if blank is not None and len(full) and (full[-1] > blank or blank < 0):
            raise Misshapen(
                f"has a blank line before line {rows.line(int(full[full > blank][0]), lines):,}. Is a second table "
                "below the first, or a title above it? Write one table to a file, its header first, without blank lines"
            )
        wrong = full[rows.separators[full] != fields - 1]
        if len(wrong):
            number = int(wrong[0])
            raise Misshapen(
                f"has {rows.separators[number] + 1:,} fields in line {rows.line(number, lines):,}, and {fields:,} "
                f"names in its header, divided by {NAMES.get(dialect.separator, repr(dialect.separator))}. Write as "
                'many fields in each row, with " around one that holds a separator'
            )
        rows.check_cells(lines, fields)
        repeated = rows.first_like(head.header)
        if repeated is not None:
            raise Misshapen(
                f"repeats its header in line {rows.line(repeated, lines):,}. Were two files joined? Write one header"
            )
        scan.rows += len(full)
        ends |= rows.kinds_of_end
        lines += rows.lines
        blank = -1 if blank is not None else None
    ends |= _kinds_of_end(np.frombuffer(head.whole, np.uint8))
    scan.plain &= len(ends) < 2 and "\r" not in ends
    return scan


class _Part:
    """Some whole rows of a file, as arrays over their bytes and over the rows."""

    def __init__(self, content: Bytes, dialect: Dialect):
        self.content, self.dialect = content, dialect
        self._quotes = np.flatnonzero(content == QUOTE)
        self._separators = self._outside(ord(dialect.separator))
        feeds, returns = self._outside(LF), self._outside(CR)
        paired = returns[np.isin(returns + 1, feeds)] if len(returns) else returns
        lone = returns[~np.isin(returns, paired)] if len(returns) else returns
        self._breaks = np.union1d(feeds, returns) if len(returns) else feeds
        last = np.union1d(feeds, lone) if len(lone) else feeds
        self.is_ended = not len(content) or (len(last) > 0 and last[-1] == len(content) - 1)
        if not self.is_ended:
            last = np.append(last, len(content))
            # A last cell in quotes was written to its end.
            self.is_ended = bool(content[-1] == QUOTE and len(self._quotes) % 2 == 0)
        self.kinds_of_end = {"\n"} if len(feeds) > len(paired) else set()
        self.kinds_of_end |= {"\r\n"} if len(paired) else set()
        self.kinds_of_end |= {"\r"} if len(lone) else set()
        self.starts = np.concatenate([[0], last[:-1] + 1]) if len(last) else np.zeros(0, dtype=np.int64)
        self.lengths = last - self.starts
        if len(paired):
            self.lengths = self.lengths - np.isin(last - 1, paired)
        self.blank = self.lengths <= 0
        ends = np.searchsorted(self._separators, last)
        self.separators = np.diff(ends, prepend=0)
        self._feeds = np.flatnonzero(content == LF) if len(self._quotes) else None
        self.lines = (len(feeds) if self._feeds is None else len(self._feeds)) or len(last)

    def _outside(self, letter: int) -> npt.NDArray[np.int64]:
        """Where a letter stands outside of quotes."""
        places: npt.NDArray[np.int64] = np.flatnonzero(self.content == letter)
        if not len(self._quotes) or not len(places):
            return places
        outside: npt.NDArray[np.int64] = places[np.searchsorted(self._quotes, places) % 2 == 0]
        return outside

    def _is_border(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether separators or line ends stand at some places."""
        return np.isin(places, self._separators) | np.isin(places, self._breaks)

    def line(self, row: int, before: int) -> int:
        """The line of the file on which a row begins."""
        if self._feeds is None:
            return before + row + 1
        return before + int(np.searchsorted(self._feeds, self.starts[row])) + 1

    def check_quotes(self, before: int) -> None:
        """Refuse a quote that neither begins nor ends a field, nor is one of two inside of one."""
        content, opening, closing = self.content, self._quotes[::2], self._quotes[1::2]
        if not len(opening):
            return
        if len(opening) > len(closing):
            raise Misshapen(
                f"has an unterminated quote in line {self._line_at(int(opening[-1]), before):,}. Write a second one "
                "for each that is text, and one at the end of the field"
            )
        earlier = np.maximum(opening - 1, 0)
        fine = (opening == 0) | (content[earlier] == QUOTE) | self._is_border(earlier)
        if self.dialect.spaced:
            fine |= (content[earlier] == ord(SPACE)) & np.isin(opening - 2, self._separators)
        later = np.minimum(closing + 1, len(content) - 1)
        done = (closing == len(content) - 1) | (content[later] == QUOTE) | self._is_border(later)
        stray = np.sort(np.concatenate([opening[~fine], closing[~done]]))
        if len(stray):
            raise Misshapen(
                f"has a quote in the middle of a field in line {self._line_at(int(stray[0]), before):,}. Write "
                'quotes around the whole field, and "" for each one in it'
            )

    def _line_at(self, place: int, before: int) -> int:
        return before + int((self.content[:place] == LF).sum()) + 1

    def check_cells(self, before: int, fields: int) -> None:
        """Refuse what has another meaning in other dialects: cells in ', separators in the only column."""
        content = self.content
        if self.dialect.spaced or self.dialect.header_spaced:
            places = self._separators
            followed = content[np.minimum(places + 1, len(content) - 1)] == ord(SPACE)
            bad = places[followed != self.dialect.spaced]
            if len(bad):
                raise Misshapen(
                    f"has a space after each separator of its header, and after some in its rows, but not all: look "
                    f"at line {self._line_at(int(bad[0]), before):,}. Write all rows alike"
                )
        if fields == 1:
            others = [each for each in SEPARATORS if each != self.dialect.separator]
            for other in others:
                found = self._outside(ord(other))
                if len(found):
                    raise Misshapen(
                        f"has one name in its header, and {NAMES[other]} in line "
                        f"{self._line_at(int(found[0]), before):,}. Name every column, or write quotes around the text"
                    )
        apostrophes = self._outside(APOSTROPHE)
        if len(apostrophes):
            opening = apostrophes[(apostrophes == 0) | self._is_border(apostrophes - 1)]
            closing = apostrophes[(apostrophes == len(content) - 1) | self._is_border(apostrophes + 1)]
            after = np.searchsorted(closing, opening, side="right")
            borders = np.union1d(self._separators, self._breaks)
            for start, place in zip(opening, after, strict=True):
                if place < len(closing) and np.searchsorted(borders, start) == np.searchsorted(borders, closing[place]):
                    raise Misshapen(
                        f"has a cell between two ' in line {self._line_at(int(start), before):,}: are they quotes, or "
                        'text? Write " around it'
                    )

    def first_like(self, header: bytes) -> int | None:
        """The first row that is the header once more."""
        rows = np.flatnonzero(self.lengths == len(header))
        for offset, letter in enumerate(header[:LINE_COMPARED]):
            rows = rows[self.content[self.starts[rows] + offset] == letter]
            if not len(rows):
                return None
        for row in rows:
            start = self.starts[row]
            if self.content[start : start + len(header)].tobytes() == header:
                return int(row)
        return None


def _kinds_of_end(content: Bytes) -> set[str]:
    return _Part(content, Dialect(COMMA)).kinds_of_end


def _whole_rows(file: Path, skip: int, lines: int) -> Iterator[tuple[Bytes, bool]]:
    """The content after `skip` bytes in parts that end where a row does, and whether a part is the last."""
    with _opened(file) as content:
        content.seek(skip)
        rest = b""
        while True:
            read = content.read(CHUNK)
            chunk = rest + read
            if not read:
                yield np.frombuffer(chunk, np.uint8), True
                return
            array = np.frombuffer(chunk, np.uint8)
            end = _end_of_rows(array, chunk)
            if len(chunk) - end > LONGEST_ROW:
                raise Misshapen(
                    f"has a row of more than {LONGEST_ROW >> 20} MB after line {lines:,}: an unterminated quote, or no "
                    "line ends"
                )
            rest = chunk[end:]
            if end:
                yield array[:end], False
                lines += chunk[:end].count(b"\n")


def _end_of_rows(array: Bytes, chunk: bytes) -> int:
    """Where the last whole row of a chunk ends; 0 where none does."""
    quotes = np.flatnonzero(array == QUOTE)
    # A return at the very end may belong to a feed that comes next.
    stop = len(chunk) - chunk.endswith(b"\r")
    while (place := max(chunk.rfind(b"\n", 0, stop), chunk.rfind(b"\r", 0, stop))) >= 0:
        if np.searchsorted(quotes, place) % 2 == 0:
            return place + 1
        stop = place
    return 0


def _plain_copy(file: Path, head: _Head, scratch: Path) -> Path:
    """The rows with one line feed after each, and nothing before the header or between them."""
    copy = scratch / f"{file.name.removesuffix('.gz')}.plain.csv"
    with copy.open("wb") as plain:
        plain.write(head.header + b"\n")
        for part, _ in _whole_rows(file, len(head.whole), 0):
            rows = _Part(part, Dialect(COMMA))
            for start, length in zip(rows.starts, rows.lengths, strict=True):
                if length > 0:
                    plain.write(part[start : start + length].tobytes() + b"\n")
    return copy
