"""Where the prediction log is kept: a folder, which grows in place, or an object store, which takes whole files.

What cannot be there at once waits in a spool on this machine's own disk. A spool is locked while its server lives; the
next server on the machine adopts what a killed one left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from kfp_lifecycle.artifacts.prediction_log import DAYS, FINISHED, GROWING
from kfp_lifecycle.connections.object_store import file_system, is_object_store

UNFINISHED = ".unfinished"
"""A name that no reader looks for, until the file is whole."""


class Storage(Protocol):
    """Keeps the log of one model."""

    name: str

    @property
    def folder(self) -> Path | None:
        """Where files may grow; None where only whole ones can be brought."""

    def bring(self, file: Path) -> None:
        """Move a file to the folder of its day; it appears there whole.

        Raises:
            OSError: it cannot be brought; it stays where it is.
        """

    def prune(self, oldest: str, most_bytes: int) -> int:
        """Remove files of days before one and, the oldest first, what is more than the log may hold.

        Args:
            oldest: The first day that is kept, as its folder is called.
            most_bytes: How much it may hold. What still grows is counted and not removed.

        Returns:
            How many files were removed.

        Raises:
            OSError: it cannot be read.
        """


class FolderStorage:
    """A folder of this machine, a volume or a mounted bucket."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder = str(folder), folder

    def bring(self, file: Path) -> None:
        """Copy it under another name first."""
        place = self.folder / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        coming = place / f"{file.stem}{UNFINISHED}"
        try:
            shutil.copyfile(file, coming)
            coming.replace(place / file.name)
        except OSError:
            with contextlib.suppress(OSError):
                coming.unlink()
            raise
        file.unlink()

    def prune(self, oldest: str, most_bytes: int) -> int:
        """Remove files, and folders that are empty then."""
        removed = []
        for path in surplus(_sizes(self.folder), oldest, most_bytes):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / path).unlink()
                removed.append(self.folder / path)
        for place in {file.parent for file in removed}:
            # Another writer may have begun a file in it, or removed it too.
            with contextlib.suppress(OSError):
                place.rmdir()
        return len(removed)


class ObjectStorage:
    """A folder of an object store."""

    folder = None

    def __init__(self, location: str) -> None:
        """Open the store, which need not answer yet."""
        self.name = location
        self._store, self._root = file_system(location, writing=True)

    def bring(self, file: Path) -> None:
        """Put it as one object, of which nobody sees a part."""
        with _as_os_error():
            content = file.read_bytes()
            with self._store.open_output_stream(f"{self._root}/{file.parent.name}/{file.name}") as stream:
                stream.write(content)
        file.unlink()

    def prune(self, oldest: str, most_bytes: int) -> int:
        """Remove objects."""
        from pyarrow import fs

        with _as_os_error():
            found = self._store.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True))
            sizes = {
                Path(*Path(item.path).parts[-2:]): item.size
                for item in found
                if item.is_file and Path(item.path).suffix in (GROWING, FINISHED)
            }
            removed = surplus(sizes, oldest, most_bytes)
            for path in removed:
                with contextlib.suppress(FileNotFoundError):
                    self._store.delete_file(f"{self._root}/{path}")
        return len(removed)


def storage_of(location: str, model: str) -> Storage:
    """Where a model's log is kept, by the location of all logs.

    Raises:
        OSError: its folder cannot be made.
    """
    if is_object_store(location):
        return ObjectStorage(f"{location.rstrip('/')}/{model}")
    return FolderStorage(Path(location) / model)


def surplus(sizes: dict[Path, int], oldest: str, most_bytes: int) -> list[Path]:
    """Of files named `<day>/<file>` those that are too old or, the oldest first, too much."""
    total, found = sum(sizes.values()), []
    for path in sorted(sizes):
        if path.parent.name < oldest or (total > most_bytes and path.suffix != GROWING):
            total -= sizes[path]
            found.append(path)
    return found


def _sizes(folder: Path) -> dict[Path, int]:
    found = {}
    for file in folder.glob(f"{DAYS}/*"):
        if file.suffix in (GROWING, FINISHED):
            # Its own server may turn it into Parquet meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found[file.relative_to(folder)] = file.stat().st_size
    return found


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


class Spool:
    """A folder of one server on this machine's own disk, for what its log does not take yet."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Take a folder whose lock is held."""
        self.folder, self._lock = folder, lock

    @classmethod
    def begin(cls, log: str) -> Spool:
        """A new one for a log.

        Raises:
            OSError: this machine's disk refuses.
        """
        root = spools_of(log)
        while True:
            # Another server may have given it up meanwhile, and removed it.
            root.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(root):
                raise PermissionError(f"{root} belongs to somebody else")
            folder = root / secrets.token_hex(8)
            lock = _locked(folder, os.O_CREAT | os.O_EXCL)
            if lock is not None:
                folder.mkdir(mode=0o700)
                return cls(folder, lock)

    @classmethod
    def left(cls, log: str) -> list[Spool]:
        """Those of servers that ended before they could empty them; they are this server's now."""
        found: list[Spool] = []
        if not _is_ours(spools_of(log)):
            return found
        for file in spools_of(log).glob("*.lock"):
            lock = _locked(file.with_suffix(""), 0)
            if lock is not None:
                found.append(cls(file.with_suffix(""), lock))
        return found

    def files(self) -> list[Path]:
        """What waits in it."""
        return sorted(file for file in self.folder.glob(f"{DAYS}/*") if file.suffix in (GROWING, FINISHED))

    def release(self) -> None:
        """Give it up: it goes where nothing waits in it, else whoever comes next adopts it."""
        if not self.files():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.with_suffix(".lock").unlink(missing_ok=True)
            # Those of other servers may be in it.
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
        os.close(self._lock)


def waiting_bytes(spools: Iterable[Spool]) -> int:
    """How much waits in some spools."""
    return sum(file.stat().st_size for spool in spools for file in spool.files())


def spools_of(log: str) -> Path:
    """The spools of a log on this machine; those of another user, or of another log, are apart."""
    digest = hashlib.sha256(log.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"prediction-log-{os.getuid()}-{digest}"


def _is_ours(root: Path) -> bool:
    """Whether a folder is this user's own: where everybody may write, somebody else could have made it."""
    return root.is_dir() and not root.is_symlink() and root.stat().st_uid == os.getuid()


def _locked(folder: Path, flags: int) -> int | None:
    """The lock of a spool, unless it is somebody's."""
    try:
        lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if not folder.with_suffix(".lock").exists():
        # Whoever had it gave it up meanwhile.
        os.close(lock)
        return None
    return lock
