"""`lifecycle reproduce`: train a model again from what is recorded with it, and compare byte by byte."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console

from kfp_lifecycle.compilation.component import LOCAL_IMAGE
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import CONFIGURATION_FILE, apply_override, load_configuration, parse_yaml
from kfp_lifecycle.config.stores import STORES_FILE, local_stores
from kfp_lifecycle.config.validation import OnBadRows
from kfp_lifecycle.environments.locks import environment_directory, interpreter
from kfp_lifecycle.local.runs import all_runs
from kfp_lifecycle.local.state import CHECKOUT, RUNS, STATE
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.closure import PROJECT_FOLDER
from kfp_lifecycle.runtime.outputs import write_whole

COMPARISON = "kfp_lifecycle.modelling.comparison"
CHECK_OUT = (
    "import sys, pathlib; from kfp_lifecycle.components.data.version_dataset.versioning import checkout; "
    "checkout(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))"
)
# What each step reads and writes.
STEPS = {
    "validate-data": (("project", "snapshot"), ("validated", "report")),
    "build-training-set": (("project", "validated"), ("training_set",)),
    "train-model": (("project", "training_set", "parameters"), ("model",)),
}
_MLFLOW_RUN = re.compile(r"^[0-9a-f]{32}$")
_ARCHIVE = re.compile(r"__KFP_EMBEDDED_ARCHIVE_B64 = '([A-Za-z0-9+/=]+)'")


class CannotReproduce(Exception):
    """What is needed to train the model again is not to be had; the message says what, and where it was sought."""


@dataclass(frozen=True)
class Reproduction:
    """A model trained again.

    Attributes:
        identical: Whether `model.onnx` has the same bytes.
        differences: What differs, each `what`, `was` and `now`; also where the bytes are the same.
        digest: SHA-256 of the new `model.onnx`.
    """

    identical: bool
    differences: list[dict[str, str]]
    digest: str


def reproduce(
    reference: str,
    tracking_uri: str,
    model: str,
    work: Path,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Reproduction:
    """Train a model again and compare.

    The data version comes from its DVC remote, the code from the compiled pipeline of the run that trained it, or from
    the commit and the change that it was compiled from, and the parameters from the model: nothing is searched again.
    The steps `build_training_set` and `train_model` run as they ran then.

    Args:
        reference: A run of this checkout, an MLflow run, or a version in the registry (`3` or `NAME/3`).
        tracking_uri: MLflow server that knows versions and its own runs.
        model: The model's name in the registry, where the reference is a bare version.
        work: An empty folder for all that is fetched and made.
        overrides: `KEY=VALUE` pairs for the configuration, to see what would differ.
        say: Told what is under way.

    Raises:
        CannotReproduce: data, code or environment are not to be had.
        ConfigurationError: an override cannot be used.
    """
    original = fetch_model(reference, tracking_uri, model, work)
    description = json.loads((original / "model.json").read_text("utf-8"))
    origin = description.get("origin")
    if origin is None:
        raise CannotReproduce("it does not say where it comes from: it was trained before that was recorded.")
    pipeline = compiled_pipeline(original, origin, work, say)
    executors = pipeline["deploymentSpec"]["executors"]
    project = unpack_project(pipeline, work, overrides)
    version, remote = origin["data"]["version"], origin["data"]["remote"]
    say(f"data version {version} from {remote}")
    tables = work / "tables"
    run_python("validation", ["-c", CHECK_OUT, version, remote, str(tables)], f"the data version {version}")
    artifacts = {"project": artifact(project), "snapshot": artifact(tables, version=version)}
    if load_configuration(project).validation.on_bad_rows is OnBadRows.quarantine:
        say("rows are put in quarantine again")
        artifacts |= run_step(executors, "validate-data", artifacts, work)
    else:
        artifacts["validated"] = artifacts["snapshot"]
    say("features and labels are joined again")
    artifacts |= run_step(executors, "build-training-set", artifacts, work)
    parameters = work / "parameters"
    write_whole(parameters, json.dumps({"parameters": description["parameters"]}))
    artifacts["parameters"] = artifact(parameters)
    say("the model is trained again")
    again = run_step(executors, "train-model", artifacts, work)["model"]["uri"]
    compared = run_python("modelling", ["-m", COMPARISON, "compare", str(original), again], "the comparison")
    return Reproduction(**json.loads(compared))


def reproduce_model(
    reference: str,
    project: Path,
    overrides: Sequence[str],
    tracking_uri: str | None,
    out: Console,
    err: Console,
    as_json: bool,
) -> bool:
    """`lifecycle reproduce`: what is under way goes to `err`, the outcome to `out`.

    Returns:
        Whether the bytes are the same.

    Raises:
        typer.Exit: with code 2 where the model cannot be trained again.
    """

    def say(line: str) -> None:
        err.print(line, markup=False, soft_wrap=True)

    try:
        configuration = load_configuration(project)
        uri = tracking_uri or local_stores(STATE, configuration.name).tracking_uri
        with tempfile.TemporaryDirectory(prefix="reproduce-") as work:
            found = reproduce(reference, uri, configuration.deployment.model, Path(work), overrides, say)
    except (CannotReproduce, ConfigurationError) as error:
        say(f"error: {reference} cannot be trained again: {error}")
        raise typer.Exit(2) from None
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
    else:
        out.print(describe(found), markup=False, soft_wrap=True)
    return found.identical


def describe(found: Reproduction) -> str:
    """The outcome, for a terminal."""
    differences = [f"  {item['what']}: {item['was']} → {item['now']}" for item in found.differences]
    if not found.identical:
        return "\n".join(["Different. What is not as it was:", *differences])
    known = ["All the same, this is not as it was:", *differences] if differences else []
    return "\n".join([f"Identical: model.onnx has the same bytes (SHA-256 {found.digest}).", *known])


def fetch_model(reference: str, tracking_uri: str, model: str, work: Path) -> Path:
    """The folder of the model that a reference means.

    Raises:
        CannotReproduce: there is no such run or version, or the run trained no model.
    """
    run = next((record for record in all_runs() if record.id == reference), None)
    if run is not None:
        found = run.progress().artifact("model")
        if found is None or not (Path(found[0]) / "model.json").is_file():
            raise CannotReproduce("the run has no model: it did not come to train_model, or was cleared.")
        return Path(found[0])
    if not _MLFLOW_RUN.match(reference) and "/" not in reference:
        reference = f"{model}/{reference}"
    destination = work / "original"
    fetch = ["-m", COMPARISON, "fetch", tracking_uri, reference, str(destination)]
    return Path(run_python("modelling", fetch, "no run of this checkout has this name, and MLflow's answer").strip())


def compiled_pipeline(original: Path, origin: Mapping[str, Any], work: Path, say: Callable[[str], None]) -> Any:
    """The training pipeline as it was compiled then: the run's own file, or compiled again from the same commit.

    Raises:
        CannotReproduce: the run was cleared, and its commit is not in this repository.
    """
    kept = RUNS / origin["pipeline_run"] / "pipeline.yaml"
    if origin["pipeline_run"] and kept.is_file():
        say(f"code as compiled for the run {origin['pipeline_run']}")
        return yaml.safe_load(kept.read_text("utf-8"))
    commit, changed = origin["code"]["commit"], origin["code"]["changed"]
    change = original / "code.diff"
    if not commit or (changed and not change.is_file()):
        raise CannotReproduce(
            f"the code is not to be had: the run {origin['pipeline_run']} is not kept in {RUNS}, and "
            + ("its commit is not known." if not commit else f"changes to {', '.join(changed)} were never committed.")
        )
    say(f"code of the commit {commit[:12]}" + (f" with changes to {len(changed)} files" if changed else ""))
    tree = work / "code"
    tree.mkdir()
    archived = subprocess.run(["git", "archive", commit], cwd=CHECKOUT, capture_output=True, check=False)
    if archived.returncode:
        raise CannotReproduce(f"the commit {commit} is not in the repository {CHECKOUT}: fetch it first.")
    unpack(archived.stdout, tree)
    if change.is_file():
        checked(["git", "apply", str(change.resolve())], tree, {}, "the uncommitted change")
    compile_it = ["compile.py", "--target", "local", "--pipeline", "training", "--output", str(work / "compiled")]
    checked(
        [str(interpreter("platform")), *compile_it, "--project", str(original.resolve())], tree, {}, "the compilation"
    )
    return yaml.safe_load((work / "compiled" / "training.yaml").read_text("utf-8"))


def unpack_project(pipeline: Mapping[str, Any], work: Path, overrides: Sequence[str]) -> Path:
    """The project inside a compiled pipeline, with stores of its own in `work`: nothing that others read is written."""
    embedded = embedded_code(pipeline["deploymentSpec"]["executors"], "load-project", work / "embedded")
    project = work / "project"
    shutil.copytree(embedded / PROJECT_FOLDER, project)
    if overrides:
        file = project / CONFIGURATION_FILE
        values = parse_yaml(file.read_text("utf-8"), CONFIGURATION_FILE)
        for override in overrides:
            apply_override(values, override)
        file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "utf-8")
    stores = local_stores(work / "stores", load_configuration(project).name).model_dump(mode="json")
    # The pipeline's parameters are the stores that its code knew.
    known = pipeline["root"]["inputDefinitions"]["parameters"]
    (project / STORES_FILE).write_text(yaml.safe_dump({key: stores[key] for key in stores if key in known}), "utf-8")
    return project


def embedded_code(executors: Mapping[str, Any], step: str, destination: Path) -> Path:
    """Unpack what travels with a step of a compiled pipeline into a folder, and return it."""
    found = _ARCHIVE.search("\n".join(executors[f"exec-{step}"]["container"]["command"]))
    if found is None:
        raise CannotReproduce(f"the compiled pipeline holds no code of {step}.")
    unpack(base64.b64decode(found[1]), destination)
    return destination


def unpack(archive: bytes, destination: Path) -> None:
    """Unpack the files of a tar archive, and nothing that leads out of the folder.

    Python's own filter for that came with 3.11.4.

    Raises:
        CannotReproduce: a file would be written elsewhere.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = (destination / member.name).resolve()
            if not file.is_relative_to(destination.resolve()):
                raise CannotReproduce(f"the archive of the code names {member.name}, which is out of its folder.")
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.read())


