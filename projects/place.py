"""What `--from` names: a source's URL, and the table of a database or the sheet of a workbook within it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kfp_lifecycle.config.data import DATABASE_SCHEMES, scheme_of
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.projects.profile import plain_names

BACKTICKS = ("mysql", "mariadb", "bigquery")
# The first bytes of a SQLite file, whatever it is called.
SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Place:
    """Where a table is."""

    url: str
    """As `source.url`; a file on this machine in full."""
    part: str
    """Table or sheet; empty where the file is the table."""
    table: str
    """What the project calls it."""

    @property
    def is_database(self) -> bool:
        """Whether a database is asked, in its own dialect."""
        return scheme_of(self.url) in DATABASE_SCHEMES

    @property
    def is_duckdb(self) -> bool:
        """Whether it is a DuckDB file, whose tables a query names."""
        if scheme_of(self.url) != "file":
            return self.url.startswith("duckdb://")
        return PurePosixPath(self.url).suffix.lower() in (".duckdb", ".db")

    @property
    def is_one_table(self) -> bool:
        """Whether it is a file that holds nothing but one table."""
        if self.is_database or self.is_duckdb or self.is_workbook or Path(self.url).is_dir():
            return False
        return bool(PurePosixPath(self.url.partition("?")[0].removesuffix(".gz")).suffix)

    @property
    def is_workbook(self) -> bool:
        """Whether it is an Excel workbook."""
        return PurePosixPath(self.url.partition("?")[0]).suffix.lower() == ".xlsx"

    @property
    def extract(self) -> str | None:
        """The SQL that a database is asked with, where its table is called otherwise than in the project."""
        if not self.is_database or self.part in ("", self.table):
            return None
        quote = "`" if scheme_of(self.url) in BACKTICKS else '"'
        return f"SELECT * FROM {quote}{self.part.replace(quote, quote * 2)}{quote}"

    @property
    def rows(self) -> str:
        """What a query of the table selects from."""
        return quoted(self.part or self.table) if self.is_duckdb else "source"


def place_of(given: str, here: Path) -> Place:
    """Take apart what `--from` says; a relative path is meant from the folder `here`."""
    url, mark, part = given.rpartition("#")
    if not mark or (here / given).is_file():
        url, part = given, ""
    if "://" not in url:
        file = _whole(here / url)
        return _named(f"sqlite:///{file}" if _is_sqlite(Path(file)) else file, part)
    scheme, _, rest = url.partition("://")
    if scheme in ("duckdb", "sqlite") and rest.startswith("/"):
        return _named(f"{scheme}:///{_whole(here / rest[1:])}", part)
    return _named(url, part)


def _named(url: str, part: str) -> Place:
    title = part or PurePosixPath(url.partition("?")[0].removesuffix(".gz")).stem
    return Place(url, part, plain_names([title])[title])


def as_given(told: str, given: str) -> str:
    """A reader's refusal for whoever has no configuration yet: they can mend what they gave, or name something else."""
    sentences = re.split(r"(?<=[.?]) (?=[A-Z])", told)
    kept = [sentence for sentence in sentences if "pipeline.yaml" not in sentence]
    if len(kept) < len(sentences):
        kept.append(f"Mend {given}, or name another with --from.")
    return " ".join(kept)


def _is_sqlite(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(SQLITE)) == SQLITE


def _whole(path: Path) -> str:
    """A path in full, without the `..` that a source's URL cannot have."""
    return os.path.normpath(path.absolute())
