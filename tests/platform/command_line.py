"""The command, in a folder of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kfp_lifecycle.local.state import STATE

ROOT = Path(__file__).resolve().parents[2]


def lifecycle(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder with a state of its own and this checkout's environments, nobody at the keyboard."""
    state = folder / ".lifecycle"
    if not state.exists():
        state.mkdir()
        (state / "environments").symlink_to(STATE / "environments")
    return subprocess.run(
        [str(ROOT / ".venv" / "bin" / "lifecycle"), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
