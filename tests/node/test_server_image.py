"""The image that servers run from, built for real and run by runc as Kubernetes asks by its Restricted standard: not as
root, on a root filesystem that cannot be written, and here with no program in it but Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from kfp_lifecycle.environments.bill_of_materials import bill_of_materials, normalised
from kfp_lifecycle.environments.locks import interpreter, pinned_requirements
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.serving.client import Client, scores_in
from kfp_lifecycle.serving.container import USER, Container
from kfp_lifecycle.serving.ports import LOOPBACK, free_ports
from tests.devices import GOOD, INFER, formula
from tests.kubernetes_node.images import buildah
from tests.node.environment_images import build_images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UNTIL_SECONDS = 120.0
NAME = f"server-image-{os.getpid()}"
MODEL, LOG = "/mnt/models", "/data"


@dataclass
class Image:
    """An image, and a root filesystem of its own to change and run."""

    name: str
    root: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of how it is to be run."""
        described = json.loads(buildah("inspect", "--type", "image", self.name))
        found: dict[str, Any] = described["OCIv1"]["config"]
        return found


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    missing = [program for program in ("buildah", "runc") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"an image is built and run by root, buildah and runc; here is no {' and '.join(missing or ['root'])}"
        )
    (name,) = build_images(["serving"])
    buildah("from", "--pull-never", "--name", NAME, name)
    try:
        yield Image(name, Path(buildah("mount", NAME).strip()))
    finally:
        buildah("rm", NAME)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "devices"
    command = [str(interpreter("modelling")), str(ROOT / "tests" / "tiny_model.py"), str(folder)]
    subprocess.run(command, check=True, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    return folder


def test_its_bill_of_materials_lists_all_that_is_installed_in_it(image: Image) -> None:
    bill = json.loads(bill_of_materials("serving", image.root))
    listed = {
        (kind, normalised(each["name"]) if kind == "pkg:pypi" else each["name"], each["version"])
        for each in bill["components"]
        for kind in [each["purl"].partition("/")[0]]
    }
    folders = [str(folder) for folder in image.root.glob("usr/local/lib/python3*/site-packages")]
    python = {("pkg:pypi", normalised(one.metadata["Name"]), one.version) for one in distributions(path=folders)}
    assert len(python) > len(pinned_requirements("serving"))
    shown = subprocess.run(
        ["dpkg-query", f"--admindir={image.root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    debian = {("pkg:deb", *line.split()) for line in shown.splitlines()}
    assert "libgomp1" in {name for _, name, _ in debian}
    assert python | debian <= listed
    assert bill["metadata"]["component"]["type"] == "container"


def test_it_serves_without_root_a_writable_file_system_or_a_shell(image: Image, model: Path, tmp_path: Path) -> None:
    settings = image.settings
    assert settings["User"] == str(USER)
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"):
        for program in (image.root / folder).glob("*"):
            if not program.name.startswith("python"):
                program.unlink()
    assert not (image.root / "bin" / "sh").exists()
    log = tmp_path / "log"
    log.mkdir()
    os.chown(log, USER, USER)
    http_port, grpc_port = free_ports(2)
    arguments = {
        "model_name": "devices",
        "version": "1",
        "prediction_log": LOG,
        "host": LOOPBACK,
        "http_port": http_port,
        "grpc_port": grpc_port,
    }
    command = [*Container(image.name).command, *(f"--{name}={value}" for name, value in arguments.items())]
    variables = [*settings["Env"], f"MODEL_FOLDER={MODEL}"]
    volumes = {MODEL: (model, "ro"), LOG: (log, "rw")}
    bundle = written_bundle(tmp_path, image.root, command, variables, settings["WorkingDir"], volumes)
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(["runc", "run", "--bundle", bundle, NAME], stdout=output, stderr=output)
    try:
        wait_until_ready(process, http_port, tmp_path / "output")
        with Client(http_port) as client:
            assert scores_in(client.post(INFER, GOOD)) == pytest.approx([formula(30)], abs=1e-6)
        with grpc.insecure_channel(f"{LOOPBACK}:{grpc_port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check", request_serializer=Empty.SerializeToString, response_deserializer=bytes
            )
            # `status: SERVING`.
            assert check(Empty(), timeout=30) == b"\x08\x01"
        state = json.loads(subprocess.run(["runc", "state", NAME], capture_output=True, text=True, check=True).stdout)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{state['pid']}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert set(status["Uid"].split()) == {str(USER)}
        assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
        mounts = Path(f"/proc/{state['pid']}/mountinfo").read_text().splitlines()
        (of_root,) = (fields for fields in map(str.split, mounts) if fields[4] == "/")
        assert "ro" in of_root[5].split(",")
        process.send_signal(signal.SIGTERM)
        assert process.wait(UNTIL_SECONDS) == 0, (tmp_path / "output").read_text()
    finally:
        subprocess.run(["runc", "delete", "--force", NAME], check=False, capture_output=True)
        process.wait(UNTIL_SECONDS)
    assert [file.suffix for file in log.glob("devices/*/*")] == [".parquet"]


def written_bundle(
    folder: Path,
    root: Path,
    command: list[str],
    variables: list[str],
    place: str,
    volumes: dict[str, tuple[Path, str]],
) -> Path:
    """What runc runs: a root filesystem, and how."""
    bundle = folder / "bundle"
    bundle.mkdir()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    described = json.loads((bundle / "config.json").read_text())
    described["root"] = {"path": str(root), "readonly": True}
    described["process"] |= {
        "terminal": False,
        "user": {"uid": USER, "gid": USER},
        "args": command,
        "env": variables,
        "cwd": place,
        "capabilities": {},
        "noNewPrivileges": True,
    }
    # Of the machine's network, so that the test can ask.
    kinds = described["linux"]["namespaces"]
    described["linux"]["namespaces"] = [kind for kind in kinds if kind["type"] != "network"]
    scratch = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
    binds = [
        {"destination": inside, "type": "bind", "source": str(outside), "options": ["rbind", mode]}
        for inside, (outside, mode) in volumes.items()
    ]
    described["mounts"] += [scratch, *binds]
    # runc makes the mounts' places, which the root does not let it do afterwards.
    for inside in volumes:
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(described))
    return bundle


def wait_until_ready(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Until the server says that it is ready."""
    deadline = time.monotonic() + UNTIL_SECONDS
    with Client(port, timeout=5) as client:
        while client.get("/v2/health/ready").status != 200:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
