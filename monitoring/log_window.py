"""Window of the prediction log: one typed row for each entity and version; whatever else was found is counted.

Nobody decides by asking often. Of an entity the newest prediction counts; requests without one are told apart by their
features. Two passes over the columns: the first decides which rows count, in memory that grows with entities and not
with features; the second fetches them, at most `LARGEST_SAMPLE` of a version. The first reads no features of a file
whose own statistics settle that every row names an entity, and that no number is too large.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TypeVar

import duckdb

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.artifacts.predictions import Broken, Flaw, LeftOut, LogTable, ServedVersion
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import database
from kfp_lifecycle.monitoring.log_files import COLUMNS, Source, Window, readable
from kfp_lifecycle.runtime.contract import ContractViolation

# A server's clock may be this far ahead of this machine's.
CLOCK_TOLERANCE = timedelta(minutes=1)
LARGEST_SAMPLE = 100_000
"""Rows of a version in the table, about: more make no distribution clearer."""
PROBE_REQUESTS = 10
"""Requests without an entity that bring the same features so often come from a probe, not from so many customers."""
ROWS_AT_ONCE = 50_000
MEMORY = "1GB"
"""What DuckDB may hold before it spills to disk."""
KEY_OF_ENTITY = "hash('entity', try_cast(entity AS VARCHAR))"
Found = TypeVar("Found")
FIELDS = ("time", "request_id", "version", "entity", "features", "score", "decision", "requests", "probe", "caller")


def write_table(log: OpenLog, inputs: Sequence[Feature], window: Window, table: Path) -> LogTable:
    """Read a log and write the window's predictions as Parquet, each entity once for each version.

    The columns: `time` (UTC), `request_id`, `version`, `entity` (text), `features` (a struct: double or text for each
    of the inputs, NULL where missing), `score`, `decision`, `requests` (how many predictions the row stands for),
    `probe` (see `PROBE_REQUESTS`), `caller` (who asked, as the log names it; NULL where it does not); oldest first.
    Where more than `LARGEST_SAMPLE` rows of a version count, those are written whose keys have the smallest digests:
    the same entities in each window, whatever was asked about them.
    Shadow predictions, which nobody got as an answer, are left out.

    Args:
        log: Opened to write to the table's folder.
        inputs: The inputs of the models that served.
        window: Which predictions to keep.
        table: The file to write.

    Returns:
        What was read, and what was not.
    """
    connection = log.connection
    settled = [_is_settled(source, inputs) for source in log.sources]
    sources = [*compress(log.sources, settled), *compress(log.sources, map(not_, settled))]
    _decide(connection, sources, sum(settled), inputs, window)
    versions = _versions(connection)
    _pick(connection, versions)
    columns = {"requests": "picked.requests", "probe": "picked.probe", **_columns(sources, inputs)}
    rows = f"{_rows(sources)} JOIN picked ON {_place()} = picked.place" if sources else "picked"
    place = literal(str(table.parent.resolve() / table.name))
    connection.execute(
        f"COPY (SELECT {', '.join(f'{columns[name]} AS {name}' for name in FIELDS)} FROM {rows} "
        f"ORDER BY time, request_id, picked.place) TO {place} (FORMAT parquet, COMPRESSION zstd)"
    )
    return _counted(connection, sources, log.flaws, versions)


@dataclass(frozen=True)
class OpenLog:
    """Files of the log that SQL can read."""

    connection: duckdb.DuckDBPyConnection
    sources: Sequence[Source]
    flaws: Sequence[Flaw]
    """Files that are none of the log, or end within a batch."""


def read_log(
    files: Sequence[Path], scratch: Path, read: Callable[[OpenLog], Found], writable: Path | None = None
) -> Found:
    """What is found in a log, whatever becomes of its files meanwhile.

    A file may be damaged where only reading all of it tells, and its age or size may have it removed. So where reading
    fails, each file is read alone, and all is read once more without those that cannot be.

    Args:
        files: As `log_files` finds them.
        scratch: Folder for what does not fit in memory.
        read: What is asked of the log; it may be asked twice.
        writable: Folder that it may write to.

    Raises:
        ContractViolation: it fails however often it is tried.
    """
    try:
        with open_log(files, scratch, writable) as log:
            return read(log)
    except (duckdb.Error, OSError):
        try:
            with open_log(files, scratch, writable, thoroughly=True) as log:
                return read(log)
        except (duckdb.Error, OSError) as error:
            raise ContractViolation(
                f"The prediction log cannot be read: {first_line(error):.300}. Mend or move away the file that is "
                "named, and run monitoring again."
            ) from error


@contextlib.contextmanager
def open_log(
    files: Sequence[Path], scratch: Path, writable: Path | None = None, thoroughly: bool = False
) -> Iterator[OpenLog]:
    """A session over those files of the log that can be read, which may also write to a folder.

    Raises:
        duckdb.Error, OSError: a file cannot be opened.
    """
    sources, flaws = readable(files, scratch, thoroughly)
    named = [source.file for source in sources]
    with database(readable=named, writable=writable, memory=MEMORY, ordered=False) as connection:
        yield OpenLog(connection, sources, flaws)


def served_versions(log: OpenLog, window: Window) -> list[str]:
    """The versions that gave answers in the window, before anything else is known of them."""
    if not log.sources:
        return []
    found = log.connection.execute(
        f"SELECT DISTINCT version::VARCHAR FROM {_rows(log.sources)} WHERE version IS NOT NULL AND "
        "NOT coalesce(try_cast(shadow AS BOOLEAN), false) "
        "AND try_cast(time AS TIMESTAMPTZ) >= $start AND try_cast(time AS TIMESTAMPTZ) < $end ORDER BY ALL",
        {"start": window.start, "end": window.end},
    ).fetchall()
    return [version for (version,) in found]


def hand_on_features(
    files: Sequence[Path],
    inputs: Sequence[Feature],
    asked: pa.Table,
    scratch: Path,
    take: Callable[[pa.RecordBatch], None],
) -> bool:
    """Hand on what was logged of the features of some predictions, part by part: memory does not grow with them.

    Args:
        files: As `log_files` finds them.
        inputs: The features that are wanted.
        asked: `place` (a whole number), `version`, `entity` and `time` of each prediction.
        scratch: Folder for what does not fit in memory.
        take: Is given some predictions after the others, in any order: `place`, and a column for each input, NULL where
            missing. A prediction that the log no longer has is not among them; where reading fails, all are given anew.

    Returns:
        Whether any of the features was logged.

    Raises:
        ContractViolation: the log cannot be read.
    """

    def read(log: OpenLog) -> bool:
        sources, connection = log.sources, log.connection
        if all(item.name not in source.kinds for source in sources for item in inputs):
            return False
        connection.register("asked", asked)
        columns = _columns(sources, inputs)
        keys = ", ".join(f"{columns[name]} AS {name}" for name in ("version", "entity", "time"))
        connection.execute(
            f"CREATE TEMP TABLE found AS SELECT asked.place, min(logged.at) AS at FROM asked "
            f"JOIN (SELECT {keys}, {_place()} AS at FROM {_rows(sources)}) AS logged USING (version, entity, time) "
            "GROUP BY asked.place"
        )
        values = ", ".join(f"{_value(item, sources)} AS {quoted(item.name)}" for item in inputs)
        batches = connection.sql(
            f"SELECT found.place, {values} FROM {_rows(sources)} JOIN found ON {_place()} = found.at"
        ).to_arrow_reader(ROWS_AT_ONCE)
        for batch in batches:
            take(batch)
        return True

    return read_log(files, scratch, read)


def _rows(sources: Sequence[Source]) -> str:
    """The rows of all files: by name, since another version of the model has other features."""
    files = ", ".join(literal(str(source.file)) for source in sources)
    return f"read_parquet([{files}], union_by_name = true, file_row_number = true)"


def _place(first: int = 0) -> str:
    """A row's place in the log as one number: its file's, counted on from the first that is read, and its own in it."""
    return f"(file_index::BIGINT + {first}) * 1099511627776 + file_row_number"


def _is_settled(source: Source, inputs: Sequence[Feature]) -> bool:
    """Whether it can be decided which rows of a file count without reading their features."""
    given = [item for item in inputs if item.name in source.kinds]
    return source.keyed and all(
        _is_of(item, source.kinds[item.name]) and item.name not in source.doubtful for item in given
    )


def _columns(sources: Sequence[Source], inputs: Sequence[Feature]) -> dict[str, str]:
    """Each column of the log, typed."""
    if not sources:
        values = ", ".join(f"{quoted(item.name)} := NULL::{_duckdb_type(item)}" for item in inputs)
        nothing = {name: f"NULL::{kind}" for name, kind in COLUMNS.items()}
    else:
        values = ", ".join(f"{quoted(item.name)} := {_value(item, sources)}" for item in inputs)
        nothing = {name: f"try_cast({name} AS {kind})" for name, kind in COLUMNS.items()}
    # Servers of before did not say who asked.
    caller = "try_cast(caller AS VARCHAR)" if any(source.has_callers for source in sources) else "NULL::VARCHAR"
    return {**nothing, "features": f"struct_pack({values})", "caller": caller}


def _decide(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    settled: int,
    inputs: Sequence[Feature],
    window: Window,
) -> None:
    """Make the table `counted`: a row for each version and entity of the window, with its newest prediction's place;
    and one for each reason to leave predictions out. So many of the first files are settled."""
    if not sources:
        connection.execute(
            "CREATE TEMP TABLE counted (fate VARCHAR, flaw VARCHAR, file BIGINT, version VARCHAR, key UBIGINT, "
            "kind VARCHAR, newest HUGEINT, first TIMESTAMPTZ, last TIMESTAMPTZ, requests BIGINT)"
        )
        return
    rows = []
    if settled:
        rows.append(_keys(sources[:settled], 0, "'entity'", KEY_OF_ENTITY, "NULL::VARCHAR"))
    if others := sources[settled:]:
        without = [position for position, source in enumerate(others) if not source.has_features]
        featureless = f"file_index IN ({', '.join(map(str, without))})" if without else "false"
        values = "".join(f", {_value(item, others)}" for item in inputs)
        kind = f"CASE WHEN entity IS NOT NULL THEN 'entity' WHEN {featureless} THEN 'nothing' ELSE 'features' END"
        key = (
            f"CASE WHEN entity IS NOT NULL THEN {KEY_OF_ENTITY} "
            f"WHEN {featureless} THEN hash('place', {_place(settled)}) ELSE hash('features'{values}) END"
        )
        rows.append(_keys(others, settled, kind, key, _wrong(others, inputs)))
    connection.execute(
        f"""
        CREATE TEMP TABLE counted AS
        SELECT
            fate,
            CASE WHEN fate = 'broken' THEN flaw END AS flaw,
            CASE WHEN fate = 'broken' THEN file END AS file,
            CASE WHEN fate = 'window' THEN version END AS version,
            CASE WHEN fate = 'window' THEN key END AS key,
            CASE WHEN fate = 'window' THEN kind END AS kind,
            -- The latest; of several at once, the last one that was written.
            max(epoch_us(time)::HUGEINT * 18446744073709551616 + place) AS newest,
            min(time) AS first,
            max(time) AS last,
            count(*) AS requests
        FROM (
            SELECT
                *,
                CASE
                    WHEN time IS NULL THEN 'their time is none'
                    WHEN version IS NULL THEN 'they have no version'
                    -- A file's statistics know no not-a-number, and DuckDB takes them for all that there is.
                    WHEN score IS NULL OR isnan(score) OR NOT score BETWEEN 0 AND 1 THEN 'their score is no probability'
                    ELSE wrong
                END AS flaw,
                CASE
                    WHEN flaw IS NOT NULL THEN 'broken'
                    WHEN coalesce(shadow, false) THEN 'shadow'
                    WHEN time > $future THEN 'future'
                    WHEN time >= $start AND time < $end THEN 'window'
                    ELSE 'outside'
                END AS fate,
            FROM ({" UNION ALL ".join(rows)})
        )
        GROUP BY ALL
        """,
        {"future": max(window.now + CLOCK_TOLERANCE, window.end), "start": window.start, "end": window.end},
    )


def _keys(sources: Sequence[Source], first: int, kind: str, key: str, wrong: str) -> str:
    """Of each row of some files where it is, what it is told apart by, and what is wrong with its features."""
    typed = ", ".join(f"try_cast({name} AS {type_}) AS {name}" for name, type_ in COLUMNS.items())
    return (
        f"SELECT file_index::BIGINT + {first} AS file, {_place(first)} AS place, {typed}, {kind} AS kind, "
        f"{key} AS key, {wrong} AS wrong FROM {_rows(sources)}"
    )


def _versions(connection: duckdb.DuckDBPyConnection) -> list[ServedVersion]:
    """What each version served, the first to answer first."""
    found = connection.execute(
        "SELECT version, sum(requests)::BIGINT, count(*), count(*) FILTER (kind = 'entity'), min(first) AS began, "
        "max(last) FROM counted WHERE fate = 'window' GROUP BY version ORDER BY began, version"
    ).fetchall()
    return [
        ServedVersion(
            version=version, predictions=predictions, counted=counted, entities=entities, first=first, last=last
        )
        for version, predictions, counted, entities, first, last in found
    ]


def _pick(connection: duckdb.DuckDBPyConnection, versions: Sequence[ServedVersion]) -> None:
    """Make the table `picked`: the places of the rows to write."""
    connection.execute("CREATE TEMP TABLE shares (version VARCHAR, largest UBIGINT)")
    for served in versions:
        largest = (2**64 - 1) * min(LARGEST_SAMPLE, served.counted) // served.counted
        connection.execute("INSERT INTO shares VALUES (?, ?)", (served.version, largest))
    connection.execute(
        f"""
        CREATE TEMP TABLE picked AS
        SELECT
            (newest % 18446744073709551616)::BIGINT AS place,
            requests,
            kind = 'features' AND requests >= {PROBE_REQUESTS} AS probe,
        FROM counted JOIN shares USING (version)
        WHERE fate = 'window' AND key <= largest
        """
    )


def _counted(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    flaws: Sequence[Flaw],
    versions: list[ServedVersion],
) -> LogTable:
    """What the log held."""
    fates = dict(connection.execute("SELECT fate, sum(requests)::BIGINT FROM counted GROUP BY fate").fetchall())
    again = dict(
        connection.execute(
            "SELECT kind, sum(requests - 1)::BIGINT FROM counted WHERE fate = 'window' GROUP BY kind"
        ).fetchall()
    )
    [(rows, probes)] = connection.execute("SELECT count(*), count(*) FILTER (probe) FROM picked").fetchall()
    examples = connection.execute(
        "SELECT file, requests, flaw FROM counted WHERE fate = 'broken' ORDER BY requests DESC, file, flaw LIMIT 5"
    ).fetchall()
    found = [*flaws, *(Flaw(file=str(sources[file].named), rows=count, reason=why) for file, count, why in examples)]
    return LogTable(
        predictions=fates.get("window", 0),
        rows=rows,
        versions=versions,
        probes=probes,
        left_out=LeftOut(
            repeated=again.get("entity", 0),
            identical=again.get("features", 0),
            unsampled=sum(served.counted for served in versions) - rows,
            **{fate: fates.get(fate, 0) for fate in ("shadow", "outside", "future")},
        ),
        broken=Broken(files=len(flaws), rows=fates.get("broken", 0), examples=found[:5]),
    )


def _duckdb_type(item: Feature) -> str:
    return "DOUBLE" if item.type == "numeric" else "VARCHAR"


def _is_of(item: Feature, kind: pa.DataType) -> bool:
    if item.type == "numeric":
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _given(item: Feature, sources: Sequence[Source]) -> str:
    """A feature as it was logged, in its type; most need no conversion, which costs as much as reading them."""
    value = f"features.{quoted(item.name)}"
    logged = {kind for kind in (source.kinds.get(item.name) for source in sources) if kind is not None}
    as_it_is = pa.float64() if item.type == "numeric" else pa.string()
    return value if logged == {as_it_is} else f"try_cast({value} AS {_duckdb_type(item)})"


def _value(item: Feature, sources: Sequence[Source]) -> str:
    """A feature, typed; not-a-number is missing."""
    kind = _duckdb_type(item)
    if all(item.name not in source.kinds for source in sources):
        return f"NULL::{kind}"
    value = _given(item, sources)
    return f"CASE WHEN NOT isnan({value}) THEN {value} END" if item.type == "numeric" else value


def _wrong(sources: Sequence[Source], inputs: Sequence[Feature]) -> str:
    """What is wrong with a row's features: a value that cannot be one, by the type that its file gives it or by itself.

    NULL where nothing is. Which number is too large is asked of the rows that have one.
    """
    flaws, numbers, largest = [], [], []
    for item in inputs:
        kinds = [source.kinds.get(item.name) for source in sources]
        told = literal(f"their {item.name} is no {'finite number' if item.type == 'numeric' else 'text'}")
        other = [str(number) for number, kind in enumerate(kinds) if kind is not None and not _is_of(item, kind)]
        if other:
            condition = f"file_index IN ({', '.join(other)}) AND features.{quoted(item.name)} IS NOT NULL"
            flaws.append(f"WHEN {condition} THEN {told}")
        if item.type == "numeric" and any(item.name in source.doubtful for source in sources):
            numbers.append(f"abs({_given(item, sources)})")
            largest.append(f"WHEN abs({_value(item, sources)}) > {LARGEST_NUMBER} THEN {told}")
    if largest:
        # DuckDB takes not-a-number for the greatest.
        greatest = f"greatest({', '.join(numbers)})" if len(numbers) > 1 else numbers[0]
        flaws.append(f"WHEN {greatest} > {LARGEST_NUMBER} THEN CASE {' '.join(largest)} END")
    return f"CASE {' '.join(flaws)} END" if flaws else "NULL::VARCHAR"
