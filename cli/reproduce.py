"""`lifecycle reproduce`: train a model again from what is recorded with it, and compare byte by byte."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.cli.console import write_json
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import apply_override, load_configuration
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.environments.locks import SETUP, environment_directory, interpreter, is_built
from kfp_lifecycle.features.settings import FEATURE_REPOSITORY, LABEL_QUERY
from kfp_lifecycle.local.run_records import all_runs
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole

COMPARISON = "kfp_lifecycle.modelling.comparison"
CHECK_OUT = (
    "import sys, pathlib; from kfp_lifecycle.components.data.version_dataset.versioning import checkout; "
    "checkout(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))"
)
FETCH = "import sys, fsspec; fsspec.filesystem(sys.argv[1].partition('://')[0]).get(sys.argv[1], sys.argv[2])"
_MLFLOW_RUN = re.compile(r"^[0-9a-f]{32}$")
_ENVIRONMENT = re.compile(r"^(?P<name>[a-z]+)-(?P<digest>[0-9a-f]{12})$")


@dataclass(frozen=True)
class Step:
    """A step that is run again."""

    name: str
    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


BUILD = Step(
    "build_training_set",
    "kfp_lifecycle.components.features.build_training_set.component",
    ("feature_repo", "label_query", "validated"),
    ("training_set",),
)
TRAIN = Step(
    "train_model", "kfp_lifecycle.components.training.train_model.component", ("training_set", "parameters"), ("model",)
)


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

    All but the data is recorded in the model's folder: settings and definitions as they were, the digest of the code,
    the parameters. The data version comes from its DVC remote. Nothing is searched again: the steps
    `build_training_set` and `train_model` run as they ran then.

    Args:
        reference: A run of this state folder, an MLflow run, or a version in the registry (`3` or `NAME/3`).
        tracking_uri: MLflow server that knows versions and its own runs.
        model: The model's name in the registry, where the reference is a bare version.
        work: An empty folder for all that is fetched and made.
        overrides: `KEY=VALUE` pairs for the settings of the two steps, to see what would differ.
        say: Told what is under way.

    Raises:
        CannotReproduce: data, code or environment are not to be had.
        ConfigurationError: an override cannot be used.
    """
    original = fetch_model(reference, tracking_uri, model, work)
    try:
        description = Model.read(original)
    except ContractViolation as violation:
        raise CannotReproduce(str(violation)) from violation
    origin = description.origin
    if not origin.build_training_set.settings:
        raise CannotReproduce("it does not say where it comes from: its training set was not built by this library.")
    told = with_overrides({BUILD.name: origin.build_training_set, TRAIN.name: origin.train_model}, overrides)
    code = {step.name: code_folder(told[step.name].code, description, original, work, say) for step in (BUILD, TRAIN)}
    name = str(origin.train_model.settings["name"])
    variables = local_locations(work / "locations", name).as_variables(Locations.model_fields)
    artifacts = {
        "feature_repo": artifact(original / FEATURE_REPOSITORY),
        "label_query": artifact(original / LABEL_QUERY),
        "validated": artifact(validated_data(description, work, say), version=origin.data.version),
    }
    say("features and labels are joined again")
    artifacts |= run_step(
        BUILD, told[BUILD.name], code[BUILD.name], artifacts, variables, origin.environment.name, work
    )
    parameters = work / "parameters.json"
    write_whole(parameters, json.dumps(found_parameters(description)))
    artifacts["parameters"] = artifact(parameters)
    say("the model is trained again")
    made = run_step(TRAIN, told[TRAIN.name], code[TRAIN.name], artifacts, variables, origin.environment.name, work)
    compared = run_python(
        "modelling", ["-m", COMPARISON, "compare", str(original), made["model"]["uri"]], "the comparison"
    )
    return Reproduction(**json.loads(compared))


