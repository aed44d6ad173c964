"""State folder: `.lifecycle/` in the folder that the user works in holds everything that is written here."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LIFECYCLE_STATE"
NAME = ".lifecycle"


def state_folder() -> Path:
    """The folder that LIFECYCLE_STATE names; else the nearest `.lifecycle` at or above the current folder; else a new
    one here. It may not exist yet."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).resolve()
    here = Path.cwd()
    found = (folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_dir())
    return next(found, here / NAME)
