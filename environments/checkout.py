"""A checkout's own environments: `make setup` and `make setup-tests` run this before anything is installed.

`.venv` gets the command line and what tests and checks need; the environments of steps are built beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kfp_lifecycle.environments.build import (
    KNOWN,
    TESTED,
    BuildFailed,
    Task,
    install,
    remove_superseded,
    step_python,
    step_tasks,
    uv,
    work_off,
)
from kfp_lifecycle.environments.locks import (
    HERE,
    STAMP,
    STEP_ENVIRONMENTS,
    environment_directory,
    is_built,
    lock_digest,
)

CHECKOUT = HERE.parent
VENV = CHECKOUT / ".venv"
# The test runner, which any environment's interpreter can be given, and the data sets of tests.
FOLDERS = ("testing", "datasets")


def build_folder(name: str, python: str) -> bool:
    """Install a lock into a folder. Returns False when it was there already."""
    directory = environment_directory(name)
    if is_built(name):
        return False
    shutil.rmtree(directory, ignore_errors=True)
    install(Path(python), name, "--target", str(directory))
    (directory / STAMP).write_text(lock_digest(name))
    remove_superseded(name, keep=directory)
    return True


def build_command_line(lock: str) -> bool:
    """Install `platform` (or `develop`, which holds it) and this package into `.venv`."""
    stamp = VENV / STAMP
    package = hashlib.sha256((CHECKOUT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    wanted = f"{lock} {lock_digest(lock)} {package}"
    installed = stamp.read_text() if stamp.exists() else ""
    # develop contains platform, so a machine that tests is also ready to run.
    covered = {wanted, f"develop {lock_digest('develop')} {package}"} if lock == "platform" else {wanted}
    if installed in covered:
        return False
    python = VENV / "bin" / "python"
    install(python, lock)
    uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "-e", str(CHECKOUT))
    stamp.write_text(wanted)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: names of environments; by default all that a run here needs, with `--testing` all there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--command-line", choices=("platform", "develop"), default="platform")
    parser.add_argument("--testing", action="store_true", help="add the test runner and the data sets of tests")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(KNOWN))
    if unknown:
        parser.error(f"unknown environment {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    try:
        tasks: list[Task] = [(options.command_line, partial(build_command_line, options.command_line))]
        tasks += step_tasks(options.names or (TESTED if options.testing else STEP_ENVIRONMENTS))
        if options.testing:
            folders = [name for name in FOLDERS if not is_built(name)]
            python = step_python() if folders else ""
            tasks += [(name, partial(build_folder, name, python)) for name in folders]
        work_off(tasks, lambda line: print(line, flush=True))
    except BuildFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
