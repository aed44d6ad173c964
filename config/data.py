"""Configuration of the data: where it comes from, and which tables it has."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import unquote_plus, urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kfp_lifecycle.config.section import Name, Section, text

FILE_SCHEMES = ("file", "package", "https", "http", "s3", "gs", "az")
DATABASE_SCHEMES = ("postgresql", "mysql", "mariadb", "sqlite", "bigquery", "snowflake")
LOCAL_SCHEMES = ("duckdb", "file", "package", "sqlite")
SCHEMES = ("duckdb", *FILE_SCHEMES, *DATABASE_SCHEMES)

SECRET_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A file's path. What else a URL has is for URLs: a forgotten scheme must not pass for a folder.
PATH = re.compile(r"[^:@?#\\\0\r\n]+")
# Parameters of a URL that grant access to whoever knows them. A `passfile` names a file.
SECRET_PARAMETERS = re.compile(
    r"(?i)(?!passfile$)(.*(pass|pwd|secret|token|signature|credential|private_?key|access_?key|api_?key).*|"
    r"(account_?|shared_?)?key|sig|sas|pat|jwt|pin|otp|code|auth|authorization|session(_?id)?|sid|cookie)"
)
# What divides parameters from each other: libraries take either.
PARAMETER = re.compile(r"[?&;#]")


def scheme_of(url: str) -> str:
    """What a source's URL begins with; `file` of a path."""
    return url.partition("://")[0] if "://" in url else "file"


def without_secrets(url: str) -> str:
    """A source's URL or path, if it is understood and holds no secret in clear.

    Raises:
        PydanticCustomError: its scheme is unknown, it cannot be taken apart, or a password or token stands in it. The
            message, unlike pydantic's own, does not repeat the URL.
    """
    if PATH.fullmatch(url):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise PydanticCustomError(
            "secret_url",
            "{scheme} is not understood; it starts with {known}, or is a file's path, such as data/customers.csv",
            {"scheme": f"{scheme[:20]}://" if separator and scheme.isalnum() else "a URL without ://", "known": known},
        )
    try:
        values = _credentials(url, scheme, rest)
    except ValueError:
        raise PydanticCustomError(
            "secret_url",
            "it cannot be taken apart: a bracket or another sign stands where a URL has none. Write such a sign as "
            "percent and its code ([ is %5B, ] is %5D), and a password as {reference}",
            {"reference": "${NAME}"},
        ) from None
    for name, value in values.items():
        if value and not SECRET_REFERENCE.fullmatch(value):
            raise PydanticCustomError(
                "secret_url",
                "the {parameter} stands in it, and every pipeline carries it to its steps. Write {reference} in its "
                "place: the step takes NAME from its environment or from a mounted secret",
                {"parameter": name, "reference": "${NAME}"},
            )
    return url


def _credentials(url: str, scheme: str, rest: str) -> dict[str, str]:
    """What of a URL grants access, by where it stands.

    Raises:
        ValueError: it cannot be taken apart.
    """
    parts = urlsplit(url)
    # The port is looked at when it is asked for.
    _ = parts.port if scheme not in LOCAL_SCHEMES else None
    authority = rest.rpartition("@")[0] if scheme in DATABASE_SCHEMES else parts.netloc.rpartition("@")[0]
    user, colon, password = authority.partition(":")
    values = {"password": password}
    if scheme in ("http", "https") and not colon:
        # Without a password the name is one, as in https://TOKEN@HOST.
        values["token before the @"] = user
    for field in PARAMETER.split(url)[1:]:
        name, _, value = field.partition("=")
        if SECRET_PARAMETERS.fullmatch(unquote_plus(name)):
            values[unquote_plus(name)] = value
    return values


SourceUrl = Annotated[str, AfterValidator(without_secrets)]


class Entity(Section):
    """What a prediction is about."""

    name: Name
    """The entity's name, as the Feast definitions call it."""
    key: Name
    """Column that identifies one entity in every table, feature view and request."""


class Incremental(Section):
    """Read only what is new since the last run, and keep the rest as it was read before."""

    watermark: Name
    """Time column that grows with every new or changed row, such as `updated_at`. It is never empty."""
    look_back_hours: float = Field(default=24, ge=0)
    """Rows at most this much older than the newest one seen are read again, and take the place of what was read
    before: late rows are found, corrections and deletions followed. Raise it for one run to read more again."""


