"""One step, run again by itself with what it read then."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.environments.locks import built_interpreter, environment_directory
from kfp_lifecycle.local import step_process
from kfp_lifecycle.local.kfp_runner import last_line
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.contract import ContractViolation

_ENVIRONMENT = re.compile(r"^(?P<name>[a-z]+)-(?P<digest>[0-9a-f]{12})$")


@dataclass(frozen=True)
class Step:
    """A step that is run again."""

    name: str
    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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
        ContractViolation: it failed; the message has its reason.
        EnvironmentMissing: what it runs in is not built.
    """
    folder = work / step.name
    folder.mkdir()
    written = {name: artifact(folder / name) for name in step.outputs}
    executor_input = {
        "inputs": {
            "artifacts": {name: {"artifacts": [artifacts[name]]} for name in step.inputs},
            "parameterValues": {**told.parameters, "settings": told.settings},
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
    log = folder / "log"
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    failed = step_process.run_step(command, log, {**kept, **STEP_VARIABLES, **variables, **own})
    if failed:
        reason = termination_log.read_text("utf-8") if termination_log.exists() else last_line(log, failed)
        raise ContractViolation(f"{step.name} failed: {reason}")
    made = json.loads((folder / "output.json").read_text("utf-8")).get("artifacts", {})
    return {name: {**item, **made[name]["artifacts"][0]} if name in made else item for name, item in written.items()}


def step_interpreter(environment: str) -> Path:
    """The Python for a step: that of its own lock where it still stands here, else that of today's lock."""
    named = _ENVIRONMENT.match(environment)
    name = named["name"] if named else "modelling"
    exact = environment_directory(name).parent / environment / "bin" / "python"
    return exact if named and exact.exists() else built_interpreter(name)
