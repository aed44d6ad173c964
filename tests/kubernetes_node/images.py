"""Images for the node, built here by buildah: nothing can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kfp_lifecycle.environments.locks import interpreter
from tests.kubernetes_node.root_filesystem import copy_debian, copy_python
from tests.servers import GO_PROGRAMS

# Layers of earlier tests are found again.
STORE = GO_PROGRAMS.parent / "images"
PAUSE, BASE = "localhost/pause:1", "localhost/python:3.11-slim"
# No engine and no daemon: what is built runs with another root.
BUILDAH = ("buildah", "--root", str(STORE / "storage"), "--runroot", str(STORE / "run"), "--storage-driver", "overlay")
VARIABLES = {"BUILDAH_ISOLATION": "chroot", "BUILDAH_LAYERS": "true"}


def buildah(*words: str) -> str:
    """The command `buildah`, and what it answers."""
    STORE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*BUILDAH, *words], env=os.environ | VARIABLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"buildah {' '.join(words)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def is_there(image: str) -> bool:
    """Whether an image was built here."""
    return bool(buildah("images", "--quiet", "--filter", f"reference={image}").strip())


def build(image: str, containerfile: str, files: Iterable[Path] = (), context: Path | None = None) -> str:
    """Build an image of a few files, or of a folder; its name."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        recipe = Path(folder) / "Containerfile"
        recipe.write_text(containerfile, encoding="utf-8")
        buildah("build", "--file", str(recipe), "--tag", image, str(context or folder))
    return image


def load_image(image: str, socket: Path) -> None:
    """Give an image to a containerd."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
        command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", str(archive)]
        subprocess.run(command, check=True, capture_output=True)


def pause_image() -> str:
    """The image of every pod's own container, which holds its network."""
    if not is_there(PAUSE):
        build(PAUSE, 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n', [GO_PROGRAMS / "pause"])
    return PAUSE


def base_image() -> str:
    """A Debian with the CPython of the steps, as the base of `environments/Dockerfile` is one."""
    if not is_there(BASE):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            copy_debian(root)
            copy_python(interpreter("modelling"), root)
            path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            # Not all that is installed with asks the system whom it trusts.
            trust = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
            build(BASE, f'FROM scratch\nCOPY . /\nENV {path} LANG=C.UTF-8 {trust}\nCMD ["python3"]\n', context=root)
    return BASE
