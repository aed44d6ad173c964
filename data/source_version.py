"""A fingerprint of the source, so that a run reads it again exactly when it has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kfp_lifecycle.config.data import Source

FILE_PREFIXES = ("duckdb:///", "file:///", "sqlite:///")


def source_path(url: str) -> Path | None:
    """The local file or folder behind a source's URL; None where there is none."""
    for prefix in FILE_PREFIXES:
        if url.startswith(prefix):
            return Path(url.removeprefix(prefix))
    return None


def local_source(source: Source, project: Path) -> Source:
    """A source whose relative files are named from a project's folder, as its steps on this machine read it."""

    def resolved(url: str) -> str:
        path = source_path(url)
        if path is None or path.is_absolute():
            return url
        prefix = next(prefix for prefix in FILE_PREFIXES if url.startswith(prefix))
        return f"{prefix}{project.resolve() / path}"

    return source.model_copy(
        update={
            "url": resolved(source.url) if source.url is not None else None,
            "connections": {
                name: place.model_copy(update={"url": resolved(place.url)})
                for name, place in source.connections.items()
            },
        }
    )


def source_version(source: Source) -> str:
    """Fingerprint of a source: of path, size and time of change for files, the version for a package's file.

    Returns:
        12 hexadecimal digits. Empty where nothing short of reading the source would tell, as of a database or another
        machine's files, or it is not there: the step that reads it will say so.
    """
    stamps: list[str] = []
    for connection in source.places().values():
        path = source_path(connection.url)
        if path is not None and path.exists():
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            stamps += [f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
        elif connection.url.startswith("package://"):
            stamps.append(connection.url)
        else:
            return ""
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:12]