def artifact(place: Path, **metadata: Any) -> dict[str, Any]:
    """A KFP artifact on this machine."""
    kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    return {"name": place.name, "uri": str(place), "type": kind, "metadata": metadata}


def run_step(
    executors: Mapping[str, Any], step: str, artifacts: Mapping[str, dict[str, Any]], work: Path
) -> dict[str, dict[str, Any]]:
    """Run one step of a compiled pipeline, as KFP's launcher does.

    Args:
        executors: Of the compiled pipeline.
        step: Its name there.
        artifacts: What it may read, by name.
        work: Its outputs go to `<step>/` below it.

    Returns:
        Its output artifacts by name.

    Raises:
        CannotReproduce: it failed; the message has its reason.
    """
    inputs, outputs = STEPS[step]
    folder = work / step
    folder.mkdir()
    written = {name: artifact(folder / name) for name in outputs}
    executor_input = {
        "inputs": {"artifacts": {name: {"artifacts": [artifacts[name]]} for name in inputs}},
        "outputs": {
            "artifacts": {name: {"artifacts": [item]} for name, item in written.items()},
            "outputFile": str(folder / "output.json"),
        },
    }
    container = executors[f"exec-{step}"]["container"]
    python = step_interpreter(container["image"])
    script = next(place for place, part in enumerate(container["command"]) if "ephemeral_component.py" in part)
    command = list(container["command"])
    command[script] = command[script].replace("python3", shlex.quote(str(python)))
    arguments = [json.dumps(executor_input) if part == "{{$}}" else part for part in container["args"]]
    termination_log = folder / "termination-log"
    variables = {item["name"]: item["value"] for item in container.get("env", [])}
    variables |= {"LIFECYCLE_ENVIRONMENT": python.parents[1].name, "TERMINATION_LOG": str(termination_log)}
    checked([*command, *arguments], folder, variables, step, termination_log)
    made = json.loads((folder / "output.json").read_text("utf-8")).get("artifacts", {})
    return {name: {**item, **made[name]["artifacts"][0]} if name in made else item for name, item in written.items()}


def step_interpreter(image: str) -> Path:
    """The Python for a step: that of its own lock where it still stands here, else that of today's lock."""
    named = LOCAL_IMAGE.match(image)
    if named is None:
        raise CannotReproduce(f"{image} is no image of a local compilation.")
    environment = named["environment"]
    exact = environment_directory(environment).parent / f"{environment}-{named['digest']}" / "bin" / "python"
    return exact if exact.exists() else interpreter(environment)


def run_python(environment: str, arguments: Sequence[str], what: str) -> str:
    """Run code of this checkout under an environment.

    Returns:
        What it printed.

    Raises:
        CannotReproduce: it failed.
    """
    return checked([str(interpreter(environment)), *arguments], CHECKOUT, {"PYTHONPATH": str(CHECKOUT / "src")}, what)


def checked(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], what: str, reason: Path | None = None
) -> str:
    """Run a command.

    Returns:
        What it printed.

    Raises:
        CannotReproduce: it failed; the message has what it left in `reason`, or its last words.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, **STEP_VARIABLES, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = reason.read_text("utf-8") if reason is not None and reason.exists() else ""
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise CannotReproduce(f"{what} failed: {told or ''.join(last) or f'exit code {done.returncode}'}")
    return done.stdout
