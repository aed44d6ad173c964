"""Which version of the code a pipeline was compiled from: the commit, and what was changed since."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "LIFECYCLE_CODE_VERSION"
# Where the code of a step is had again: on this machine its digest, on a cluster the URI of its archive, or the digest
# of the library in its image.
CODE_VARIABLE = "LIFECYCLE_CODE"
# Code alone: what else lies in a checkout, such as a file of passwords, is nobody's business.
SUFFIXES = (".py", ".sql", ".j2", ".css")
# A variable of a process may hold 128 KiB; a change larger than this is told by its file names alone.
LARGEST_CHANGE = 48 * 1024
# Names of changed files that a Workflow is given.
MOST_CHANGED = 20


@dataclass(frozen=True)
class CodeVersion:
    """Where the code comes from.

    Attributes:
        commit: Git's name of the commit; empty where the code is in no repository.
        changed: Files of code that differ from the commit, new ones among them, sorted.
        change: Their difference, as `git diff` gives it and `git apply` takes it; empty where it is too large.
    """

    commit: str = ""
    changed: tuple[str, ...] = ()
    change: str = ""

    def variable(self, with_change: bool = True) -> str:
        """As the value of an environment variable.

        Args:
            with_change: False where the code itself is kept by its digest, as every cluster run's is, and the variable
                is stored many times in the run's Workflow.
        """
        if not with_change:
            return json.dumps({"commit": self.commit, "changed": self.changed[:MOST_CHANGED], "change": ""})
        packed = base64.b64encode(gzip.compress(self.change.encode(), mtime=0)).decode("ascii")
        kept = packed if len(packed) <= LARGEST_CHANGE else ""
        return json.dumps({**asdict(self), "change": kept if self.change else ""})


def recorded_version() -> CodeVersion:
    """What the step that runs here was told; nothing known where it was told nothing."""
    told = json.loads(os.environ.get(VARIABLE) or "{}")
    change = gzip.decompress(base64.b64decode(told["change"])).decode() if told.get("change") else ""
    return CodeVersion(told.get("commit", ""), tuple(told.get("changed", ())), change)


def code_version(root: Path) -> CodeVersion:
    """The version of a checkout as it stands; an empty one where it is no git repository or git is not installed.

    A library that is installed below somebody's repository is no part of it.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        code = ["--", *(f"*{suffix}" for suffix in SUFFIXES)]
        if not _git(root, "ls-files", *code):
            return CodeVersion()
        new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *code).split("\0")[:-1]
        changed = _git(root, "diff", "HEAD", "--name-only", "-z", *code).split("\0")[:-1]
        change = _git(root, "diff", "HEAD", *code)
        for file in new:
            # A new file differs from nothing, which git calls an error.
            change += _git(root, "diff", "--no-index", "--", os.devnull, file, may_differ=True)
    except (OSError, subprocess.CalledProcessError):
        return CodeVersion()
    return CodeVersion(commit, tuple(sorted({*new, *changed})), change)


def _git(root: Path, *arguments: str, may_differ: bool = False) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    if done.returncode > (1 if may_differ else 0):
        raise subprocess.CalledProcessError(done.returncode, ["git", *arguments], done.stdout, done.stderr)
    return done.stdout.decode("utf-8", "replace")
