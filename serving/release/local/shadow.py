"""Shadow token: what the front, the release and the servers of one folder know, and no client does."""

from __future__ import annotations

import secrets
from pathlib import Path

from kfp_lifecycle.runtime.outputs import write_whole


def shadow_token_file(folder: Path) -> Path:
    """The file of what marks shadow traffic in a serving folder; whoever may read it can mark some."""
    return folder / "shadow-token"


def shadow_token(folder: Path) -> str:
    """What marks shadow traffic, made when it is first asked for."""
    file = shadow_token_file(folder)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Whole at once, or two that make it at the same time would read halves.
        write_whole(file, secrets.token_hex(16))
        file.chmod(0o600)
    return file.read_text("utf-8")
