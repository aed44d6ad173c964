"""Dataset versions: the same content has one version, and a version gives its content back."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import fsspec
import pytest
from dvc.data_cloud import DataCloud
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem
from shop import GOOD_ORDERS, ingest, make_database, make_project

from kfp_lifecycle.components.data.version_dataset.versioning import checkout, save_version
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.servers import object_store, running


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    url = make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS)
    ingest(make_project(tmp_path / "shop", url), tmp_path / "tables")
    return tmp_path / "tables"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stored(remote: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in remote.rglob("*") if file.is_file()}


def test_the_same_content_has_the_same_version_and_is_stored_once(tmp_path: Path, tables: Path) -> None:
    remote = tmp_path / "remote"
    first = save_version(tables, str(remote), tmp_path / "one")
    after_first = stored(remote)
    shutil.copytree(tables, tmp_path / "copy")
    assert save_version(tmp_path / "copy", str(remote), tmp_path / "other") == first
    assert stored(remote) == after_first
    assert contents(tmp_path / "other") == contents(tables)


def test_one_changed_row_is_another_version_and_both_can_be_had_again(tmp_path: Path, tables: Path) -> None:
    remote = str(tmp_path / "remote")
    before, old = contents(tables), save_version(tables, remote, tmp_path / "old")
    changed = GOOD_ORDERS.replace("(10 + i % 7)", "(10 + i % 7 + (i = 5)::INTEGER)")
    url = make_database(tmp_path / "shop.duckdb", orders=changed)
    ingest(make_project(tmp_path / "shop", url), tables)
    new = save_version(tables, remote, tmp_path / "new")
    assert new != old
    checkout(old, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == before
    checkout(new, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tables)


def test_tables_and_remote_may_lie_in_a_folder_of_any_letters(tmp_path: Path, tables: Path) -> None:
    place = tmp_path / "Müller 数据 100%"
    shutil.copytree(tables, place / "tables")
    version = save_version(place / "tables", str(place / "remote"), place / "one")
    assert version == save_version(tables, str(tmp_path / "remote"), tmp_path / "one")
    checkout(version, str(place / "remote"), place / "back")
    assert contents(place / "back") == contents(tables)


@pytest.mark.slow
def test_two_at_once_store_the_same_version_without_harm(tmp_path: Path, tables: Path) -> None:
    remote = str(tmp_path / "remote")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        versions = pool.starmap(save_version, [(tables, remote, tmp_path / name) for name in ("one", "other")])
    assert versions[0] == versions[1]
    checkout(versions[0], remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tables)


def test_an_unknown_version_and_an_unusable_remote_are_refused_and_nothing_is_written(
    tmp_path: Path, tables: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ContractViolation, match="no complete dataset version"):
        checkout("0123456789abcdef0123456789abcdef.dir", str(tmp_path / "remote"), tmp_path / "back")
    with pytest.raises(ContractViolation, match="cannot be used"):
        save_version(tables, str(tmp_path / "file" / "remote"), tmp_path / "dataset")
    with pytest.raises(ContractViolation, match=r"webdav://me:\*\*\*@host/data cannot be used.*dvc-webdav"):
        save_version(tables, "webdav://me:canary@host/data", tmp_path / "dataset")
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
def test_a_remote_without_credentials_is_refused_by_name(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # Else botocore looks for them in a person's home, and asks a cloud's metadata service.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ContractViolation, match=r"s3://bucket/data cannot be used: Unable to locate credentials"):
        save_version(tables, "s3://bucket/data", tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_an_error_of_this_program_is_not_blamed_on_the_remote(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataCloud, "get_remote_odb", None)
    with pytest.raises(TypeError):
        save_version(tables, str(tmp_path / "remote"), tmp_path / "dataset")


def test_an_unfinished_folder_has_no_version(tmp_path: Path, tables: Path) -> None:
    (tables / "manifest.json").unlink()
    with pytest.raises(ContractViolation, match="no finished folder of tables"):
        save_version(tables, str(tmp_path / "remote"), tmp_path / "dataset")


@dataclass(frozen=True)
class Elsewhere:
    """A remote on a server of its own."""

    remote: str
    files: AbstractFileSystem
    folder: str
    """Where the server's files are, as `files` names it."""


@pytest.fixture(params=["s3", "gs", "ssh"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    kind = request.param
    if kind == "ssh":
        (tmp_path / "home" / ".ssh").mkdir(parents=True)
        (tmp_path / "server" / "datasets").mkdir(parents=True)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        with ssh_server(tmp_path / "server", tmp_path / "home" / ".ssh") as port:
            yield Elsewhere(
                f"ssh://me@127.0.0.1:{port}/datasets", LocalFileSystem(), str(tmp_path / "server" / "datasets")
            )
        return
    variables = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for url in running(object_store(kind)):
        endpoint = {"s3": "AWS_ENDPOINT_URL_S3", "gs": "STORAGE_EMULATOR_HOST"}[kind]
        for name, value in {**variables, endpoint: url}.items():
            monkeypatch.setenv(name, value)
        files = fsspec.filesystem(kind, skip_instance_cache=True)
        files.mkdir("datasets")
        yield Elsewhere(f"{kind}://datasets", files, "datasets")


@contextlib.contextmanager
def ssh_server(folder: Path, keys: Path) -> Iterator[int]:
    """An SSH server that shows a folder to one user by SFTP; its port. `keys` gets what a client needs to know."""
    host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    user.write_private_key(keys / "id_ed25519")
    (keys / "id_ed25519").chmod(0o600)
    authorized = asyncssh.import_authorized_keys(user.export_public_key().decode())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host],
            authorized_client_keys=authorized,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder)),
        )

    async def close(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    port: int = server.get_port()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.slow
def test_a_version_elsewhere_can_be_had_again_and_what_is_missing_is_named(
    tmp_path: Path, tables: Path, elsewhere: Elsewhere
) -> None:
    remote = f"{elsewhere.remote}/shop"
    version = save_version(tables, remote, tmp_path / "dataset")
    assert version == save_version(tables, str(tmp_path / "folder"), tmp_path / "other"), "a version knows no place"
    checkout(version, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tables)
    lost = next(file for file in elsewhere.files.find(f"{elsewhere.folder}/shop") if not file.endswith(".dir"))
    elsewhere.files.rm(lost)
    with pytest.raises(ContractViolation, match=rf"{remote} has no complete dataset version {version}"):
        checkout(version, remote, tmp_path / "half")
    assert not (tmp_path / "half").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("elsewhere", "place", "words"),
    [
        ("s3", "s3://nowhere/shop", "The specified bucket does not exist"),
        ("gs", "gs://nowhere/shop", "nowhere"),
        ("ssh", "ssh://somebody@127.0.0.1:1/shop", "Connect call failed"),
    ],
    indirect=["elsewhere"],
)
def test_a_place_that_is_not_there_is_refused_by_name(
    tmp_path: Path, tables: Path, elsewhere: Elsewhere, place: str, words: str
) -> None:
    with pytest.raises(ContractViolation, match=rf"{place} cannot be used: .*{words}"):
        save_version(tables, place, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("elsewhere", ["ssh"], indirect=True)
def test_a_server_that_pretends_to_be_another_is_not_trusted(
    tmp_path: Path, tables: Path, elsewhere: Elsewhere
) -> None:
    known = tmp_path / "home" / ".ssh" / "known_hosts"
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known.write_text(f"{known.read_text().split()[0]} {other}")
    with pytest.raises(ContractViolation, match="Host key is not trusted"):
        save_version(tables, elsewhere.remote, tmp_path / "refused")
    assert elsewhere.files.find(elsewhere.folder) == []
