"""A model trained again from what is recorded with it, and compared byte by byte."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.cli.recorded_code import code_folder
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import apply_override
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.features.settings import FEATURE_REPOSITORY, LABEL_QUERY
from kfp_lifecycle.local.environment_module import ModuleFailed, run_module
from kfp_lifecycle.local.run_records import all_runs
from kfp_lifecycle.local.single_step import Step, artifact, run_step
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole

COMPARISON = "kfp_lifecycle.modelling.comparison"
CHECKOUT = "kfp_lifecycle.components.data.version_dataset.versioning"
_MLFLOW_RUN = re.compile(r"^[0-9a-f]{32}$")

BUILD = Step(
    "build_training_set",
    "kfp_lifecycle.components.features.build_training_set.component",
    ("feature_repo", "label_query", "validated"),
    ("training_set",),
)
TRAIN = Step(
    "train_model", "kfp_lifecycle.components.training.train_model.component", ("training_set", "parameters"), ("model",)
)


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


def reproduce_model(
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
        ContractViolation: data or code are not to be had, or a step failed.
        BackendError: the archive of the code cannot be fetched.
        EnvironmentMissing: an environment is not built.
        ModuleFailed: the model or the data cannot be fetched.
        ConfigurationError: an override cannot be used.
    """
    original = fetch_model(reference, tracking_uri, model, work)
    description = Model.read(original)
    origin = description.origin
    if not origin.build_training_set.settings:
        raise ContractViolation("it does not say where it comes from: its training set was not built by this library.")
    if origin.version:
        raise ContractViolation(
            f"its encoder and estimator are those of version {origin.version}, and no training made them here "
            f"({origin.remedy}). That version can be trained again: lifecycle reproduce {origin.version}"
        )
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
    compared = run_module("modelling", COMPARISON, "compare", str(original), made["model"]["uri"])
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


def fetch_model(reference: str, tracking_uri: str, model: str, work: Path) -> Path:
    """The folder of the model that a reference means.

    Raises:
        ContractViolation: there is no such run or version, or the run trained no model.
    """
    run = next((record for record in all_runs() if record.id == reference), None)
    if run is not None:
        found = run.progress().artifact("model")
        if found is None or not (Path(found[0]) / Model.FILE).is_file():
            raise ContractViolation("the run has no model: it did not come to train_model, or was cleared.")
        return Path(found[0])
    if not _MLFLOW_RUN.match(reference) and "/" not in reference:
        reference = f"{model}/{reference}"
    destination = work / "original"
    try:
        return Path(run_module("modelling", COMPARISON, "fetch", tracking_uri, reference, str(destination)).strip())
    except ModuleFailed as failed:
        raise ContractViolation(f"no run here has this name, and MLflow's answer is: {failed}") from failed


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


def validated_data(model: Model, work: Path, say: Callable[[str], None]) -> Path:
    """The tables that the training set was built from: a dataset version, or what a run kept of it.

    Raises:
        ContractViolation: rows had been put aside, and the run that did so is not kept here.
    """
    origin = model.origin
    if origin.quarantined:
        run = next((record for record in all_runs() if record.id == origin.pipeline_run), None)
        kept = run.progress().artifact("validated") if run else None
        if kept is None or not Path(kept[0]).is_dir():
            raise ContractViolation(
                f"{origin.quarantined:,} rows had been put in quarantine, and the run {origin.pipeline_run}, which "
                "knows the others, is not kept here."
            )
        say(f"the tables that the run {origin.pipeline_run} validated")
        return Path(kept[0])
    version, remote = origin.data.version, origin.data.remote
    say(f"data version {version} from {remote}")
    tables = work / "tables"
    run_module("validation", CHECKOUT, version, remote, str(tables))
    return tables
