"""A module of this library, run under the interpreter of another environment, and what it prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kfp_lifecycle.environments.locks import built_interpreter
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT


class ModuleFailed(Exception):
    """A module ended with an error; the message is its last words."""


def run_module(environment: str, module: str, *arguments: str) -> str:
    """Run a module to its end, and give what it printed.

    Raises:
        EnvironmentMissing: the environment is not built.
        ModuleFailed: it failed.
    """
    return finish_module(begin_module(environment, module, *arguments))


def begin_module(environment: str, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Begin a module; `finish_module` waits for it.

    Raises:
        EnvironmentMissing: the environment is not built.
    """
    return subprocess.Popen(
        [str(built_interpreter(environment)), "-m", module, *arguments],
        env={**os.environ, **STEP_VARIABLES, "PYTHONPATH": str(_library_folder())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_module(begun: subprocess.Popen[str], given: str = "") -> str:
    """What a module printed that was begun, once it has read what it is given.

    Raises:
        ModuleFailed: it failed.
    """
    with begun:
        printed, complaint = begun.communicate(given)
    if begun.returncode:
        # What libraries say of themselves comes before the reason.
        told = complaint.strip() or f"{begun.args!r} ended with exit code {begun.returncode}"
        raise ModuleFailed(told.splitlines()[-1])
    return printed


def _library_folder() -> Path:
    """A folder to import this library from, and nothing else that is installed beside it.

    Other environments are not to see the command line's own packages.
    """
    link = STATE / "import" / PACKAGE
    if not link.is_symlink() or link.resolve() != ROOT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
    return link.parent
