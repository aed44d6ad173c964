"""A fingerprint of the source, so that a run reads it again exactly when it has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kfp_lifecycle.config.data import LOCAL_SCHEMES, Source, scheme_of
from kfp_lifecycle.data.locate import locate
from kfp_lifecycle.runtime.contract import ContractViolation

LOG_SUFFIXES = (".wal", "-wal", "-journal")


def source_path(url: str) -> Path | None:
    """The local file or folder behind a source's URL; None where there is none, or the URL leads nowhere.

    A package's file is none: it is told apart by its content.
    """
    scheme = scheme_of(url)
    if scheme == "package" or scheme not in LOCAL_SCHEMES:
        return None
    try:
        return locate(url)
    except ContractViolation:
        return None


def in_full(url: str, folder: Path) -> str:
    """A URL whose relative file is named from a folder; others stay as they are."""
    path = source_path(url)
    return url if path is None or path.is_absolute() else f"{scheme_of(url)}:///{folder.resolve() / path}"


def local_source(source: Source, project: Path) -> Source:
    """A source whose relative files are named from a project's folder, as its steps on this machine read it."""
    return source.model_copy(
        update={
            "url": in_full(source.url, project) if source.url is not None else None,
            "connections": {
                name: place.model_copy(update={"url": in_full(place.url, project)})
                for name, place in source.connections.items()
            },
        }
    )


def source_version(source: Source) -> str:
    """Fingerprint of a source: of its files' sizes and times of change, and of the content of a package's file.

    Returns:
        12 hexadecimal digits. Empty where nothing short of reading the source would tell, as of a database or another
        machine's files, or it is not there: the step that reads it will say so.
    """
    stamps: list[str] = []
    for connection in source.places().values():
        path = source_path(connection.url)
        if path is not None and path.exists():
            files = sorted(path.rglob("*")) if path.is_dir() else [path, *_logs(path)]
            stamps += [_stamp(file) for file in files]
        elif scheme_of(connection.url) == "package":
            try:
                stamps += [connection.url, _digest(locate(connection.url))]
            except (ContractViolation, OSError):
                return ""
        else:
            return ""
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:12]


def _logs(database: Path) -> list[Path]:
    """What a database has not written into its own file yet: DuckDB's log, SQLite's log or journal."""
    return [log for suffix in LOG_SUFFIXES if (log := database.with_name(database.name + suffix)).exists()]


def _stamp(file: Path) -> str:
    state = file.stat()
    # The time of the last change to the file's record, too: a copy may be given the times of its original.
    return f"{file}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def _digest(place: Path) -> str:
    """Of content, since an installed package's files have the times of its installation."""
    digest = hashlib.sha256()
    for file in sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
