"""An output that exists either whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def complete_folder(destination: Path) -> Iterator[Path]:
    """A folder to fill that takes the destination's place when the block ends well, and vanishes when it does not.

    Args:
        destination: The output's path; what an earlier attempt left there is removed first.
    """
    shutil.rmtree(destination, ignore_errors=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    filling = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        yield filling
        # Made private by `mkdtemp`; the next step may run as another user.
        filling.chmod(0o755)
        filling.rename(destination)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def write_whole(destination: Path, text: str) -> None:
    """Write a text file by renaming, so that no reader sees half of it, and of two writers the later one's is there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    filling = destination.with_name(f".{destination.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        filling.write_text(text, "utf-8")
        filling.replace(destination)
    finally:
        filling.unlink(missing_ok=True)
