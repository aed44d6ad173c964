"""Prediction log reader: a window as one typed table; what cannot be read is counted and named, never guessed at.

The log's files are Parquet, and Arrow streams while their server still writes them, or where it was killed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.artifacts.prediction_log import FINISHED, GROWING
from kfp_lifecycle.artifacts.predictions import Broken, Flaw, LeftOut, LogTable
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.connections.object_store import file_system, is_object_store
from kfp_lifecycle.runtime.contract import ContractViolation

# A server's clock may be this far ahead of this machine's.
CLOCK_TOLERANCE = timedelta(minutes=1)
COLUMNS = {
    "time": "TIMESTAMPTZ",
    "request_id": "VARCHAR",
    "version": "VARCHAR",
    "entity": "VARCHAR",
    "score": "DOUBLE",
    "decision": "BOOLEAN",
    "shadow": "BOOLEAN",
}
"""What every file of the log has, beside `features`, which a server may have been told not to log."""


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


def log_files(prediction_log: str, model: str, window: Window, scratch: Path) -> list[Path]:
    """The files of the log that may hold predictions of the window; none where nothing was served yet.

    Args:
        prediction_log: The log of all models: a folder, or one of an object store.
        model: The model's name.
        window: Which predictions are wanted.
        scratch: Folder that objects are brought to.

    Raises:
        ContractViolation: the log cannot be read.
    """
    try:
        if is_object_store(prediction_log):
            found = _brought(f"{prediction_log.rstrip('/')}/{model}", window, scratch)
        else:
            place = Path(prediction_log) / model
            days = window.days(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
            found = {file for day in days for file in day.iterdir() if file.suffix in (GROWING, FINISHED)}
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise ContractViolation(
            f"The prediction log {prediction_log} of {model} cannot be read: {why:.300}. Let this step read it."
        ) from error
    # A growing file of which there is a finished one is about to go: both hold the same.
    return sorted(file for file in found if file.suffix == FINISHED or file.with_suffix(FINISHED) not in found)


def _brought(log: str, window: Window, scratch: Path) -> set[Path]:
    """The objects of the window's days, as files."""
    # It takes a while to import, and most logs are folders.
    from pyarrow import fs

    store, root = file_system(log)
    entries = store.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    paths = [Path(item.path) for item in entries if item.is_file and Path(item.path).suffix in (GROWING, FINISHED)]
    days = {day.name for day in window.days({path.parent for path in paths})}
    found = set()
    for path in paths:
        if path.parent.name in days:
            file = scratch / "log" / path.parent.name / path.name
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with store.open_input_stream(str(path)) as content, file.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
            except FileNotFoundError:
                # Its age or size had it removed meanwhile.
                file.unlink(missing_ok=True)
                continue
            found.add(file)
    return found


def write_table(
    files: Sequence[Path], inputs: Sequence[Feature], window: Window, table: Path, scratch: Path
) -> LogTable:
    """Read log files and write the window's predictions as Parquet.

    The columns: `time` (UTC), `request_id`, `version`, `entity` (text), `features` (a struct: double or text for each
    of the model's inputs, NULL where missing), `score`, `decision`; oldest first. Shadow predictions, which nobody got
    as an answer, are left out.

    Args:
        files: As `log_files` finds them.
        inputs: The model's inputs.
        window: Which predictions to keep.
        table: The file to write.
        scratch: Folder for what does not fit in memory.

    Returns:
        What was read, and what was not.

    Raises:
        ContractViolation: the log cannot be read, or the table cannot be written.
    """
    try:
        sources, flaws = _readable(files, scratch)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET temp_directory = {_text(scratch / 'duckdb')}")
            _select(connection, sources, inputs, window)
            connection.execute(
                "COPY (SELECT time, request_id, version, entity, features, score, decision FROM predictions WHERE "
                f"place = 'window' ORDER BY time, request_id) TO {_text(table)} (FORMAT parquet, COMPRESSION zstd)"
            )
            return _count(connection, flaws)
    except (duckdb.Error, OSError) as error:
        raise ContractViolation(
            f"The prediction log cannot be read: {str(error).splitlines()[0]:.300}. Mend or move away the file that is "
            "named, and run monitoring again."
        ) from error


@dataclass(frozen=True)
class _Source:
    """A Parquet file that can be read."""

    file: Path
    """What is read."""
    named: Path
    """The file of the log that it comes from."""
    schema: pa.Schema

    def kind(self, feature: str) -> pa.DataType | None:
        """The type of a feature; None where the file does not have it."""
        position = self.schema.get_field_index("features")
        if position < 0:
            return None
        struct = self.schema.field(position).type
        if not pa.types.is_struct(struct):
            return None
        found = [struct[number].type for number in range(struct.num_fields) if struct[number].name == feature]
        return found[0] if found else None


def _readable(files: Sequence[Path], scratch: Path) -> tuple[list[_Source], list[Flaw]]:
    """The files as Parquet, and what is wrong with the others."""
    sources: list[_Source] = []
    flaws: list[Flaw] = []
    scratch.mkdir(parents=True, exist_ok=True)
    for number, named in enumerate(files):
        file = named
        try:
            if named.suffix == GROWING:
                finished = named.with_suffix(FINISHED)
                if not named.exists() and finished.exists():
                    # It was finished since it was found.
                    file = finished
                else:
                    file = scratch / f"{number}{FINISHED}"
                    if not _stream_to_parquet(named, file):
                        flaws.append(Flaw(file=str(named), rows=0, reason="it ends within a batch"))
            schema = parquet.read_schema(file)
        except FileNotFoundError:
            # Its age or size had it removed meanwhile.
            continue
        except pa.ArrowException as error:
            flaws.append(
                Flaw(file=str(named), rows=0, reason=f"it is no file of a log ({str(error).splitlines()[0]:.120})")
            )
            continue
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            flaws.append(Flaw(file=str(named), rows=0, reason=f"it is no file of a log (no {', '.join(missing)})"))
            continue
        sources.append(_Source(file, named, schema))
    return sources, flaws


