"""The locks: hashed, naming no index, free of conflicts, and installed where there is no compiler."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kfp_lifecycle.environments.build import install, uv
from kfp_lifecycle.environments.lock import GROUPS, SETTINGS
from kfp_lifecycle.environments.locks import (
    CLUSTER_ENVIRONMENTS,
    HERE,
    SERVER_ENVIRONMENTS,
    STEP_ENVIRONMENTS,
    environment_directory,
    interpreter,
    pinned_requirements,
)

BUILT = [*STEP_ENVIRONMENTS, *CLUSTER_ENVIRONMENTS, *SERVER_ENVIRONMENTS, "platform"]
WITHOUT_A_WHEEL: list[str] = SETTINGS["no-binary-package"]

# FARM_FINGERPRINT of the three rows in BigQuery's manual, and a fingerprint32 as pyfarmhash 0.3.2 gave it.
FARMHASH = """
import farmhash

known = {"1footrue": -1541654101129638711, "2applefalse": 2794438866806483259, "3true": -4880158226897771312}
for text, fingerprint in known.items():
    assert farmhash.fingerprint64(text) == fingerprint % 2**64, text
assert farmhash.fingerprint32("a") == 1016544589
"""


def distribution(requirement: str) -> str:
    """The normalised name of what a requirement asks for."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds nothing."""
    directory = tmp_path_factory.mktemp("environment")
    uv("venv", "--quiet", "--python", str(interpreter("platform")), str(directory / "empty"))
    return directory / "empty" / "bin" / "python"


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH on which there is nothing at all."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.parametrize("name", GROUPS)
def test_a_lock_names_no_index_and_hashes_every_file(name: str) -> None:
    text = (HERE / f"{name}.txt").read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert len(pinned_requirements(name)) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()) if "==" in block)


@pytest.mark.slow
@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("name", GROUPS)
def test_a_lock_installs_where_there_is_no_compiler(name: str, empty: Path) -> None:
    sources = [option for package in WITHOUT_A_WHEEL for option in ("--no-binary", package)]
    install(empty, name, "--dry-run", "--only-binary", ":all:", *sources)


@pytest.mark.slow
@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(("name", "package"), [("platform", "kfp-server-api"), ("modelling", "pyspark-client")])
def test_what_has_no_wheel_is_built_without_a_compiler(
    name: str, package: str, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pyspark, which is 450 MB, is left out: the next test sees that what was built of it is pure Python.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    pin = next(pin for pin in pinned_requirements(name) if distribution(pin) == package)
    uv("pip", "install", "--python", str(empty), "--target", str(tmp_path / "built"), "--no-deps", pin)
    assert list((tmp_path / "built").glob("*.dist-info/WHEEL"))


@pytest.mark.parametrize("name", [*BUILT, "testing", "datasets"])
def test_nothing_that_is_installed_was_compiled_here(name: str) -> None:
    directory = environment_directory(name)
    folders = [directory, *directory.glob("lib/python*/site-packages")]
    wheels = [file for folder in folders for file in folder.glob("*.dist-info/WHEEL")]
    assert wheels
    # A wheel from an index says manylinux or any; plain linux is the tag of one that was built on the spot.
    compiled = [file.parent.name for file in wheels if re.search(r"^Tag: .*-linux_", file.read_text(), re.MULTILINE)]
    assert compiled == []


@pytest.mark.parametrize("name", BUILT)
def test_a_lock_is_installed_whole_and_free_of_conflicts(name: str) -> None:
    command = [str(interpreter("platform").with_name("uv")), "pip"]
    python = ["--python", str(interpreter(name))]
    frozen = subprocess.run([*command, "freeze", *python], capture_output=True, text=True, check=True)
    installed = {line.lower().replace("_", "-") for line in frozen.stdout.splitlines() if "==" in line}
    pins = {re.sub(r"\[.*\]", "", pin).lower().replace("_", "-") for pin in pinned_requirements(name)}
    assert pins <= installed
    check = subprocess.run([*command, "check", *python], capture_output=True, text=True, check=False)
    # The executor stands beside the lock without its own dependencies, and some of what packages ask for is overridden
    # (environments/pyproject.toml says why).
    decided = {distribution(item) for item in SETTINGS["override-dependencies"] + SETTINGS["exclude-dependencies"]}
    asked = re.findall(r"^The package `(.+?)` requires `(.+?)`", check.stderr, re.MULTILINE)
    assert [item for item in asked if item[0] != "kfp" and distribution(item[1]) not in decided] == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_command_line_s_lock_is_whole_for_each_python(version: str, empty: Path) -> None:
    lock = ["--require-hashes", "-r", str(HERE / "platform.txt")]
    wheels = ["--only-binary", ":all:", "--no-binary", "kfp-server-api"]
    uv("pip", "install", "--dry-run", "--python", str(empty), "--python-version", version, *lock, *wheels)


def test_the_farmhash_that_tfdv_gets_computes_what_that_of_its_choice_did() -> None:
    subprocess.run([str(interpreter("validation")), "-c", FARMHASH], check=True)