class Table(Section):
    """One source table. The query may reshape it; all later steps see the result."""

    key: list[Name] = Field(min_length=1)
    """Columns that together identify a row: no two rows may share them."""
    event_time: Name | None = None
    """When the thing happened. A feature as of a date sees no row that happened after it. Needed with `split.by: time`;
    without it all rows of the table are known at any time."""
    arrival_time: Name | None = None
    """When the row became known, if later. A feature as of a date sees no row that arrived after it."""
    label_only: bool = False
    """Only the label's query sees this table: no feature can be computed from it."""
    connection: Name | None = None
    """Which of `source.connections` the table is read from; by default from `source.url`."""
    extract: str | None = None
    """SQL that the source's database runs, in its own dialect, to give the rows; by default its table of the same name,
    whole. For databases other than DuckDB."""
    sheet: str | None = None
    """The table's sheet, of Excel workbooks; by default the one of the table's name, else the only one."""
    query: str | None = None
    """SQL (DuckDB) that reshapes what was read, visible to it as `source`; of a DuckDB file it sees the tables instead,
    and is how to choose among them."""
    time_zone: str | None = None
    """Zone, such as `Europe/Berlin`, of those times in the table that have none of their own; by default UTC. A time
    that the zone's clocks skipped is refused."""
    incremental: Incremental | None = None
    """Read only what is new; by default everything, in every run."""

    @model_validator(mode="after")
    def _rows_arrive_after_they_happen(self) -> Table:
        if self.arrival_time is not None and self.event_time is None:
            raise ValueError(
                "arrival_time says when a row became known that had happened before, and event_time, which says when "
                "that was, is missing; name it, or name the one time of the table event_time"
            )
        return self

    @property
    def times(self) -> list[str]:
        """The columns by which the table is cut at a date; none where its rows have no time."""
        return [time for time in (self.event_time, self.arrival_time) if time is not None]


class SourceFormat(StrEnum):
    """How a file source is to be read."""

    duckdb = "duckdb"
    parquet = "parquet"
    csv = "csv"
    jsonl = "jsonl"
    xlsx = "xlsx"
    text = "text"


Separator = Annotated[
    str, text(r"^[^\"'\r\n\w]$", "a separator is one sign that is no letter, digit, underscore, quote or line end")
]


def _encoding(name: str) -> str:
    """The name of a text encoding that Python has.

    Raises:
        ValueError: it has none of that name.
    """
    try:
        " ".encode(name)
    except LookupError:
        raise ValueError("no such encoding is known; usual are utf-8, utf-16, latin-1 and cp1252") from None
    return name


Encoding = Annotated[str, AfterValidator(_encoding)]


class Reading(Section):
    """How a place is read."""

    format: SourceFormat | None = None
    """How to read files; by default as their name ends. `text` gives one column, `line`, for the table's query to take
    apart."""
    separator: Separator | None = None
    """What divides the fields of CSV files; by default the one of comma, semicolon, tab and vertical bar that every row
    agrees with its header on."""
    decimal: Literal[".", ","] = "."
    """What divides the whole from its fraction in the numbers of CSV files. Signs between thousands are not read."""
    encoding: Encoding = "utf-8"
    """How the letters of CSV files are written, such as `latin-1` or `cp1252`."""
    missing: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    """Texts that stand for no value in CSV files and Excel workbooks, besides an empty cell: `[" ", NA, "?"]`."""
    last_line_may_be_open: bool = False
    """Read a CSV file whose last line has no end. By default it is refused, since it may have been cut off in the
    middle of a number."""
    timeout_seconds: float = Field(default=1800, gt=0)
    """Longest that the reading of one table from a database or another machine may take, all attempts together."""
    attempts: int = Field(default=4, ge=1, le=20)
    """How often to try, with growing pauses, when a connection is refused or dropped."""


class Connection(Reading):
    """A place that tables are read from."""

    url: SourceUrl
    """As `source.url`."""


class Source(Reading):
    """Where the data comes from: one place, or several connections that tables name."""

    url: SourceUrl | None = None
    """A file or folder: its path, which may be relative to the project's folder, or `file:///PATH` in full,
    `package://PACKAGE/FILE` for a file inside an installed Python package, `https://`, `s3://`, `gs://`, `az://`. A
    folder holds `<table>.<format>`, or a folder `<table>` of such files. Or a database: `duckdb:///FILE`,
    `sqlite:///FILE`, `postgresql://`, `mysql://`, `mariadb://`, `bigquery://PROJECT/DATASET`,
    `snowflake://USER@ACCOUNT/DATABASE/SCHEMA`. Passwords are written `${NAME}`, and taken from the environment or a
    mounted secret when the step runs."""
    connections: dict[Name, Connection] = Field(default_factory=dict)
    """Further places, by the name that a table's `connection` gives."""
    tables: dict[Name, Table] = Field(min_length=1)
    """The tables to ingest, by name."""

    @model_validator(mode="after")
    def _each_table_has_a_place(self) -> Source:
        for name, table in self.tables.items():
            if table.connection is None and self.url is None:
                raise ValueError(f"tables.{name} names no connection, and there is no url to read it from; add either")
            if table.connection is not None and table.connection not in self.connections:
                known = ", ".join(self.connections) or "none"
                raise ValueError(f"tables.{name}.connection is {table.connection}; connections has {known}")
        return self

    @property
    def timeless(self) -> bool:
        """Whether no table has times."""
        return not any(table.event_time for table in self.tables.values())

    def places(self) -> dict[str | None, Connection]:
        """Every place that a table is read from, by connection name; None is `source.url`."""
        used = {table.connection for table in self.tables.values()}
        places: dict[str | None, Connection] = {}
        if self.url is not None and None in used:
            reading = {name: getattr(self, name) for name in Reading.model_fields}
            places[None] = Connection(url=self.url, **reading)
        return places | {name: place for name, place in self.connections.items() if name in used}