def found_parameters(description: Model) -> dict[str, Any]:
    """What the search of the run had found: parameters, and the estimator where it was not the project's own.

    Without one the key is left out, which code of earlier versions does not know.
    """
    found: dict[str, Any] = {"format": 1, "parameters": description.parameters}
    training = description.origin.train_model.settings.get("training", {})
    if description.estimator not in ("", training.get("estimator", Training().estimator)):
        found["estimator"] = description.estimator
    return found


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
        uri = tracking_uri or local_locations(STATE, configuration.name).tracking_uri
        with tempfile.TemporaryDirectory(prefix="reproduce-") as work:
            found = reproduce(reference, uri, configuration.deployment.model, Path(work), overrides, say)
    except (CannotReproduce, ConfigurationError) as error:
        say(f"error: {reference} cannot be trained again: {error}")
        raise typer.Exit(2) from None
    if as_json:
        write_json(asdict(found))
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
        if found is None or not (Path(found[0]) / Model.FILE).is_file():
            raise CannotReproduce("the run has no model: it did not come to train_model, or was cleared.")
        return Path(found[0])
    if not _MLFLOW_RUN.match(reference) and "/" not in reference:
        reference = f"{model}/{reference}"
    destination = work / "original"
    fetch = ["-m", COMPARISON, "fetch", tracking_uri, reference, str(destination)]
    return Path(run_python("modelling", fetch, "no run here has this name, and MLflow's answer").strip())


def with_overrides(steps: Mapping[str, StepOrigin], overrides: Sequence[str]) -> dict[str, StepOrigin]:
    """What each step was told, with other settings for those that read them.

    Raises:
        ConfigurationError: neither step reads a setting, or an override is no `KEY=VALUE`.
    """
    changed = dict(steps)
    for override in overrides:
        section = override.partition("=")[0].partition(".")[0].strip()
        readers = [name for name, origin in changed.items() if section in origin.settings or section in _declared(name)]
        if not readers:
            raise ConfigurationError(f"--set {override}: neither {' nor '.join(steps)} reads {section}")
        for name in readers:
            settings = copy.deepcopy(changed[name].settings)
            apply_override(settings, override)
            changed[name] = changed[name].model_copy(update={"settings": settings})
    return changed


def _declared(name: str) -> set[str]:
    from kfp_lifecycle.compilation.pipeline import components

    return {read.partition(".")[0] for read in components()[name].reads}


def code_folder(code: str, model: Model, original: Path, work: Path, say: Callable[[str], None]) -> Path:
    """A folder to import a step's code from, as it ran then.

    Args:
        code: Its digest, kept in the state folder by the run, or the URI of its archive.
        model: The model's description, which knows the commit.
        original: The model's folder, which holds the change of the commit, if there was one.
        work: Where to unpack.
        say: Told where the code is from.

    Raises:
        CannotReproduce: it is nowhere to be had.
    """
    if code and (STATE / "code" / code).is_dir():
        say(f"code {code} as it is kept in {STATE / 'code'}")
        return STATE / "code" / code
    if "://" in code:
        folder, archive = work / "archive", work / "code.zip"
        if not folder.is_dir():
            say(f"code {code}")
            run_python("validation", ["-c", FETCH, code.replace("minio://", "s3://"), str(archive)], f"the code {code}")
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
        return folder
    return code_of_commit(model, original, work, say)


def code_of_commit(model: Model, original: Path, work: Path, say: Callable[[str], None]) -> Path:
    """The library as it stood at the commit that a model records, with the change that was made since.

    Raises:
        CannotReproduce: there is no such commit here, or the change was never recorded.
    """
    commit, changed = model.origin.code.commit, model.origin.code.changed
    change = original / "code.diff"
    if not commit or (changed and not change.is_file()):
        raise CannotReproduce(
            f"the code is not to be had: it is not kept in {STATE / 'code'}, and "
            + ("its commit is not known." if not commit else f"changes to {', '.join(changed)} were never committed.")
        )
    tree = work / "commit" / PACKAGE
    if tree.is_dir():
        return tree.parent
    say(f"code of the commit {commit[:12]}" + (f" with changes to {len(changed)} files" if changed else ""))
    tree.mkdir(parents=True)
    archived = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archived.returncode:
        raise CannotReproduce(f"the commit {commit} is not in the repository {ROOT}: fetch it first.")
    unpack(archived.stdout, tree)
    if change.is_file():
        checked(["git", "apply", str(change.resolve())], tree, {}, "the uncommitted change")
    return tree.parent


