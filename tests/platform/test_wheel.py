"""The package as people install it: what wheel and sdist hold, and what the wheel does in an empty folder."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import LENIENT, ROOT, SMALL
from test_cli import COMMANDS

from kfp_lifecycle.compilation.code import library_files
from kfp_lifecycle.environments.build import uv
from kfp_lifecycle.serving.ports import port_pair

pytestmark = pytest.mark.slow
VERSIONS = ("3.11", "3.12", "3.13")
LACKING = re.compile(r"^error: this needs \w+, which is not installed here: pip install 'kfp-lifecycle\[local\]'$")

# One digest over all that is compiled: for each target, by each vehicle.
COMPILE = """
import hashlib, sys
from pathlib import Path
from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_components, compile_pipeline

project, state, output = map(Path, sys.argv[1:])
for target, registry in (("local", ""), ("kubeflow", ""), ("kubeflow", "registry.example"), ("vertex", "")):
    for name in PIPELINES:
        folder = output / f"{target}-{registry}"
        compiled = compile_pipeline(
            name, target, project, folder / f"{name}.yaml", image_registry=registry, state=state
        )
        for upload in compiled.uploads:
            upload.write(folder / "upload", compiled.upload_root)
compile_components(output / "components")
digest = hashlib.sha256()
for file in sorted(output.rglob("*")):
    if file.is_file():
        digest.update(f"{file.relative_to(output)}\\n".encode() + file.read_bytes())
print(digest.hexdigest())
"""


@functools.cache
def python(version: str) -> Path | None:
    """A Python of a version that this machine has, one that runs."""
    named = [Path(folder) / f"python{version}" for folder in os.get_exec_path()]
    managed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for program in (Path(sys.executable), *named, *managed):
        if program.is_file():
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
                return program
    return None


NEWEST = next(version for version in reversed(VERSIONS) if python(version))


class Installed:
    """An environment with the wheel in it, used from a folder that holds nothing."""

    def __init__(self, wheel: Path, version: str, folder: Path, extra: str = "") -> None:
        self.environment, self.folder = folder / "environment", folder / "a folder"
        self.folder.mkdir(parents=True)
        uv("venv", "--quiet", "--no-project", "--python", str(python(version)), str(self.environment))
        uv("pip", "install", "--quiet", "--python", str(self.environment / "bin" / "python"), f"{wheel}{extra}")

    def run(self, *command: str, expect: int = 0, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment."""
        done = subprocess.run(
            [self.environment / "bin" / command[0], *command[1:]],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def lifecycle(self, *arguments: str, expect: int = 0, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return self.run("lifecycle", *arguments, expect=expect, seconds=seconds)

    def variables(self) -> dict[str, str]:
        """Nothing of the checkout is on any path."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LIFECYCLE_STATE")}
        return {**kept, "PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1"}

    def files(self) -> set[Path]:
        """What the environment holds, but for bytecode."""
        return {file for file in self.environment.rglob("*") if "__pycache__" not in file.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installed]:
    """Gives the installation without extras under a Python."""

    @functools.cache
    def install_once(version: str) -> Installed:
        if python(version) is None:
            pytest.skip(f"this machine has no Python {version}")
        return Installed(wheel, version, tmp_path_factory.mktemp(f"python{version}"))

    return install_once


@pytest.fixture
def here(installed: Callable[[str], Installed]) -> Installed:
    """The installation under the newest Python, its folder emptied."""
    it = installed(NEWEST)
    shutil.rmtree(it.folder)
    it.folder.mkdir()
    return it


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    files = names(wheel)
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kfp_lifecycle"}
    rooms = {name.split("/")[1] for name in files if name.startswith("kfp_lifecycle/")}
    assert rooms.isdisjoint({"tests", "benchmarks", "docs", "src", "kfp_lifecycle", "feature_repo", "expectations"})
    assert not [name for name in files if "__pycache__" in name]
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_the_wheel_holds_every_module_lock_and_template(wheel: Path) -> None:
    wanted = {f"kfp_lifecycle/{file.relative_to(ROOT).as_posix()}" for file in library_files()}
    assert wanted - names(wheel) == set()


def test_a_wheel_that_is_built_from_the_sdist_is_the_same(built: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        assert not [member.name for member in archive if member.name.split("/")[1] in ("src", ".lifecycle", ".venv")]
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=unpacked, check=True, capture_output=True)
    assert names(next((tmp_path / "dist").glob("*.whl"))) == names(wheel)


@pytest.fixture(scope="module")
def digest(installed: Callable[[str], Installed], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the digest of all that an installation compiles of the reference project."""
    # Locally the state folder is part of what is compiled.
    state = tmp_path_factory.mktemp("state")

    @functools.cache
    def compile_once(version: str) -> str:
        output = tmp_path_factory.mktemp("compiled")
        return installed(version).run("python", "-c", COMPILE, str(ROOT), str(state), str(output)).stdout

    return compile_once


@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_compiles_the_same_bytes(version: str, digest: Callable[[str], str]) -> None:
    assert digest(version) == digest(f"{sys.version_info.major}.{sys.version_info.minor}")


@pytest.mark.parametrize("version", VERSIONS)
def test_help_of_every_command_needs_no_extra(version: str, installed: Callable[[str], Installed]) -> None:
    it = installed(version)
    assert "Copy an example project" in it.lifecycle("--help").stdout
    script = (
        "from kfp_lifecycle.cli.cli import main\n"
        f"for command in {COMMANDS!r}:\n    assert main([*command.split(), '--help']) == 0, command"
    )
    assert it.run("python", "-c", script).stdout.count("Usage:") == len(COMMANDS)
    assert it.lifecycle("config", "explain", "training.seed").stdout.startswith("training.seed")


def test_an_example_compiles_in_an_empty_folder(here: Installed) -> None:
    before = here.files()
    assert "lifecycle run training" in here.lifecycle("example", "cdnow", ".").stdout
    told = here.lifecycle("compile", "--target", "kubeflow").stdout
    assert "training.yaml" in told
    assert {file.name for file in (here.folder / "build" / "kubeflow").glob("*.yaml")} == {
        "training.yaml",
        "monitoring.yaml",
        "batch_scoring.yaml",
        "materialization.yaml",
    }
    # State belongs to the folder, never to where the code lies.
    assert here.files() == before


def test_a_cluster_is_asked_without_any_extra(here: Installed) -> None:
    here.lifecycle("example", "cdnow", ".")
    for verb in (("runs",), ("watch", "some-run"), ("schedule", "list")):
        said = here.lifecycle(*verb, "--target", "kubeflow", expect=1).stderr
        assert "it is not known where the Kubeflow is: set targets.kubeflow.endpoint" in said, verb


def test_an_example_overwrites_nothing(here: Installed) -> None:
    here.lifecycle("example", "churn")
    before = (here.folder / "churn" / "pipeline.yaml").read_bytes()
    refused = here.lifecycle("example", "cdnow", "churn", expect=2)
    assert "has pipeline.yaml" in refused.stderr
    assert (here.folder / "churn" / "pipeline.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "training"],
        ["status"],
        ["predict", "--entity", "1"],
        ["serve"],
        ["down"],
        ["rollback"],
        ["simulate", "--output", "x.duckdb"],
        ["simulate", "--list"],
    ],
    ids=" ".join,
)
def test_a_command_that_lacks_the_extra_says_so_in_one_line(
    arguments: list[str], installed: Callable[[str], Installed]
) -> None:
    it = installed(NEWEST)
    if not (it.folder / "pipeline.yaml").exists():
        it.lifecycle("example", "cdnow", ".")
    refused = it.lifecycle(*arguments, expect=2)
    assert LACKING.match(refused.stderr.strip()), refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["report"], 2, "start with `lifecycle run training`"),
        (["data", "log"], 0, "start one with `lifecycle run training`"),
        (["data", "checkout", "a7e77a59", "--output", "tables"], 2, "name one of `lifecycle data log`"),
        (["schema", "infer"], 2, "Start one with `lifecycle run training`"),
        (["schema", "diff"], 2, "Start one with `lifecycle run training`"),
        (["schema", "accept", "--yes"], 2, "Start one with `lifecycle run training`"),
        (["reproduce", "1"], 2, "is not built: run `lifecycle setup`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_reads_records_needs_no_extra_and_says_what_comes_first(
    arguments: list[str], code: int, told: str, installed: Callable[[str], Installed]
) -> None:
    it = installed(NEWEST)
    if not (it.folder / "pipeline.yaml").exists():
        it.lifecycle("example", "cdnow", ".")
    done = it.lifecycle(*arguments, expect=code)
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_setup_without_uv_says_where_it_comes_from(here: Installed) -> None:
    refused = here.lifecycle("setup", expect=1)
    assert "uv" in refused.stderr
    assert "kfp-lifecycle[local]" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_where_there_is_no_project_an_example_is_named(here: Installed) -> None:
    assert "`lifecycle example churn`" in here.lifecycle("compile", "--target", "local", expect=2).stderr


