"""Renew the lock files (`make lock`): `<name>.in` becomes `<name>.txt`, pinned, hashed, naming no package index.

With names, only those: `python environments/lock.py validation`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PYTHON_VERSION = "3.11"

# develop comes after platform: it holds the platform's pins and adds to them, so that what is tested is what runs.
ORDER = (
    "bootstrap",
    "kfp",
    "validation",
    "modelling",
    "serving",
    "katib",
    "warehouses",
    "platform",
    "testing",
    "datasets",
    "develop",
)


def lock(name: str) -> None:
    """Resolve `<name>.in` into `<name>.txt`.

    Raises:
        subprocess.CalledProcessError: the requirements contradict each other; uv's explanation is on stderr.
    """
    command = ["uv", "pip", "compile", "--quiet", "--python-version", PYTHON_VERSION, "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"]
    if name in ("kfp", "datasets"):
        command.append("--no-deps")
    if name == "develop":
        command += ["--constraints", "platform.txt"]
    subprocess.run([*command, f"{name}.in", "--output-file", f"{name}.txt"], cwd=HERE, check=True)
    print(f"locked {name}", flush=True)


if __name__ == "__main__":
    for environment in sys.argv[1:] or ORDER:
        lock(environment)
