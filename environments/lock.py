"""Renew the lock files (`make lock`): each dependency group becomes `<group>.txt`, pinned, hashed, naming no index.

With names, only those: `python -m kfp_lifecycle.environments.lock validation`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from kfp_lifecycle.environments.locks import STEP_PYTHON

HERE = Path(__file__).parent
UV = Path(sys.executable).parent / "uv"

SPECIFICATION = tomllib.loads((HERE / "pyproject.toml").read_text())
GROUPS = tuple(SPECIFICATION["dependency-groups"])
SETTINGS = SPECIFICATION["tool"]["uv"]


# Resolved to the files of these platforms alone, since each hash costs room where the lock rides.
SLIM = ("notify",)
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")


def lock_slim(group: str) -> None:
    """Resolve a group into the platform's pins of it, with the hashes of the wheels that Linux installs."""
    pins: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "pylock.toml"
        for platform in PLATFORMS:
            command = [str(UV), "pip", "compile", "--quiet", "--python-version", STEP_PYTHON, "--group", group]
            command += ["--python-platform", platform, "--constraints", "platform.txt", "--format", "pylock.toml"]
            subprocess.run([*command, "--output-file", str(resolved)], cwd=HERE, check=True)
            for package in tomllib.loads(resolved.read_text("utf-8"))["packages"]:
                hashes = {f"sha256:{wheel['hashes']['sha256']}" for wheel in package["wheels"]}
                pins.setdefault(f"{package['name']}=={package['version']}", set()).update(hashes)
            resolved.unlink()
    lines = [" \\\n    ".join([pin, *(f"--hash={digest}" for digest in sorted(pins[pin]))]) for pin in sorted(pins)]
    (HERE / f"{group}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"locked {group}", flush=True)


def lock(group: str) -> None:
    """Resolve a dependency group into `<group>.txt`; pins that still fit stay as they are.

    Raises:
        subprocess.CalledProcessError: the requirements contradict each other; uv's explanation is on stderr.
    """
    if group in SLIM:
        lock_slim(group)
        return
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
