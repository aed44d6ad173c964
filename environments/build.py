"""Build the locked environments on this machine: in parallel, byte-compiled, cached by the hash of their lock.

Run by `make setup` with nothing but the standard library and uv, before anything else is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
sys.path.insert(0, str(CHECKOUT / "src"))

from kfp_lifecycle.environments.locks import (  # noqa: E402
    CLUSTER_ENVIRONMENTS,
    SERVER_ENVIRONMENTS,
    STAMP,
    STEP_ENVIRONMENTS,
    environment_directory,
    is_built,
    lock_digest,
)

VENV = CHECKOUT / ".venv"


class BuildFailed(Exception):
    """An environment could not be built; the message holds uv's own explanation."""


def uv(*arguments: str) -> None:
    """Run uv with bytecode compilation on.

    Raises:
        BuildFailed: uv exited with an error.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables.setdefault("UV_CACHE_DIR", str(CHECKOUT / ".lifecycle" / "cache" / "uv"))
    # uv counts a download that stands still as dead after this many seconds; slow mirrors need more than its 30.
    variables.setdefault("UV_HTTP_TIMEOUT", "180")
    variables.update(UV_NO_PROGRESS="1", UV_PYTHON_DOWNLOADS="never", UV_NO_CONFIG="1")
    command = [str(VENV / "bin" / "uv"), *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    if done.returncode:
        raise BuildFailed(f"`uv {' '.join(arguments[:2])}` failed:\n{done.stderr.strip()}")


def install(python: Path, lock: str, *options: str) -> None:
    """Install a lock file into the environment of `python`, every file checked against its hash.

    A lock is whole, so nothing is resolved anew; where it overrides what a package asks for, that could not succeed.
    """
    command = ["pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
    # What builds a package that has no wheel is checked as well.
    command += ["--require-build-hashes", "--build-constraints", str(HERE / "bootstrap.txt")]
    uv(*command, "-r", str(HERE / f"{lock}.txt"), *options)


def build_step_environment(name: str) -> bool:
    """Build one environment that steps run in. Returns False when it was there already."""
    directory = environment_directory(name)
    if is_built(name):
        return False
    shutil.rmtree(directory, ignore_errors=True)
    uv("venv", "--quiet", "--python", str(VENV / "bin" / "python"), str(directory))
    install(directory / "bin" / "python", name, "--compile-bytecode")
    install(directory / "bin" / "python", "kfp", "--compile-bytecode")
    # Written last: an interrupted build has no stamp and is built anew.
    (directory / STAMP).write_text(lock_digest(name))
    remove_superseded(name, keep=directory)
    return True


def build_folder(name: str) -> bool:
    """Install a lock into a folder: the test runner, which any environment's interpreter can be given, and the data
    sets of tests. Returns False when it was there already."""
    directory = environment_directory(name)
    if is_built(name):
        return False
    shutil.rmtree(directory, ignore_errors=True)
    install(VENV / "bin" / "python", name, "--target", str(directory))
    (directory / STAMP).write_text(lock_digest(name))
    remove_superseded(name, keep=directory)
    return True


def remove_superseded(name: str, keep: Path) -> None:
    """Remove the environments that earlier locks of the same name left behind: each is up to 3 GB."""
    for directory in keep.parent.glob(f"{name}-*"):
        if directory != keep:
            shutil.rmtree(directory, ignore_errors=True)


def build_command_line(lock: str) -> bool:
    """Install `platform` (or `develop`, which holds it) and this package into `.venv`."""
    stamp = VENV / STAMP
    wanted = f"{lock} {lock_digest(lock)}"
    installed = stamp.read_text() if stamp.exists() else ""
    # develop contains platform, so a machine that tests is also ready to run.
    covered = {wanted, f"develop {lock_digest('develop')}"} if lock == "platform" else {wanted}
    if installed in covered:
        return False
    python = VENV / "bin" / "python"
    install(python, lock, "--compile-bytecode")
    uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "-e", str(CHECKOUT))
    stamp.write_text(wanted)
    return True


def build(names: Iterable[str], command_line: str, testing: bool) -> None:
    """Build all that is asked for, two at a time, with a line for each as it is done."""
    tasks: list[tuple[str, Callable[[], bool]]] = [(command_line, partial(build_command_line, command_line))]
    tasks += [(name, partial(build_step_environment, name)) for name in names]
    if testing:
        tasks.append(("testing", partial(build_folder, "testing")))
        tasks.append(("datasets", partial(build_folder, "datasets")))
    started = time.monotonic()
    lock = threading.Lock()
    finished = 0

    def run(name: str, work: Callable[[], bool]) -> None:
        nonlocal finished
        since = time.monotonic()
        built = work()
        with lock:
            finished += 1
            what = f"built in {time.monotonic() - since:.0f} s" if built else "ready"
            if built or sys.stdout.isatty():
                print(f"  environment {finished}/{len(tasks)}  {name:<11} {what}", flush=True)

    with ThreadPoolExecutor(max_workers=2) as pool:
        for future in [pool.submit(run, name, work) for name, work in tasks]:
            future.result()
    if time.monotonic() - started > 2:
        print(f"  environments ready after {time.monotonic() - started:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: names of environments; by default all that a run here needs, with `--testing` all there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--command-line", choices=("platform", "develop"), default="platform")
    parser.add_argument("--testing", action="store_true", help="add the test runner and the data sets of tests")
    options = parser.parse_args(arguments)
    known = STEP_ENVIRONMENTS + CLUSTER_ENVIRONMENTS + SERVER_ENVIRONMENTS
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"unknown environment {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        build(options.names or (known if options.testing else STEP_ENVIRONMENTS), options.command_line, options.testing)
    except BuildFailed as failure:
        print(f"error: {failure}\nCheck the network and run the same command again: what is built is kept.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
