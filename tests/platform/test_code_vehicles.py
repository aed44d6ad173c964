"""Code of steps: in the environment's image, or as an archive that is an input of the step; never in the workflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.compilation.code import (
    code_of,
    digest_of,
    environment_archive,
    keep_code,
    library_digest,
    library_files,
    zipped,
)
from kfp_lifecycle.compilation.pipeline import compile_pipeline, components
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.runtime.closure import ROOT, bare, module_closure
from kfp_lifecycle.runtime.outputs import write_whole

COMPONENTS = components()


def executors(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_pipeline(file)["deploymentSpec"]["executors"]
    return {name: executor["container"] for name, executor in found.items() if "container" in executor}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("artifact") / "training.yaml"
    compile_pipeline("training", "kubeflow", ROOT, file)
    return file


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("image") / "training.yaml"
    compile_pipeline("training", "kubeflow", ROOT, file, image_registry="registry.example/ml")
    return file


def test_a_container_is_a_few_words_that_read_as_what_they_are(artifact: Path, image: Path) -> None:
    options = ["--executor_input", "{{$}}", "--function_to_execute", "train_model"]
    module = "kfp_lifecycle.components.training.train_model.component"
    of_image, of_artifact = (executors(file)["exec-train-model"] for file in (image, artifact))
    assert of_image["command"] == ["python3", "-m", "kfp_lifecycle.runtime.executor", module]
    assert of_artifact["command"] == ["python3", "{{$.inputs.artifacts['code'].path}}", module]
    assert of_image["args"] == of_artifact["args"] == options
    # Only the exit handler, which can have no inputs, carries its own.
    large = [name for name, item in executors(artifact).items() if len(json.dumps(item["command"])) > 300]
    assert large == ["exec-notify"]


def test_images_are_named_by_the_digests_of_their_lock_and_of_the_library(image: Path) -> None:
    for container in executors(image).values():
        environment = re.fullmatch(
            r"registry\.example/ml/kfp-lifecycle-([a-z]+):([0-9a-f]{12})-([0-9a-f]{12})", container["image"]
        )
        assert environment is not None
        assert environment[2] == lock_digest(environment[1])
        assert environment[3] == library_digest()
    told = {item["name"]: item.get("value", "") for item in executors(image)["exec-release-model"]["env"]}
    assert told["LIFECYCLE_SERVING_IMAGE"].startswith("registry.example/ml/kfp-lifecycle-serving:")


def test_what_is_uploaded_is_what_the_pipeline_imports(tmp_path: Path) -> None:
    file = tmp_path / "training.yaml"
    compiled = compile_pipeline("training", "kubeflow", ROOT, file)
    specification = read_pipeline(file)["deploymentSpec"]["executors"]
    imported = {item["importer"]["artifactUri"]["constant"] for item in specification.values() if "importer" in item}
    assert imported == {upload.uri for upload in compiled.uploads}
    assert {upload.name for upload in compiled.uploads} == {
        *(f"code-{environment}" for environment in ("modelling", "platform", "serving", "validation")),
        *("expectations", "feature_repo", "label_query"),
    }
    for upload in compiled.uploads:
        upload.write(tmp_path / "upload", compiled.upload_root)
    for uri in imported:
        assert (tmp_path / "upload" / uri.removeprefix(f"{compiled.upload_root}/")).exists()


def test_an_importer_is_shown_by_the_name_that_its_readers_know(artifact: Path) -> None:
    # Kubeflow Pipelines 2.17 files an importer under its display name, and looks for it under its task's.
    pipeline = read_pipeline(artifact)
    tasks = {
        name: task
        for part in pipeline["components"].values()
        for name, task in part.get("dag", {}).get("tasks", {}).items()
    }
    labels = {
        name: pipeline["components"][task["componentRef"]["name"]].get("executorLabel") for name, task in tasks.items()
    }
    executors = pipeline["deploymentSpec"]["executors"]
    importers = {name for name, label in labels.items() if label and "importer" in executors[label]}
    assert importers == {
        *(f"code-{environment}" for environment in ("modelling", "platform", "serving", "validation")),
        *("expectations", "feature-repo", "label-query"),
    }
    assert all(tasks[name]["taskInfo"]["name"] == name for name in importers)


def test_with_images_nothing_but_definitions_is_imported(tmp_path: Path) -> None:
    compiled = compile_pipeline("training", "vertex", ROOT, tmp_path / "x.yaml", image_registry="r.example")
    assert [upload.name for upload in compiled.uploads] == ["feature_repo", "label_query", "expectations"]
    monitoring = compile_pipeline("monitoring", "vertex", ROOT, tmp_path / "y.yaml", image_registry="r.example")
    assert {upload.uri for upload in monitoring.uploads if upload.name != "training_pipeline"} == {
        upload.uri for upload in compiled.uploads
    }


def test_an_archive_has_a_name_by_its_content_and_the_same_bytes_wherever_it_is_made() -> None:
    files = environment_archive("serving", COMPONENTS.values())
    assert zipped(files) == zipped(dict(reversed(files.items())))
    changed = {**files, "locks/serving.txt": files["locks/serving.txt"] + b"\n"}
    assert digest_of(changed) != digest_of(files)
    assert {path for path in files if path.startswith("locks/")} == {
        "locks/ENVIRONMENT", "locks/bootstrap.txt", "locks/kfp.txt", "locks/serving.txt"
    }  # fmt: skip


def test_a_change_of_the_training_code_changes_only_the_steps_that_hold_it(tmp_path: Path) -> None:
    module = "kfp_lifecycle/components/training/train_model/training.py"
    holders = {name for name, component in COMPONENTS.items() if module in code_of(component)}
    assert holders == {"train_model"}
    # What belongs to compiling, to the command line and to running here is in no step; one starts another pipeline.
    for name, component in COMPONENTS.items():
        rooms = {path.split("/")[1] for path in code_of(component) if path.count("/") > 1}
        clients = {"compilation", "local"} if name == "trigger_retraining" else set()
        assert not rooms & {"cli", "compilation", "local", "pipelines", "simulation"} - clients, name


def test_code_is_kept_once_by_its_digest(tmp_path: Path) -> None:
    files = code_of(COMPONENTS["notify"])
    digest = keep_code(files, tmp_path)
    assert keep_code(files, tmp_path) == digest
    assert [place.name for place in (tmp_path / "code").iterdir()] == [digest]
    kept = {
        str(file.relative_to(tmp_path / "code" / digest)) for file in (tmp_path / "code").rglob("*") if file.is_file()
    }
    assert kept == set(files)


def test_code_is_whole_where_many_keep_it_at_once(tmp_path: Path) -> None:
    """Compilations beside each other, in a state folder that is new."""
    files = {f"module_{number}.py": b"" for number in range(50)}
    together = threading.Barrier(8)

    def keep() -> str:
        together.wait()
        return keep_code(files, tmp_path)

    with ThreadPoolExecutor(8) as pool:
        digests = {found.result() for found in [pool.submit(keep) for _ in range(8)]}
    [digest] = digests
    assert [place.name for place in (tmp_path / "code").iterdir()] == [digest]
    assert {file.name for file in (tmp_path / "code" / digest).iterdir()} == set(files)


def test_of_two_writers_of_a_file_the_later_one_s_is_there(tmp_path: Path) -> None:
    written = [f"{number}" * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(tmp_path / "file", text), written * 5))
    assert (tmp_path / "file").read_text() in written
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


def test_comments_and_docstrings_change_no_digest() -> None:
    written = b'"""Of\n\ntwo lines."""  # noqa\n\n\nclass Broken(Exception):  # why\n    """None: \xc3\xa9."""\n\n\n'
    written += b'# Kept.\nlast = "# kept"\n'
    assert bare(written) == b'""\n\n\n\n\nclass Broken(Exception):\n    ""\n\n\n\nlast = "# kept"\n'
    travelling = module_closure(["kfp_lifecycle.runtime.closure"])["kfp_lifecycle/runtime/closure.py"]
    assert len(travelling.splitlines()) == len((ROOT / "runtime" / "closure.py").read_bytes().splitlines())
    assert bare(travelling) == travelling


def test_imports_inside_functions_are_found_and_libraries_are_not(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "__init__.py").write_text("")
    (room / "__init__.py").write_text("")
    (room / "first.py").write_text("def work():\n    from kfp_lifecycle.room.second import thing\n    import json\n")
    (room / "second.py").write_text("thing = 1\n")
    (room / "third.py").write_text("")
    (room / "page.html.j2").write_text("<p>")
    assert list(module_closure(["kfp_lifecycle.room.first.work", "numpy"], tmp_path)) == [
        "kfp_lifecycle/__init__.py",
        "kfp_lifecycle/room/__init__.py",
        "kfp_lifecycle/room/first.py",
        "kfp_lifecycle/room/page.html.j2",
        "kfp_lifecycle/room/second.py",
    ]


def test_the_digest_of_the_library_counts_code_and_locks_and_no_tests() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in library_files()}
    assert {"__init__.py", "environments/serving.txt", "runtime/executor.py", "reports/base.html.j2"} <= names
    assert not any(name.startswith(("tests/", "src/", ".lifecycle/", "docs/")) for name in names)


@pytest.mark.slow
def test_the_exit_handler_runs_on_a_python_that_has_nothing(artifact: Path, tmp_path: Path) -> None:
    """The container's own command, as a pod of a stock image would run it."""
    container = executors(artifact)["exec-notify"]
    status = {"state": "COMPLETE", "pipelineJobResourceName": "training-x", "pipelineTaskName": "exit-handler-1"}
    told = {
        "inputs": {"parameterValues": {"pipeline": "training", "status": status}},
        "outputs": outputs("message", "system.Markdown", tmp_path),
    }
    done = run_container(container, told, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training: done" in done.stdout
    assert (tmp_path / "message").read_text("utf-8")


@pytest.mark.slow
def test_a_step_installs_its_lock_from_the_archive_and_runs(artifact: Path, tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    archive.write_bytes(zipped(environment_archive("platform", COMPONENTS.values())))
    with zipfile.ZipFile(archive) as packed:
        assert "kfp_lifecycle/components/operations/write_report/component.py" in packed.namelist()
    container = executors(artifact)["exec-write-report"]
    container["command"] = [
        part.replace("{{$.inputs.artifacts['code'].path}}", str(archive)) for part in container["command"]
    ]
    report = {"name": "report", "uri": str(tmp_path / "report.html"), "type": {"schemaTitle": "system.HTML"}}
    told = {
        "inputs": {
            "parameterValues": {"pipeline": "training", "run_id": "x", "settings": {"name": "churn", "title": "Churn"}},
            "artifacts": {"code": {"artifacts": [{"name": "code", "uri": str(archive), "type": {}}]}},
        },
        "outputs": {
            "artifacts": {"report": {"artifacts": [report]}},
            "outputFile": str(tmp_path / "out" / "output.json"),
        },
    }
    done = run_container(container, told, tmp_path)
    # Its settings lack what it declares: the step itself says so, in words, so its lock and its code are there.
    assert "installing kfp, platform" in done.stdout
    assert "entity: this key is required" in (tmp_path / "termination-log").read_text("utf-8")


def outputs(name: str, kind: str, folder: Path) -> dict[str, Any]:
    """The part of KFP's ExecutorInput that says where an output goes."""
    artifact = {"name": name, "uri": str(folder / name), "type": {"schemaTitle": kind}}
    return {"artifacts": {name: {"artifacts": [artifact]}}, "outputFile": str(folder / "out" / "output.json")}


def run_container(container: dict[str, Any], told: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a container's command with an empty environment's Python, as KFP's launcher would."""
    venv.create(folder / "empty", with_pip=True, symlinks=True)
    arguments = [json.dumps(told) if part == "{{$}}" else part for part in container["args"]]
    kept = {
        name: os.environ[name]
        for name in os.environ
        if name.startswith(("PIP_", "SSL_", "REQUESTS_")) or name == "HOME"
    }
    return subprocess.run(
        [str(folder / "empty" / "bin" / "python"), *container["command"][1:], *arguments],
        env={**kept, "PATH": "/usr/bin:/bin", "TERMINATION_LOG": str(folder / "termination-log")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
