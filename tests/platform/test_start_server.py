"""What a serving container runs first, run here: packages from a local folder, a model from a stand-in for a bucket."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.parse
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kfp_lifecycle.serving.container import Container
from tests.served import served

# In place of the model's own server: says what it was started with.
SERVER = """
import json, sys
try:
    import tiny_engine
    engine = tiny_engine.NAME
except ImportError:
    engine = None
print(json.dumps({"arguments": sys.argv[1:], "engine": engine, "python": sys.executable}))
"""


def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The container's command, on an interpreter that has nothing of this library in its path."""
    command = [sys.executable, *Container("any").command[1:], *arguments]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "PIP_NO_INDEX": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    code = tmp_path / "model" / "code" / "kfp_lifecycle" / "serving" / "server"
    code.mkdir(parents=True)
    for package in (code, code.parent, code.parent.parent):
        (package / "__init__.py").write_text("")
    (code / "server.py").write_text(SERVER)
    return tmp_path / "model"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder of packages, with one that asks for another, which no lock would leave out."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_engine-1.0-py3-none-any.whl", "w") as wheel:
        information = "tiny_engine-1.0.dist-info"
        wheel.writestr("tiny_engine.py", "NAME = 'tiny engine 1.0'\n")
        wheel.writestr(
            f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny_engine\nVersion: 1.0\nRequires-Dist: absent\n"
        )
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    return folder


def test_on_an_image_that_holds_everything_it_becomes_the_server(model: Path) -> None:
    ended = start("--version=3", MODEL_FOLDER=str(model))
    said = json.loads(ended.stdout)
    assert said["arguments"] == [f"--model_dir={model}", "--version=3"]
    assert said["engine"] is None


def lock(model: Path, wheel: Path) -> None:
    """What register_model writes beside the server's code."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    nowhere = f'tiny_absent==1.0 ; sys_platform == "win32" \\\n    --hash=sha256:{"0" * 64}\n'
    text = f"tiny_engine==1.0 \\\n    --hash=sha256:{digest}\n{nowhere}"
    (model / "code" / "requirements.txt").write_text(text)


def test_on_a_stock_image_it_installs_the_lock_first_and_where_it_may_write(
    model: Path, wheels: Path, tmp_path: Path
) -> None:
    writable = tmp_path / "tmp"
    writable.mkdir()
    lock(model, next(wheels.iterdir()))
    variables = Container("python:3.11-slim").variables | {"HOME": str(writable), "TMPDIR": str(writable)}
    ended = start("--version=3", MODEL_FOLDER=str(model), PIP_FIND_LINKS=str(wheels), **variables)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["engine"] == "tiny engine 1.0"
    assert Path(said["python"]).is_relative_to(writable)


def test_on_an_image_that_was_built_from_a_lock_nothing_is_installed(model: Path, wheels: Path) -> None:
    lock(model, next(wheels.iterdir()))
    ended = start(MODEL_FOLDER=str(model), LIFECYCLE_ENVIRONMENT="serving-0123456789ab")
    assert json.loads(ended.stdout)["engine"] is None


@pytest.mark.slow
def test_a_package_with_other_bytes_than_the_lock_s_ends_it_before_the_server_starts(
    model: Path, wheels: Path, tmp_path: Path
) -> None:
    wheel = next(wheels.iterdir())
    lock(model, wheel)
    with zipfile.ZipFile(wheel, "a") as changed:
        changed.writestr("tiny_engine_too.py", "")
    ended = start(MODEL_FOLDER=str(model), PIP_FIND_LINKS=str(wheels), TMPDIR=str(tmp_path))
    assert ended.returncode == 1
    assert "DO NOT MATCH THE HASHES" in ended.stderr
    assert "could not be installed" in ended.stderr


@pytest.mark.slow
def test_packages_that_cannot_be_had_end_it_before_the_server_starts(model: Path, tmp_path: Path) -> None:
    (model / "code" / "requirements.txt").write_text(f"nowhere_to_be_found==1.0 --hash=sha256:{'0' * 64}\n")
    ended = start(MODEL_FOLDER=str(model), TMPDIR=str(tmp_path))
    assert ended.returncode == 1
    assert "nowhere_to_be_found" in ended.stderr
    assert "could not be installed" in ended.stderr


@pytest.fixture
def bucket(model: Path) -> Iterator[str]:
    """Cloud Storage and the metadata server, with a model in pages of one file; gives their address."""
    objects = {f"run/model/{file.relative_to(model)}": file for file in sorted(model.rglob("*.py"))}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            if url.path.startswith("/computeMetadata/"):
                content = json.dumps({"access_token": "secret"}).encode()
            elif self.headers["Authorization"] != "Bearer secret":
                self.send_error(401)
                return
            elif url.path == "/storage/v1/b/models/o":
                names = [name for name in objects if name.startswith(query["prefix"])]
                at = int(query.get("pageToken") or 0)
                more = {"nextPageToken": str(at + 1)} if at + 1 < len(names) else {}
                content = json.dumps({"items": [{"name": name} for name in names[at : at + 1]], **more}).encode()
            else:
                content = objects[urllib.parse.unquote(url.path.rpartition("/")[2])].read_bytes()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as url:
        yield url.removeprefix("http://")


def test_on_vertex_it_fetches_the_model_first(bucket: str, tmp_path: Path) -> None:
    places = {"STORAGE_EMULATOR_HOST": f"http://{bucket}", "GCE_METADATA_HOST": bucket}
    fetched = tmp_path / "fetched"
    ended = start("--version=3", MODEL_FOLDER=str(fetched), AIP_STORAGE_URI="gs://models/run/model", **places)
    assert json.loads(ended.stdout)["arguments"] == [f"--model_dir={fetched}", "--version=3"]
    ended = start(MODEL_FOLDER=str(fetched), AIP_STORAGE_URI="gs://models/run/nothing", **places)
    assert ended.returncode == 1
    assert "there is no model at gs://models/run/nothing" in ended.stderr
