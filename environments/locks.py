"""The locked environments: their names, the digest of each lock, and where each stands on this machine."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from kfp_lifecycle.runtime.state_folder import state_folder

HERE = Path(__file__).resolve().parent

# The Python of every environment of steps: TFDV has wheels for no later one.
STEP_PYTHON = "3.11"

# Those that steps run in beside `platform`, which is the command line's own `.venv`. The slowest to build first.
STEP_ENVIRONMENTS = ("validation", "modelling", "serving")
# Those whose steps run on clusters alone: built here for tests only.
CLUSTER_ENVIRONMENTS = ("katib",)
# Of no step: servers that tests start.
SERVER_ENVIRONMENTS = ("warehouses",)
# Of no step: clients of the model server that others wrote; MLServer's types are of its own environment.
CLIENT_ENVIRONMENTS = ("clients", "mlserver")
# Of no step: what builds the documentation's site.
SITE_ENVIRONMENTS = ("docs",)
BENCHMARK_ENVIRONMENTS = ("bentoml",)

# Written into an environment's folder when it is complete.
STAMP = ".lock-digest"

# What builds the environments of steps here.
SETUP = "make setup" if (HERE.parent / "Makefile").is_file() else "lifecycle setup"

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])?==[^\s;\\]+(?:\s*;\s*[^\\]+)?)", re.MULTILINE)


class EnvironmentMissing(Exception):
    """An environment is not built, or not as its lock says; the message has the remedy."""


def lock_digest(name: str) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the lock and of the executor that is installed beside it."""
    digest = hashlib.sha256()
    for lock in (name, "kfp"):
        digest.update((HERE / f"{lock}.txt").read_bytes())
    return digest.hexdigest()[:12]


def pinned_requirements(name: str) -> list[str]:
    """Every `package==version` of a lock, in the lock's order, without hashes."""
    return [pin.strip() for pin in _PIN.findall((HERE / f"{name}.txt").read_text())]


def environment_directory(name: str) -> Path:
    """Where the environment stands on this machine, whether built or not.

    `platform` is the command line's own: a checkout's `.venv`, or whichever this library is installed in.
    """
    if name == "platform":
        own = HERE.parent / ".venv"
        return own if own.exists() else Path(sys.prefix)
    return state_folder() / "environments" / f"{name}-{lock_digest(name)}"


def interpreter(name: str) -> Path:
    """The Python of an environment on this machine."""
    return environment_directory(name) / "bin" / "python"


def is_built(name: str) -> bool:
    """Whether the environment of the lock as it is now stands here, whole."""
    return name == "platform" or (environment_directory(name) / STAMP).exists()


def built_interpreter(name: str) -> Path:
    """The Python of an environment that stands here.

    Raises:
        EnvironmentMissing: it is not built.
    """
    if not is_built(name):
        raise EnvironmentMissing(f"the environment `{name}` is not built: run `{SETUP}`")
    return interpreter(name)


if __name__ == "__main__":
    print(lock_digest(sys.argv[1]))
