"""Renew the lock files (`make lock`): each dependency group becomes `<group>.txt`, pinned, hashed, naming no index.

With names, only those: `python -m kfp_lifecycle.environments.lock validation`.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from kfp_lifecycle.environments.locks import STEP_PYTHON

HERE = Path(__file__).parent
UV = Path(sys.executable).parent / "uv"

SPECIFICATION = tomllib.loads((HERE / "pyproject.toml").read_text())
GROUPS = tuple(SPECIFICATION["dependency-groups"])
SETTINGS = SPECIFICATION["tool"]["uv"]


def lock(group: str) -> None:
    """Resolve a dependency group into `<group>.txt`; pins that still fit stay as they are.

    Raises:
        subprocess.CalledProcessError: the requirements contradict each other; uv's explanation is on stderr.
    """
    command = [str(UV), "pip", "compile", "--quiet", "--python-version", STEP_PYTHON, "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"]
    if group in ("kfp", "datasets"):
        command.append("--no-deps")
    if group == "develop":
        # It holds the platform's pins and adds to them, so that what is tested is what runs.
        command += ["--constraints", "platform.txt"]
    subprocess.run([*command, "--group", group, "--output-file", f"{group}.txt"], cwd=HERE, check=True)
    print(f"locked {group}", flush=True)


if __name__ == "__main__":
    for group in sys.argv[1:] or GROUPS:
        lock(group)
