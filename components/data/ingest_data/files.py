"""Files of a source: on this machine, in an installed package, or fetched from another machine by fsspec."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from kfp_lifecycle.config.data import Connection, SourceFormat
from kfp_lifecycle.connections.retries import Deadline, failure, in_time, persistently
from kfp_lifecycle.connections.secrets import Revealed
from kfp_lifecycle.runtime.contract import ContractViolation

SUFFIXES = {
    ".duckdb": SourceFormat.duckdb,
    ".db": SourceFormat.duckdb,
    ".parquet": SourceFormat.parquet,
    ".csv": SourceFormat.csv,
    ".jsonl": SourceFormat.jsonl,
    ".ndjson": SourceFormat.jsonl,
    ".xlsx": SourceFormat.xlsx,
    ".txt": SourceFormat.text,
    ".log": SourceFormat.text,
}
COMPRESSED = ".gz"


def format_of(place: Connection) -> SourceFormat:
    """How a place's files are read: as it says, or as its URL ends.

    Raises:
        ContractViolation: it says nothing, and its URL ends like nothing that is known.
    """
    if place.format:
        return place.format
    if place.url.startswith("duckdb://"):
        return SourceFormat.duckdb
    suffix = PurePosixPath(place.url.partition("?")[0].removesuffix(COMPRESSED)).suffix.lower()
    if suffix not in SUFFIXES:
        raise ContractViolation(
            f"{place.url} does not say what its files are. Name it with format in pipeline.yaml: "
            f"{', '.join(SourceFormat)}."
        )
    return SUFFIXES[suffix]


def table_files(location: Path, url: str, table: str, form: SourceFormat) -> list[Path]:
    """The files of a table: the one that the URL names, or `<table>.<format>` or all in `<table>/` of its folder.

    Raises:
        ContractViolation: there is none, or a link leads out of the folder.
    """
    if location.is_file():
        return [location]
    names = [f"{table}.{form.value}", f"{table}.{form.value}{COMPRESSED}"]
    files = [location / name for name in names if (location / name).is_file()]
    folder = location / table
    if folder.is_dir():
        found = [(path.name, path.is_dir()) for path in sorted(folder.iterdir())]
        files += [folder / name for name in parts_of(found, f"{url}, {table}/", form)]
    _check_one_place(files, {file.parent for file in files} == {folder}, url, table)
    if not files:
        raise ContractViolation(
            f"{url} has no file {names[0]} for the table {table}; "
            f"{nearest(names[0], [path.name for path in location.iterdir()])}. Add it, or correct "
            "source.tables in pipeline.yaml."
        )
    for file in files:
        if not file.resolve().is_relative_to(location.resolve()):
            raise ContractViolation(
                f"{url} holds {file.name} for the table {table}, which is a link out of that folder. Put the file "
                "itself there, or name where it is with a connection of its own in pipeline.yaml."
            )
    return files


def parts_of(found: Iterable[tuple[str, bool]], where: str, form: SourceFormat) -> list[str]:
    """The names of a table's parts in its folder.

    Args:
        found: What is in the folder: each name, and whether it is a folder.
        where: The folder, for messages.

    Raises:
        ContractViolation: something else is beside them: what is left of an unfinished write, a copy, a folder. Names
            that begin with a dot or an underscore are notes of the program that wrote the parts.
    """
    endings = (f".{form.value}", f".{form.value}{COMPRESSED}")
    known = [(name, is_folder) for name, is_folder in found if not name.startswith((".", "_"))]
    parts = [name for name, is_folder in known if name.endswith(endings) and not is_folder]
    others = [name for name, is_folder in known if name not in parts or is_folder]
    if parts and others:
        raise ContractViolation(
            f"{where} holds {', '.join(others)[:200]} beside the parts of a table, which all end with "
            f"{' or '.join(endings)}: is a write unfinished, or is it a copy? Finish it, or take it out of the folder."
        )
    twice = sorted({name for name in parts if f"{name}{COMPRESSED}" in parts})
    if twice:
        raise ContractViolation(
            f"{where} holds {twice[0]} and {twice[0]}{COMPRESSED}: the same rows twice? Take one out of the folder."
        )
    return parts


def _check_one_place(files: Sequence[object], are_parts: bool, where: str, table: str) -> None:
    """Refuse a table that is there twice: as a file and compressed, or as a file and as a folder of parts."""
    if len(files) > 1 and not are_parts:
        raise ContractViolation(
            f"{where} holds the table {table} more than once: as a file, compressed, or as a folder of parts. Leave "
            "one of them there."
        )


def fetch(place: Connection, where: Revealed, table: str, form: SourceFormat, folder: Path) -> list[Path]:
    """Copy a table's files from another machine into a folder, again when the connection was dropped.

    Raises:
        ContractViolation: there is none, or it cannot be read. It names no secret.
    """
    deadline = Deadline(place.timeout_seconds)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return persistently(
            lambda: list(in_time(lambda: _copies(where.url, table, form, folder), deadline)),
            place.attempts,
            deadline,
            where.hide,
        )
    except ContractViolation:
        raise
    except Exception as error:
        # Not chained: an error may hold the URL with its secrets, and a log shows the whole chain.
        raise ContractViolation(failure(place, where, f"table {table}", error)) from None


def _copies(url: str, table: str, form: SourceFormat, folder: Path) -> Iterator[Path]:
    import fsspec

    files, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    for remote in _remote_files(files, root, table, form):
        local = folder / PurePosixPath(remote.partition("?")[0]).name
        files.get_file(remote, str(local))
        # A web server may name the size of what it sends compressed, and its client notices itself when less comes.
        size = None if "http" in files.protocol else files.info(remote).get("size")
        if size is not None and local.stat().st_size != size:
            raise ConnectionError(f"incomplete read: {local.stat().st_size:,} of {size:,} bytes of {local.name} came")
        yield local


def _remote_files(files: object, root: str, table: str, form: SourceFormat) -> list[str]:
    from fsspec import AbstractFileSystem

    assert isinstance(files, AbstractFileSystem)
    if not root.endswith("/") and ("http" in files.protocol or files.isfile(root)):
        return [root]
    base = root.rstrip("/")
    folder = posixpath.join(base, table)
    names = (f"{table}.{form.value}", f"{table}.{form.value}{COMPRESSED}")
    single = [posixpath.join(base, name) for name in names if files.isfile(posixpath.join(base, name))]
    parts: list[str] = []
    if files.isdir(folder):
        listed = [
            (PurePosixPath(each["name"]).name, each["type"] == "directory") for each in files.ls(folder, detail=True)
        ]
        # An object store's folder may be listed as an empty object of its own.
        listed = [(name, is_folder) for name, is_folder in sorted(listed) if name != table]
        parts = [posixpath.join(folder, name) for name in parts_of(listed, f"{table}/", form)]
    _check_one_place([*single, *parts], not single, "the source", table)
    if single or parts:
        return single or parts
    raise FileNotFoundError(f"there is no {table}.{form.value}, nor a folder {table} of such files")


def nearest(name: str, known: Iterable[str]) -> str:
    """What there is instead of a name that is missing: the most similar, or the whole list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did a migration rename it? It has {close[0]}"
    return f"it has {', '.join(names) or 'none at all'}"
