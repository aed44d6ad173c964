"""Dataset versions: the same content has one version, and a version gives its content back."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.data_cloud import DataCloud
from s3fs import S3FileSystem
from shop import GOOD_ORDERS, make_database, make_project

from components.contract import ContractViolation
from components.data.ingest_data.ingestion import ingest
from components.data.snapshot_dataset.versioning import checkout, snapshot


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
    first = snapshot(tables, str(remote), tmp_path / "one")
    after_first = stored(remote)
    shutil.copytree(tables, tmp_path / "copy")
    assert snapshot(tmp_path / "copy", str(remote), tmp_path / "other") == first
    assert stored(remote) == after_first
    assert contents(tmp_path / "other") == contents(tables)


def test_one_changed_row_is_another_version_and_both_can_be_had_again(tmp_path: Path, tables: Path) -> None:
    remote = str(tmp_path / "remote")
    before, old = contents(tables), snapshot(tables, remote, tmp_path / "old")
    changed = GOOD_ORDERS.replace("(10 + i % 7)", "(10 + i % 7 + (i = 5)::INTEGER)")
    url = make_database(tmp_path / "shop.duckdb", orders=changed)
    ingest(make_project(tmp_path / "shop", url), tables)
    new = snapshot(tables, remote, tmp_path / "new")
    assert new != old
    checkout(old, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == before
    checkout(new, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tables)


def test_two_at_once_store_the_same_version_without_harm(tmp_path: Path, tables: Path) -> None:
    remote = str(tmp_path / "remote")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        versions = pool.starmap(snapshot, [(tables, remote, tmp_path / name) for name in ("one", "other")])
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
        snapshot(tables, str(tmp_path / "file" / "remote"), tmp_path / "snapshot")
    with pytest.raises(ContractViolation, match=r"webdav://me:\*\*\*@host/data cannot be used.*dvc-webdav"):
        snapshot(tables, "webdav://me:canary@host/data", tmp_path / "snapshot")
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "snapshot").exists()


def test_a_remote_without_credentials_is_refused_by_name(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # Else botocore looks for them in a person's home, and asks a cloud's metadata service.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ContractViolation, match=r"s3://bucket/data cannot be used: Unable to locate credentials"):
        snapshot(tables, "s3://bucket/data", tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists()


def test_an_error_of_this_program_is_not_blamed_on_the_remote(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataCloud, "get_remote_odb", None)
    with pytest.raises(TypeError):
        snapshot(tables, str(tmp_path / "remote"), tmp_path / "snapshot")


def test_an_unfinished_folder_has_no_version(tmp_path: Path, tables: Path) -> None:
    (tables / "manifest.json").unlink()
    with pytest.raises(ContractViolation, match="no finished folder of tables"):
        snapshot(tables, str(tmp_path / "remote"), tmp_path / "snapshot")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3FileSystem]:
    """A server that speaks S3, with an empty bucket `datasets`."""
    command = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "moto_server"
    if not command.exists():
        pytest.skip("there is no moto_server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = subprocess.Popen(
        [str(command), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        files = S3FileSystem(skip_instance_cache=True)
        files.mkdir("datasets")
        yield files
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_a_version_in_s3_can_be_had_again_and_what_is_missing_is_named(
    tmp_path: Path, tables: Path, s3: S3FileSystem
) -> None:
    remote = "s3://datasets/shop"
    version = snapshot(tables, remote, tmp_path / "snapshot")
    assert version == snapshot(tables, str(tmp_path / "folder"), tmp_path / "other"), "a version knows no place"
    checkout(version, remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tables)
    with pytest.raises(ContractViolation, match=r"s3://nowhere/shop cannot be used: The specified bucket does not ex"):
        snapshot(tables, "s3://nowhere/shop", tmp_path / "refused")
    lost = next(file for file in s3.find("datasets/shop") if not file.endswith(".dir"))
    s3.rm(lost)
    with pytest.raises(ContractViolation, match=rf"s3://datasets/shop has no complete dataset version {version}"):
        checkout(version, remote, tmp_path / "half")
    assert not (tmp_path / "refused").exists()
    assert not (tmp_path / "half").exists()
