"""Images of the environments: they are named as compiled pipelines ask, and hold all code that steps run."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from kfp_lifecycle.compilation import images
from kfp_lifecycle.compilation.code import library_files
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.config.targets import STOCK_IMAGE, TargetName
from kfp_lifecycle.environments.locks import HERE, lock_digest
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT

# Instead of docker: keeps what it is told, and what it is given to build from.
BUILDER = """#!/bin/sh
echo "$@" >> "$KEPT/calls"
for context; do :; done
[ "$2" = build ] && cp -r "$context" "$KEPT/$(ls "$context" | grep -v -e bootstrap -e kfp | grep txt)"
exit 0
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    builder = folder / "builder"
    builder.write_text(BUILDER)
    builder.chmod(0o755)
    os.environ["KEPT"] = str(folder)
    images.main(["--registry", "registry.example/ml", "--builder", f"{builder} --quiet", "--push"])
    return folder


def test_every_image_that_a_pipeline_asks_for_is_built_and_pushed_by_that_name(kept: Path, tmp_path: Path) -> None:
    compile_pipeline("training", "kubeflow", ROOT, tmp_path / "x.yaml", image_registry="registry.example/ml")
    executors = read_pipeline(tmp_path / "x.yaml")["deploymentSpec"]["executors"]
    asked = {executor["container"]["image"] for executor in executors.values() if "container" in executor}
    calls = (kept / "calls").read_text()
    # Of the library's digest only its place: whoever works on the library may have changed it between the two.
    names = {re.sub(r"-[0-9a-f]{12}$", "", name) for name in re.findall(r"build .* --tag (\S+)", calls)}
    assert {re.sub(r"-[0-9a-f]{12}$", "", name) for name in asked} <= names
    assert {f"{name.rpartition('-')[0]}" for name in re.findall(r"push (\S+)", calls)} == names
    assert all(f"--build-arg LOCK_DIGEST={name.rpartition(':')[2]}" in calls for name in names)


def test_an_image_is_built_from_its_locks_and_the_wheel_alone(kept: Path) -> None:
    for environment in images.environments():
        given = {file.name for file in (kept / f"{environment}.txt").iterdir()}
        wheels = {name for name in given if name.endswith(".whl")}
        assert given - wheels == {"Dockerfile", "bootstrap.txt", "kfp.txt", f"{environment}.txt"}
        assert len(wheels) == 1


def test_the_wheel_holds_every_file_that_a_step_may_run(kept: Path) -> None:
    (wheel,) = (kept / "modelling.txt").glob("*.whl")
    wanted = {f"{PACKAGE}/{file.relative_to(ROOT).as_posix()}" for file in library_files()}
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_an_image_says_which_lock_it_was_built_from_as_an_archive_asks() -> None:
    text = (HERE / "Dockerfile").read_text()
    assert "LIFECYCLE_ENVIRONMENT=${ENVIRONMENT}-${LOCK_DIGEST}" in text
    assert text.index("LIFECYCLE_ENVIRONMENT") < text.index("COPY ${WHEEL}")


def test_the_base_of_images_is_named_by_its_digest() -> None:
    text = (HERE / "Dockerfile").read_text()
    assert re.findall("^FROM (.+)$", text, re.MULTILINE) == ["${BASE}"]
    (base,) = re.findall("^ARG BASE=(.+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim@sha256:[0-9a-f]{64}", base)


@pytest.mark.parametrize(("pipeline", "target"), [("training", "kubeflow"), ("monitoring", "vertex")])
def test_steps_without_images_run_on_the_one_that_the_target_names(
    pipeline: str, target: TargetName, tmp_path: Path
) -> None:
    mirror = "mirror.example/python:3.11-slim"
    for overrides, image in (([], STOCK_IMAGE), ([f"targets.{target}.stock_image={mirror}"], mirror)):
        file = tmp_path / "pipeline.yaml"
        compile_pipeline(pipeline, target, ROOT, file, overrides=overrides)
        executors = read_pipeline(file)["deploymentSpec"]["executors"]
        assert {each["container"]["image"] for each in executors.values() if "container" in each} == {image}


def test_an_environment_of_no_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        images.main(["--registry", "r.example", "develop"])
    assert "no step runs in develop: choose from katib, modelling" in capsys.readouterr().err


def test_lock_digests_are_of_twelve_digits() -> None:
    assert all(re.fullmatch("[0-9a-f]{12}", lock_digest(environment)) for environment in images.environments())
