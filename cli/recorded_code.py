"""The code that a step ran with, as it was recorded: kept here by its digest, in an archive, or at a commit."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT
from kfp_lifecycle.runtime.contract import ContractViolation


def code_folder(code: str, model: Model, original: Path, work: Path, say: Callable[[str], None]) -> Path:
    """A folder to import a step's code from, as it ran then.

    Args:
        code: Its digest, kept in the state folder by the run, or the URI of its archive.
        model: The model's description, which knows the commit.
        original: The model's folder, which holds the change of the commit, if there was one.
        work: Where to unpack.
        say: Told where the code is from.

    Raises:
        ContractViolation: it is nowhere to be had.
        BackendError: the archive cannot be fetched.
    """
    if code and (STATE / "code" / code).is_dir():
        say(f"code {code} as it is kept in {STATE / 'code'}")
        return STATE / "code" / code
    if "://" in code:
        from kfp_lifecycle.backends.uploads import download

        folder = work / "archive"
        if not folder.is_dir():
            say(f"code {code}")
            with zipfile.ZipFile(download(code, "code.zip", work)) as packed:
                packed.extractall(folder)
        return folder
    return code_of_commit(model, original, work, say)


def code_of_commit(model: Model, original: Path, work: Path, say: Callable[[str], None]) -> Path:
    """The library as it stood at the commit that a model records, with the change that was made since.

    Raises:
        ContractViolation: there is no such commit here, or the change was never recorded.
    """
    commit, changed = model.origin.code.commit, model.origin.code.changed
    change = original / "code.diff"
    if not commit or (changed and not change.is_file()):
        raise ContractViolation(
            f"the code is not to be had: it is not kept in {STATE / 'code'}, and "
            + ("its commit is not known." if not commit else f"changes to {', '.join(changed)} were never committed.")
        )
    tree = work / "commit" / PACKAGE
    if tree.is_dir():
        return tree.parent
    say(f"code of the commit {commit[:12]}" + (f" with changes to {len(changed)} files" if changed else ""))
    tree.mkdir(parents=True)
    archived = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archived.returncode:
        raise ContractViolation(f"the commit {commit} is not in the repository {ROOT}: fetch it first.")
    unpack(archived.stdout, tree)
    if change.is_file():
        applied = subprocess.run(
            ["git", "apply", str(change.resolve())], cwd=tree, capture_output=True, text=True, check=False
        )
        if applied.returncode:
            raise ContractViolation(f"the uncommitted change cannot be made again: {applied.stderr.strip()}")
    return tree.parent


def unpack(archive: bytes, destination: Path) -> None:
    """Unpack the files of a tar archive, and nothing that leads out of the folder.

    Python's own filter for that came with 3.11.4.

    Raises:
        ContractViolation: a file would be written elsewhere.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = (destination / member.name).resolve()
            if not file.is_relative_to(destination.resolve()):
                raise ContractViolation(f"the archive of the code names {member.name}, which is out of its folder.")
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.read())
