"""Prediction log reader: a window as one typed table; what cannot be read is counted and named, never guessed at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.artifacts.predictions import Broken, Flaw, LeftOut, LogTable
from kfp_lifecycle.runtime.contract import ContractViolation

# A server's clock may be this far ahead of this machine's.
CLOCK_TOLERANCE = timedelta(minutes=1)
EXCERPT = 80
NUMBERS = "('UBIGINT', 'BIGINT', 'HUGEINT', 'UHUGEINT', 'DOUBLE')"


@dataclass(frozen=True)
class Window:
    """A span of time, the start included, the end not; both in UTC."""

    start: datetime
    end: datetime
    now: datetime
    """This machine's time: a later prediction comes from a clock that is wrong."""

    def days(self, folders: Iterable[Path]) -> list[Path]:
        """The folders that may hold predictions of the window, or of the future."""
        wanted = []
        for folder in folders:
            try:
                day = date.fromisoformat(folder.name)
            except ValueError:
                continue
            if self.start.date() <= day <= self.end.date() or day > self.now.date():
                wanted.append(folder)
        return sorted(wanted)


def window_ending(as_of: str, days: int, now: datetime) -> Window:
    """The window of a run.

    Args:
        as_of: Its end, ISO 8601, in UTC where it names no zone; empty: now.
        days: Its length.
        now: The time on this machine, with a zone.

    Raises:
        ContractViolation: `as_of` is no time.
    """
    try:
        end = datetime.fromisoformat(as_of) if as_of else now
    except ValueError as error:
        raise ContractViolation(
            f"as_of is {as_of!r}, which is no time ({error}). Give one such as 2026-01-31T06:00:00Z, or none for now."
        ) from error
    end = end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
    return Window(end - timedelta(days=days), end, now.astimezone(UTC))


