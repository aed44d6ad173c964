"""Dataset versions: DVC's digest of a folder, kept in a DVC remote."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.data.tables import hand_on
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

REMOTE = "datasets"
# The libraries that DVC reaches a remote with. Each fails in exceptions of its own, which share no base class.
CLIENTS = {"dvc", "dvc_data", "dvc_objects", "botocore", "aiohttp", "google", "gcsfs", "asyncssh"}


def save_version(tables: Path, remote: str, output: Path) -> str:
    """Version a folder of tables: store what the remote does not have yet, and hand the tables on.

    Several may store the same version at once: every file is named by its content and put in place whole.

    Args:
        tables: A finished folder of tables.
        remote: DVC remote: a folder, or a URL such as `s3://bucket/path`.
        output: Folder for the same tables. It does not exist after a failure.

    Returns:
        The version: DVC's digest of the folder, which the same content always has.

    Raises:
        ContractViolation: the tables are unfinished, or the remote cannot be written.
    """
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.transfer import transfer

    Manifest.read(tables)
    with complete_folder(output) as result:
        with _opened(remote) as (repository, content):
            staged, _, folder = build(repository.cache.local, str(tables), localfs, "md5")
            transferred = transfer(staged, content, {folder.hash_info}, shallow=False)
            if transferred.failed:
                raise ContractViolation(
                    f"{len(transferred.failed)} of the dataset's files could not be stored in {remote}; the log has "
                    "the reason of each. See that there is room and leave to write, and resume the run."
                )
        hand_on(tables, result)
    return str(folder.hash_info.value)


def checkout(version: str, remote: str, output: Path) -> None:
    """Bring back a folder of tables as it was.

    Args:
        version: What `save_version` returned.
        remote: The DVC remote that it was stored in.
        output: Folder to write to. It does not exist after a failure.

    Raises:
        ContractViolation: the remote has no such version, or lacks a file of it.
    """
    from dvc.fs import localfs
    from dvc_data.hashfile import load
    from dvc_data.hashfile.checkout import CheckoutError
    from dvc_data.hashfile.checkout import checkout as write_files
    from dvc_data.hashfile.hash_info import HashInfo

    with complete_folder(output) as result, _opened(remote) as (_, content):
        try:
            write_files(str(result), localfs, load(content, HashInfo("md5", version)), content, force=True)
        except (FileNotFoundError, CheckoutError) as error:
            raise ContractViolation(
                f"{remote} has no complete dataset version {version}. Name a version that a run's dataset shows, and "
                "the remote that it was stored in."
            ) from error


@contextlib.contextmanager
def _opened(remote: str) -> Iterator[tuple[Repo, HashFileDB]]:
    """A DVC repository for the moment, and the remote's content by digest. Nothing of it reaches the user's own DVC."""
    with tempfile.TemporaryDirectory(prefix="dvc-") as work:
        # DVC would otherwise keep state in /var, read a person's configuration, and report that it was used.
        os.environ |= {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": f"{work}/site",
            "DVC_GLOBAL_CONFIG_DIR": f"{work}/global",
            "DVC_SYSTEM_CONFIG_DIR": f"{work}/system",
        }
        from dvc.repo import Repo

        repository_folder = f"{work}/repository"
        Path(repository_folder).mkdir()
        Repo.init(repository_folder, no_scm=True).close()
        url = remote if "://" in remote else str(Path(remote).absolute())
        # Given and not written to DVC's configuration, which is a file of ASCII: the remote's path may not be.
        settings = {
            "core": {"analytics": False, "check_update": False, "remote": REMOTE},
            "remote": {REMOTE: {"url": url}},
        }
        with contextlib.closing(Repo(repository_folder, config=settings)) as repository:
            try:
                content = repository.cloud.get_remote_odb(REMOTE)
                if content.fs.protocol == "ssh":
                    # DVC would trust any server; this is OpenSSH's rule, by ~/.ssh/known_hosts.
                    content.fs.fs_args["known_hosts"] = ()
                yield repository, content
            except Exception as error:
                if not _is_the_remotes(error):
                    raise
                raise ContractViolation(
                    _without_password(f"The dataset remote {remote} cannot be used: {error}. ", remote)
                    + "Correct dataset_remote of this target, see that this step has credentials for it and leave to "
                    "write, or add the library that it asks for to the group `validation` in "
                    "environments/pyproject.toml."
                ) from error


def _is_the_remotes(error: Exception) -> bool:
    """Whether a failure is the remote's (its place, credentials, permissions, connection) and not this program's."""
    return isinstance(error, (OSError, ImportError)) or type(error).__module__.partition(".")[0] in CLIENTS


def _without_password(text: str, remote: str) -> str:
    password = urlsplit(remote).password
    return text.replace(password, "***") if password else text


if __name__ == "__main__":
    try:
        checkout(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except ContractViolation as violation:
        sys.exit(str(violation))