def _stream_to_parquet(stream: Path, file: Path) -> bool:
    """Write the batches of an Arrow stream as Parquet; whether that is all there was.

    Raises:
        pyarrow.ArrowException: it is no such stream.
    """
    with (
        pa.OSFile(str(stream)) as source,
        pa.ipc.open_stream(source) as reader,
        parquet.ParquetWriter(file, reader.schema) as writer,
    ):
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return True
            except (pa.ArrowException, OSError):
                return False
            writer.write_table(pa.Table.from_batches([batch]))


def _select(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[_Source], inputs: Sequence[Feature], window: Window
) -> None:
    """Make the table `predictions`: each one typed, with the flaw it has and the place it belongs to."""
    connection.execute("CREATE TEMP TABLE names (filename VARCHAR, file VARCHAR)")
    if sources:
        names = [(str(source.file), str(source.named)) for source in sources]
        connection.executemany("INSERT INTO names VALUES (?, ?)", names)
        # By name: another version of the model has other features.
        read = f"read_parquet([{', '.join(_text(name) for name, _ in names)}], union_by_name = true, filename = true)"
        rows = f"(SELECT * FROM {read} JOIN names USING (filename))"
    else:
        columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in COLUMNS.items())
        rows = f"(SELECT {columns}, '' AS file WHERE false)"
    values = ", ".join(f"{_name(item.name)} := {_value(item, sources)}" for item in inputs)
    flaws = "".join(
        f" WHEN {condition} THEN {_text(_flaw(item))}" for item in inputs for condition in _conditions(item, sources)
    )
    typed = ", ".join(f"try_cast({name} AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    connection.execute(
        f"""
        CREATE TEMP TABLE predictions AS
        SELECT
            * EXCLUDE (wrong),
            CASE
                WHEN time IS NULL THEN 'their time is none'
                WHEN version IS NULL THEN 'they have no version'
                WHEN score IS NULL OR NOT score BETWEEN 0 AND 1 THEN 'their score is no probability'
                ELSE wrong
            END AS flaw,
            CASE
                WHEN flaw IS NOT NULL THEN 'broken'
                WHEN coalesce(shadow, false) THEN 'shadow'
                WHEN time > $future THEN 'future'
                WHEN time >= $start AND time < $end THEN 'window'
                ELSE 'outside'
            END AS place
        FROM (
            SELECT file, {typed}, struct_pack({values}) AS features, CASE WHEN false THEN ''{flaws} END AS wrong
            FROM {rows}
        )
        """,
        {"future": max(window.now + CLOCK_TOLERANCE, window.end), "start": window.start, "end": window.end},
    )


def _count(connection: duckdb.DuckDBPyConnection, flaws: Sequence[Flaw]) -> LogTable:
    places = dict(connection.execute("SELECT place, count(*) FROM predictions GROUP BY place").fetchall())
    versions = connection.execute(
        "SELECT version, count(*) FROM predictions WHERE place = 'window' GROUP BY version ORDER BY version"
    ).fetchall()
    entities = connection.execute("SELECT count(DISTINCT entity) FROM predictions WHERE place = 'window'").fetchone()
    examples = connection.execute(
        "SELECT file, count(*), flaw FROM predictions WHERE flaw IS NOT NULL GROUP BY file, flaw "
        "ORDER BY count(*) DESC, file, flaw LIMIT 5"
    ).fetchall()
    assert entities is not None
    found = [*flaws, *(Flaw(file=file, rows=rows, reason=reason) for file, rows, reason in examples)]
    return LogTable(
        rows=places.get("window", 0),
        versions=dict(versions),
        entities=entities[0],
        left_out=LeftOut(**{place: places.get(place, 0) for place in LeftOut.model_fields}),
        broken=Broken(rows=places.get("broken", 0), examples=found[:5]),
    )


def _is_of(item: Feature, kind: pa.DataType) -> bool:
    if item.type == "numeric":
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _value(item: Feature, sources: Sequence[_Source]) -> str:
    kind = "DOUBLE" if item.type == "numeric" else "VARCHAR"
    if all(source.kind(item.name) is None for source in sources):
        return f"NULL::{kind}"
    value = f"try_cast(features.{_name(item.name)} AS {kind})"
    # Not-a-number is missing.
    return f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END" if item.type == "numeric" else value


def _conditions(item: Feature, sources: Sequence[_Source]) -> list[str]:
    """When a row's value of a feature cannot be one: by the type that its file gives it, or by itself."""
    kinds = [(source, source.kind(item.name)) for source in sources]
    other = [_text(source.named) for source, kind in kinds if kind is not None and not _is_of(item, kind)]
    found = [f"(file IN ({', '.join(other)}) AND features.{_name(item.name)} IS NOT NULL)"] if other else []
    if item.type == "numeric" and any(kind is not None for _, kind in kinds):
        found.append(f"abs({_value(item, sources)}) > {LARGEST_NUMBER}")
    return found


def _flaw(item: Feature) -> str:
    return f"their {item.name} is no {'finite number' if item.type == 'numeric' else 'text'}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
