"""Files of the prediction log: which may hold predictions of a window, and which of them can be read.

They are Parquet, and Arrow streams while their server still writes them, or where it was killed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER
from kfp_lifecycle.artifacts.prediction_log import FINISHED, GROWING
from kfp_lifecycle.artifacts.predictions import Flaw
from kfp_lifecycle.config.run_parameters import window_end
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.connections.object_store import file_system, is_object_store
from kfp_lifecycle.runtime.contract import ContractViolation

COLUMNS = {
    "time": "TIMESTAMPTZ",
    "request_id": "VARCHAR",
    "version": "VARCHAR",
    "entity": "VARCHAR",
    "score": "DOUBLE",
    "decision": "BOOLEAN",
    "shadow": "BOOLEAN",
}
"""What every file of the log has, beside `features`, which a server may have been told not to log, and `caller`."""
# What such columns of a Parquet file hold is no number that is too large for a model.
SMALL = ("INT32", "INT64", "BOOLEAN", "BYTE_ARRAY")


@dataclass(frozen=True)
class Span:
    """A span of time, the start included, the end not; both in UTC."""

    start: datetime
    end: datetime

    def days(self, folders: Iterable[Path]) -> list[Path]:
        """Of a log's folders those whose predictions are looked at."""
        wanted = []
        for folder in folders:
            try:
                day = date.fromisoformat(folder.name)
            except ValueError:
                continue
            if self.wants(day):
                wanted.append(folder)
        return sorted(wanted)

    def wants(self, day: date) -> bool:
        """Whether predictions of a day are looked at."""
        return self.start.date() <= day <= self.end.date()


@dataclass(frozen=True)
class Window(Span):
    """A span whose predictions are judged, beside those of a clock that is ahead, which are told."""

    now: datetime
    """This machine's time: a later prediction comes from a clock that is wrong."""

    def wants(self, day: date) -> bool:
        """Whether predictions of a day are looked at: days that have not come, too."""
        return super().wants(day) or day > self.now.date()


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
        end = window_end(as_of) or now.astimezone(UTC)
    except ValueError as error:
        raise ContractViolation(str(error)) from error
    # In whole seconds, as it is written down: whoever asks for that end again gets the same window.
    end = end.replace(microsecond=0)
    return Window(end - timedelta(days=days), end, now.astimezone(UTC))