def log_files(prediction_log: str, model: str, window: Window) -> list[Path]:
    """The files of the log that may hold predictions of the window; none where nothing was served yet.

    Raises:
        ContractViolation: the log cannot be read.
    """
    place = Path(prediction_log) / model
    try:
        days = window.days(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        return sorted(file for day in days for file in day.glob("*.jsonl") if file.is_file() and file.stat().st_size)
    except OSError as error:
        raise ContractViolation(
            f"The prediction log {place} cannot be read: {error.strerror} ({error.filename}). Let this step read it."
        ) from error


def write_table(
    files: Sequence[Path], inputs: Sequence[Feature], window: Window, table: Path, scratch: Path
) -> LogTable:
    """Read log files and write the window's predictions as Parquet.

    The columns: `time` (UTC), `request_id`, `version`, `entity` (text), `features` (a struct: double or text for each
    of the model's inputs, NULL where missing), `score`, `decision`; oldest first. Shadow predictions, which nobody got
    as an answer, are left out.

    Args:
        files: JSON lines, as the servers write them.
        inputs: The model's inputs.
        window: Which predictions to keep.
        table: The file to write.
        scratch: Folder for what does not fit in memory.

    Returns:
        What was read, and what was not.

    Raises:
        ContractViolation: a file cannot be read, or the table cannot be written.
    """
    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET temp_directory = {_text(scratch / 'duckdb')}")
            _parse(connection, files, inputs, window)
            connection.execute(
                "COPY (SELECT time, request_id, version, entity, features, score, decision FROM lines WHERE place = "
                f"'window' ORDER BY time, request_id) TO {_text(table)} (FORMAT parquet, COMPRESSION zstd)"
            )
            return _count(connection)
    except (duckdb.Error, OSError) as error:
        raise ContractViolation(
            f"The prediction log cannot be read: {str(error).splitlines()[0]:.300}. Mend or move away the file that is "
            "named, and run monitoring again."
        ) from error


def _parse(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[Path],
    inputs: Sequence[Feature],
    window: Window,
) -> None:
    """Make the table `lines`: each line of the log, typed, with the flaw it has and the place it belongs to."""
    if files:
        names = ", ".join(_text(file) for file in files)
        # A line that is no JSON becomes NULL instead of ending the read.
        source = (
            f"read_json_objects([{names}], format = 'newline_delimited', ignore_errors = true, filename = true) "
            "AS source(content, file)"
        )
    else:
        source = "(SELECT NULL::JSON AS content, '' AS file WHERE false)"
    values = ", ".join(f"{_name(item.name)} := {_value(item)}" for item in inputs)
    flaws = "".join(f" WHEN {_is_flawed(item)} THEN {_text(_flaw(item))}" for item in inputs)
    connection.execute(
        f"""
        CREATE TEMP TABLE lines AS
        WITH typed AS (
            SELECT
                file,
                content,
                try_cast(content ->> 'time' AS TIMESTAMPTZ) AS time,
                content ->> 'request_id' AS request_id,
                content ->> 'version' AS version,
                content ->> 'entity' AS entity,
                CASE WHEN json_type(content, '$.score') IN {NUMBERS}
                    THEN try_cast(content ->> 'score' AS DOUBLE) END AS score,
                try_cast(content ->> 'decision' AS BOOLEAN) AS decision,
                coalesce(try_cast(content ->> 'shadow' AS BOOLEAN), false) AS shadow,
                struct_pack({values}) AS features,
                CASE
                    WHEN content IS NULL THEN 'that are no JSON'
                    WHEN json_type(content) != 'OBJECT' OR json_type(content, '$.features') IS DISTINCT FROM 'OBJECT'
                        THEN 'that are no prediction'
                    {flaws}
                END AS wrong
            FROM {source}
        )
        SELECT
            * EXCLUDE (wrong),
            CASE
                WHEN wrong IS NOT NULL THEN wrong
                WHEN time IS NULL THEN 'whose time is none'
                WHEN version IS NULL THEN 'without a version'
                WHEN score IS NULL OR NOT score BETWEEN 0 AND 1 THEN 'whose score is no probability'
            END AS flaw,
            CASE
                WHEN flaw IS NOT NULL THEN 'broken'
                WHEN shadow THEN 'shadow'
                WHEN time > $future THEN 'future'
                WHEN time >= $start AND time < $end THEN 'window'
                ELSE 'outside'
            END AS place
        FROM typed
        """,
        {"future": max(window.now + CLOCK_TOLERANCE, window.end), "start": window.start, "end": window.end},
    )


def _count(connection: duckdb.DuckDBPyConnection) -> LogTable:
    places = dict(connection.execute("SELECT place, count(*) FROM lines GROUP BY place").fetchall())
    versions = connection.execute(
        "SELECT version, count(*) FROM lines WHERE place = 'window' GROUP BY version ORDER BY version"
    ).fetchall()
    entities = connection.execute("SELECT count(DISTINCT entity) FROM lines WHERE place = 'window'").fetchone()
    examples = connection.execute(
        f"SELECT file, count(*), flaw, coalesce(min(content::VARCHAR)[:{EXCERPT}], '') FROM lines "
        "WHERE flaw IS NOT NULL GROUP BY file, flaw ORDER BY count(*) DESC, file, flaw LIMIT 5"
    ).fetchall()
    assert entities is not None
    return LogTable(
        rows=places.get("window", 0),
        versions=dict(versions),
        entities=entities[0],
        left_out=LeftOut(**{place: places.get(place, 0) for place in LeftOut.model_fields}),
        broken=Broken(
            lines=places.get("broken", 0),
            examples=[
                Flaw(file=file, lines=lines, reason=reason, example=example or "(not readable)")
                for file, lines, reason, example in examples
            ],
        ),
    )


def _pointer(item: Feature) -> str:
    """The JSON pointer of a feature, as an SQL text."""
    return _text("/features/" + item.name.replace("~", "~0").replace("/", "~1"))


def _value(item: Feature) -> str:
    value = f"(content ->> {_pointer(item)})"
    if item.type == "numeric":
        number = f"CASE WHEN json_type(content, {_pointer(item)}) IN {NUMBERS} THEN try_cast({value} AS DOUBLE) END"
        # Not-a-number is missing.
        return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
    return value


def _is_flawed(item: Feature) -> str:
    kind = f"json_type(content, {_pointer(item)})"
    if item.type == "numeric":
        return f"({kind} NOT IN ('NULL', {NUMBERS[1:]} OR abs({_value(item)}) > {LARGEST_NUMBER})"
    return f"{kind} NOT IN ('NULL', 'VARCHAR')"


def _flaw(item: Feature) -> str:
    return f"whose {item.name} is no {'finite number' if item.type == 'numeric' else 'text'}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