def validated_data(model: Model, work: Path, say: Callable[[str], None]) -> Path:
    """The tables that the training set was built from: a dataset version, or what a run kept of it.

    Raises:
        CannotReproduce: rows had been put aside, and the run that did so is not kept here.
    """
    origin = model.origin
    if origin.quarantined:
        run = next((record for record in all_runs() if record.id == origin.pipeline_run), None)
        kept = run.progress().artifact("validated") if run else None
        if kept is None or not Path(kept[0]).is_dir():
            raise CannotReproduce(
                f"{origin.quarantined:,} rows had been put in quarantine, and the run {origin.pipeline_run}, which "
                "knows the others, is not kept here."
            )
        say(f"the tables that the run {origin.pipeline_run} validated")
        return Path(kept[0])
    version, remote = origin.data.version, origin.data.remote
    say(f"data version {version} from {remote}")
    tables = work / "tables"
    run_python("validation", ["-c", CHECK_OUT, version, remote, str(tables)], f"the data version {version}")
    return tables


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
    step: Step,
    told: StepOrigin,
    code: Path,
    artifacts: Mapping[str, dict[str, Any]],
    variables: Mapping[str, str],
    environment: str,
    work: Path,
) -> dict[str, dict[str, Any]]:
    """Run one step as KFP's launcher does.

    Args:
        step: What to run.
        told: Its settings and code.
        code: The folder that its code is imported from.
        artifacts: What it may read, by name.
        variables: Its locations.
        environment: The environment that it ran in, with its lock's digest.
        work: Its outputs go to `<step>/` below it.

    Returns:
        Its output artifacts by name.

    Raises:
        CannotReproduce: it failed; the message has its reason.
    """
    folder = work / step.name
    folder.mkdir()
    written = {name: artifact(folder / name) for name in step.outputs}
    executor_input = {
        "inputs": {
            "artifacts": {name: {"artifacts": [artifacts[name]]} for name in step.inputs},
            "parameterValues": {"settings": told.settings},
        },
        "outputs": {
            "artifacts": {name: {"artifacts": [item]} for name, item in written.items()},
            "outputFile": str(folder / "output.json"),
        },
    }
    termination_log = folder / "termination-log"
    python = step_interpreter(environment)
    command = [str(python), "-P", "-m", "kfp_lifecycle.runtime.executor", step.module]
    command += ["--executor_input", json.dumps(executor_input), "--function_to_execute", step.name]
    own = {
        "PYTHONPATH": str(code),
        "LIFECYCLE_ENVIRONMENT": python.parents[1].name,
        "LIFECYCLE_CODE": told.code,
        "TERMINATION_LOG": str(termination_log),
    }
    checked(command, folder, {**variables, **own}, step.name, termination_log)
    made = json.loads((folder / "output.json").read_text("utf-8")).get("artifacts", {})
    return {name: {**item, **made[name]["artifacts"][0]} if name in made else item for name, item in written.items()}


def step_interpreter(environment: str) -> Path:
    """The Python for a step: that of its own lock where it still stands here, else that of today's lock."""
    named = _ENVIRONMENT.match(environment)
    name = named["name"] if named else "modelling"
    exact = environment_directory(name).parent / environment / "bin" / "python"
    return exact if named and exact.exists() else built_interpreter(name)


def built_interpreter(environment: str) -> Path:
    """The Python of an environment that stands here.

    Raises:
        CannotReproduce: it is not built.
    """
    if not is_built(environment):
        raise CannotReproduce(f"the environment `{environment}` is not built: run `{SETUP}`")
    return interpreter(environment)


def run_python(environment: str, arguments: Sequence[str], what: str) -> str:
    """Run code of this library under an environment.

    Returns:
        What it printed.

    Raises:
        CannotReproduce: it failed.
    """
    from kfp_lifecycle.cli.console import code_folder as importable

    return checked(
        [str(built_interpreter(environment)), *arguments], Path.cwd(), {"PYTHONPATH": str(importable())}, what
    )


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