@pytest.fixture(scope="module")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The installation that runs pipelines and servers here; these are stopped at the end."""
    it = Installed(wheel, NEWEST, tmp_path_factory.mktemp("local"), extra="[local]")
    yield it
    it.lifecycle("down")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_goes_from_nothing_to_a_served_model(whole: Installed) -> None:
    whole.lifecycle("example", "churn", ".")
    whole.lifecycle("simulate", "--output", "data/churn.duckdb", "--customers", "2000", "--days", "500", "--seed", "3")
    missing = whole.lifecycle("run", "training", expect=2)
    assert "(modelling, serving, validation): run `lifecycle setup`" in missing.stderr
    assert not list((whole.folder / ".lifecycle" / "runs").iterdir())
    # Those of this checkout: 5 GB are not built again.
    (whole.folder / ".lifecycle" / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    assert "all environments are built" in whole.lifecycle("setup").stdout
    before = whole.files()
    settings = [*SMALL, *LENIENT, "--set", f"deployment.http_port={port_pair()}"]
    run = json.loads(whole.lifecycle("run", "training", "--json", *settings, seconds=800).stdout)
    assert run["state"] == "done"
    answer = json.loads(whole.lifecycle("predict", "--entity", "1").stdout)
    assert 0 <= answer["outputs"][0]["data"][0] <= 1
    status = json.loads(whole.lifecycle("status", "--json").stdout)
    assert status["endpoint"]["healthy"]
    assert Path(status["runs"][0]["report"]).is_relative_to(whole.folder / ".lifecycle")
    assert "all servers are stopped" in whole.lifecycle("down").stdout
    assert whole.files() == before