def log_files(prediction_log: str, model: str, span: Span, scratch: Path) -> list[Path]:
    """The files of the log that may hold predictions of a span; none where nothing was served yet.

    Args:
        prediction_log: The log of all models: a folder, or one of an object store.
        model: The model's name.
        span: Which predictions are wanted.
        scratch: Folder that objects are brought to.

    Raises:
        ContractViolation: the log cannot be read.
    """
    try:
        if is_object_store(prediction_log):
            found = _brought(f"{prediction_log.rstrip('/')}/{model}", span, scratch)
        else:
            place = Path(prediction_log) / model
            days = span.days(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
            found = {
                file for day in days for file in day.iterdir() if file.suffix in (GROWING, FINISHED) and file.is_file()
            }
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise ContractViolation(
            f"The prediction log {prediction_log} of {model} cannot be read: {why:.300}. Let this step read it."
        ) from error
    # A growing file of which there is a finished one is about to go: both hold the same.
    return sorted(file for file in found if file.suffix == FINISHED or file.with_suffix(FINISHED) not in found)


def _brought(log: str, span: Span, scratch: Path) -> set[Path]:
    """The objects of the span's days, as files."""
    # It takes a while to import, and most logs are folders.
    from pyarrow import fs

    store, root = file_system(log)
    entries = store.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    paths = [Path(item.path) for item in entries if item.is_file and Path(item.path).suffix in (GROWING, FINISHED)]
    days = {day.name for day in span.days({path.parent for path in paths})}
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


@dataclass(frozen=True)
class Source:
    """A file of the log that can be read, as Parquet."""

    file: Path
    """What is read."""
    named: Path
    """The file of the log that it comes from."""
    schema: pa.Schema
    keyed: bool
    """Whether every row names an entity, by the file's own statistics."""
    doubtful: frozenset[str]
    """Features of which a number may be too large for a model, by the same."""

    @property
    def has_features(self) -> bool:
        """Whether its server logged features."""
        return "features" in self.schema.names

    @property
    def has_callers(self) -> bool:
        """Whether its server logged who asked."""
        return "caller" in self.schema.names

    @cached_property
    def kinds(self) -> dict[str, pa.DataType]:
        """The type of each feature that the file has, by name."""
        features = self.schema.field("features").type if self.has_features else pa.null()
        return {field.name: field.type for field in features} if pa.types.is_struct(features) else {}


def readable(files: Sequence[Path], scratch: Path, thoroughly: bool = False) -> tuple[list[Source], list[Flaw]]:
    """Open the files of a log, growing ones as a copy in Parquet.

    Args:
        files: As `log_files` finds them.
        scratch: Folder for the copies.
        thoroughly: Every value is read, too: a file's end may be whole and its middle not.

    Returns:
        Those that can be read, and what is wrong with the others.
    """
    sources: list[Source] = []
    flaws: list[Flaw] = []
    scratch.mkdir(parents=True, exist_ok=True)
    for number, named in enumerate(files):
        file = named
        try:
            if named.suffix == GROWING:
                finished = named.with_suffix(FINISHED)
                if named.exists() and not named.stat().st_size:
                    # Its server has only just begun it, or was killed then.
                    continue
                if not named.exists() and finished.exists():
                    # It was finished since it was found.
                    file = finished
                else:
                    file = scratch / f"{number}{FINISHED}"
                    if not _stream_to_parquet(named, file):
                        flaws.append(Flaw(file=str(named), rows=0, reason="it ends within a batch"))
            metadata = parquet.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
            if thoroughly:
                _read_whole(file)
        except FileNotFoundError:
            # Its age or size had it removed meanwhile.
            continue
        except (pa.ArrowException, OSError) as error:
            if not isinstance(error, pa.ArrowException) and not thoroughly:
                raise
            flaws.append(Flaw(file=str(named), rows=0, reason=f"it is no file of a log ({first_line(error):.120})"))
            continue
        if other := _unlike_a_log(schema):
            flaws.append(Flaw(file=str(named), rows=0, reason=f"it is no file of a log ({other})"))
            continue
        # A session reaches files by where they are, and not by a link to it.
        sources.append(Source(file.resolve(), named, schema, *_told(metadata)))
    return sources, flaws


def _read_whole(file: Path) -> None:
    """Read every value of a file.

    Raises:
        pyarrow.ArrowException, OSError: it is damaged.
    """
    with parquet.ParquetFile(file) as opened:
        for _ in opened.iter_batches():
            pass


def _unlike_a_log(schema: pa.Schema) -> str:
    """What a file has otherwise than every file of the log, in words; empty where nothing is."""
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        return f"no {', '.join(missing)}"
    values = [field for field in schema if field.name in (*COLUMNS, "caller", "hold_out")]
    features = schema.field("features").type if "features" in schema.names else pa.null()
    if pa.types.is_struct(features):
        values += list(features)
    elif not pa.types.is_null(features):
        return f"its features are {features}"
    return next((f"its {field.name} is {field.type}" for field in values if pa.types.is_nested(field.type)), "")


def _told(metadata: parquet.FileMetaData) -> tuple[bool, frozenset[str]]:
    """What a file's statistics say of all its rows: whether each names an entity, and which features may hold a number
    that is too large."""
    keyed, doubtful = True, set()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name = column.path_in_schema
            if name == "entity":
                keyed &= column.is_stats_set and column.statistics.null_count == 0
            elif name.startswith("features.") and column.physical_type not in SMALL and not _is_bounded(column):
                doubtful.add(name.removeprefix("features."))
    return keyed, frozenset(doubtful)


def _is_bounded(column: parquet.ColumnChunkMetaData) -> bool:
    """Whether no number of a column is too large for a model; not-a-number, which no statistics know, is none."""
    if column.physical_type not in ("FLOAT", "DOUBLE") or not column.is_stats_set:
        return False
    told = column.statistics
    if told.has_min_max:
        return bool(told.min >= -LARGEST_NUMBER and told.max <= LARGEST_NUMBER)
    return bool(told.num_values == 0)


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
