"""Builder of the locked environments that steps run in: `lifecycle setup`, and `make setup` in a checkout.

It needs uv and the standard library, and nothing else. What is built is kept by the digest of its lock. Bytecode is
written by the first import of a module: to compile all that is installed takes longer than to install it, and few of
the modules are ever imported.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

from kfp_lifecycle.environments.locks import (
    BENCHMARK_ENVIRONMENTS,
    CLIENT_ENVIRONMENTS,
    CLUSTER_ENVIRONMENTS,
    HERE,
    SERVER_ENVIRONMENTS,
    SITE_ENVIRONMENTS,
    STAMP,
    STEP_ENVIRONMENTS,
    STEP_PYTHON,
    environment_directory,
    is_built,
    lock_digest,
)
from kfp_lifecycle.runtime.state_folder import state_folder

TESTED = STEP_ENVIRONMENTS + CLUSTER_ENVIRONMENTS + SERVER_ENVIRONMENTS + CLIENT_ENVIRONMENTS + SITE_ENVIRONMENTS
KNOWN = TESTED + BENCHMARK_ENVIRONMENTS
PYTHON_MISSING = (
    f"steps run on Python {STEP_PYTHON}, which is not on the PATH and could not be fetched: install it (on Debian: "
    f"apt-get install python{STEP_PYTHON}; anywhere with a network: uv python install {STEP_PYTHON})"
)

# A name, and what makes it; the work returns False when there was nothing to do.
Task = tuple[str, Callable[[], bool]]


class BuildFailed(Exception):
    """An environment could not be built; the message says why."""


# The lock of `uv_program`: uv's own search reads `sysconfig`, whose first use in two threads at once gives the second
# one a half-filled table (up to Python 3.12: python/cpython#92452).
SEARCH = threading.Lock()


@cache
def found_uv() -> str | None:
    """The path of uv: that of this Python's installation, else that on the PATH, else None."""
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def uv_program() -> str:
    """The path of uv, looked for once in a process.

    Raises:
        BuildFailed: there is none.
    """
    with SEARCH:
        found = found_uv()
    if found is None:
        raise BuildFailed("environments are built by uv, which is not here: pip install 'kfp-lifecycle[local]'")
    return found


def uv_run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run uv, caching in the state folder; its exit code is the caller's to judge."""
    given = dict(os.environ)
    given.setdefault("UV_CACHE_DIR", str(state_folder() / "cache" / "uv"))
    # uv counts a download that stands still as dead after this many seconds; slow mirrors need more than its 30.
    given.setdefault("UV_HTTP_TIMEOUT", "180")
    given |= {"UV_NO_PROGRESS": "1", "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", **variables}
    return subprocess.run([uv_program(), *arguments], env=given, capture_output=True, text=True, check=False)


def uv(*arguments: str) -> None:
    """Run uv.

    Raises:
        BuildFailed: uv exited with an error, which the message holds.
    """
    done = uv_run(*arguments)
    if done.returncode:
        raise BuildFailed(
            f"`uv {' '.join(arguments[:2])}` failed:\n{done.stderr.strip()}\n"
            "Check the network and run the same command again: what is built is kept."
        )


def step_python() -> str:
    """A Python of the version that steps run on: this one, one that is installed, or one that uv fetches.

    Raises:
        BuildFailed: there is none and none could be fetched.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == STEP_PYTHON:
        return sys.executable
    brought = state_folder() / "python"
    name = f"python{STEP_PYTHON}"
    search = ("python", "find", "--system", "--no-project", STEP_PYTHON)
    found = uv_run(*search)
    if found.returncode == 0:
        return found.stdout.strip()
    # uv stops at the first of that name, which may be a version manager's, and lead nowhere.
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = shutil.which(name, path=folder or os.curdir)
        if program and subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
            return program
    fetched = uv_run("python", "install", STEP_PYTHON, UV_PYTHON_DOWNLOADS="manual", UV_PYTHON_INSTALL_DIR=str(brought))
    programs = sorted(brought.glob(f"*/bin/{name}"))
    if fetched.returncode or not programs:
        raise BuildFailed(PYTHON_MISSING)
    return str(programs[0])


def install(python: Path, lock: str, *options: str) -> None:
    """Install a lock file into the environment of `python`, every file checked against its hash.

    A lock is whole, so nothing is resolved anew; where it overrides what a package asks for, that could not succeed.
    """
    command = ["pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
    # What builds a package that has no wheel is checked as well.
    command += ["--require-build-hashes", "--build-constraints", str(HERE / "bootstrap.txt")]
    uv(*command, "-r", str(HERE / f"{lock}.txt"), *options)


def build_step_environment(name: str, python: str) -> bool:
    """Build one environment that steps run in. Returns False when it was there already."""
    directory = environment_directory(name)
    if is_built(name):
        return False
    shutil.rmtree(directory, ignore_errors=True)
    uv("venv", "--quiet", "--no-project", "--python", python, str(directory))
    install(directory / "bin" / "python", name)
    install(directory / "bin" / "python", "kfp")
    # Written last: an interrupted build has no stamp and is built anew.
    (directory / STAMP).write_text(lock_digest(name))
    remove_superseded(name, keep=directory)
    return True


def remove_superseded(name: str, keep: Path) -> None:
    """Remove the environments that earlier locks of the same name left behind: each is up to 3 GB."""
    for directory in keep.parent.glob(f"{name}-*"):
        if directory != keep:
            shutil.rmtree(directory, ignore_errors=True)


def step_tasks(names: Iterable[str]) -> list[Task]:
    """What builds the environments of steps; empty where all stand.

    Raises:
        BuildFailed: there is no Python for them.
    """
    missing = [name for name in names if not is_built(name)]
    python = step_python() if missing else ""
    return [(name, partial(build_step_environment, name, python)) for name in missing]


def work_off(tasks: Sequence[Task], say: Callable[[str], None]) -> None:
    """Do tasks two at a time, with a line for each as it is done.

    Raises:
        BuildFailed: one of them could not be done.
    """
    started = time.monotonic()
    lock = threading.Lock()
    finished = 0

    def run(name: str, work: Callable[[], bool]) -> None:
        nonlocal finished
        since = time.monotonic()
        built = work()
        with lock:
            finished += 1
            if built:
                say(f"  environment {finished}/{len(tasks)}  {name:<11} built in {time.monotonic() - since:.0f} s")

    with ThreadPoolExecutor(max_workers=2) as pool:
        for future in [pool.submit(run, name, work) for name, work in tasks]:
            future.result()
    if time.monotonic() - started > 2:
        say(f"  environments ready after {time.monotonic() - started:.0f} s")
