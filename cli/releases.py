"""`lifecycle releases`, `release`, `promote` and `rollback`: who serves, by whose hand, and the way on and back."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import (
    AsJson,
    Project,
    err,
    out,
    project_folder,
    refuse,
    write_json,
)
from kfp_lifecycle.config.strategy import Strategy
from kfp_lifecycle.environments.locks import is_built
from kfp_lifecycle.local.environment_module import ModuleFailed, begin_module, finish_module
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.runtime.contract import ContractViolation

# Says to the registry: of this model, this version serves, and this one did.
Follow = Callable[[str, str, str | None], None]
MODEL_OPTION = typer.Option("--model", help="The model; by default the one released last.")
MODEL_ARGUMENT = typer.Argument(metavar="MODEL", help="The model; by default the one released last.")


def releases(model: Annotated[str | None, MODEL_OPTION] = None, as_json: AsJson = False) -> None:
    """List what was released here: who, what, when, why and on what evidence, the newest first.

    Example: `lifecycle releases --model churn`
    """
    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.serving.release.local.history import read_history

    events = read_history(serving_folder(), model)[::-1]
    if as_json:
        write_json([asdict(event) for event in events])
        return
    if not events:
        out.print("nothing was released yet: start with `lifecycle run training`", markup=False)
    for event in events:
        over = f" over {event.champion}" if event.champion else ""
        how = f" ({event.strategy})" if event.strategy else ""
        line = f"{event.at}  {event.model} version {event.version}{over}: {event.outcome}{how} by {event.by}"
        out.say(line)
        if event.why:
            out.say(f"    {event.why}")
        for stage in event.evidence:
            real, earlier = stage["real_requests"], stage.get("replayed_requests", 0)
            asked = f"{stage['requests']} requests ({real} of people, {earlier} that people asked before)"
            line = f"    {stage['percent']:3d}%: {asked}, {stage['errors']} errors, p99 {stage['p99_ms']:.1f} ms"
            out.say(line)


def release(
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="A registered version that a run here has tried.")
    ] = None,
    model: Annotated[str | None, MODEL_OPTION] = None,
    strategy: Annotated[Strategy | None, typer.Option("--strategy", help="Another than pipeline.yaml's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was cut off or paused.")] = False,
    project: Project = None,
) -> None:
    """Release a registered version, or go on with a release that was cut off or paused.

    Example: `lifecycle release 3 --strategy blue_green`

    Example: `lifecycle release --resume`
    """
    from kfp_lifecycle.artifacts.deployment import Deployment
    from kfp_lifecycle.components.deployment.release_model.targets import release_to_target, resume_locally
    from kfp_lifecycle.config.loading import load_configuration
    from kfp_lifecycle.config.locations import local_locations

    if bool(version) == resume:
        refuse("name either the version to release, or --resume")
    with_interpreter()
    with registry_at_hand() as follow:
        if resume:
            done = resume_locally(STATE / "serving", chosen_model(model))
        else:
            overrides = [f"deployment.strategy={strategy.value}"] if strategy else []
            settings = load_configuration(project_folder(project), overrides)
            servable = tried_version(settings.deployment.model, str(version))
            with tempfile.TemporaryDirectory() as scratch:
                record = Path(scratch) / Deployment.FILE
                release_to_target(settings, local_locations(STATE, settings.name), servable, servable.as_uri(), record)
                done = Deployment.read(record)
        follow(done.model, done.version, done.previous_version)
    say_served(done.model, done.version, done.url)


def promote(model: Annotated[str | None, MODEL_ARGUMENT] = None) -> None:
    """Give all traffic to the candidate of a release that was cut off or paused, without further judgement.

    Example: `lifecycle promote churn`
    """
    from kfp_lifecycle.components.deployment.release_model.targets import take_locally

    with_interpreter()
    with registry_at_hand() as follow:
        done = take_locally(STATE / "serving", chosen_model(model))
        follow(done.model, done.version, done.previous_version)
    say_served(done.model, done.version, done.url)


def rollback(
    model: Annotated[str | None, MODEL_ARGUMENT] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="One that is kept here.")] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
) -> None:
    """Give all traffic back: of an unfinished release to the champion, else to the version that served before.

    The registry's alias follows. What is left need not run.

    Example: `lifecycle rollback churn`
    """
    from kfp_lifecycle.serving.release.local.operations import rollback as roll_back

    with_interpreter()
    with registry_at_hand() as follow:
        name = chosen_model(model)
        endpoint = roll_back(
            STATE / "serving", name, to, why=why, move_alias=lambda left, back: follow(name, back, left or None)
        )
    say_served(endpoint.model, endpoint.version, endpoint.url)


def chosen_model(model: str | None) -> str:
    """The model meant: the one named, the only one, else the one that was released last."""
    from kfp_lifecycle.serving.release.local.state import read_releases

    released = [release.model for release in read_releases(STATE / "serving")] if model is None else [model]
    if len(released) == 1:
        return released[0]
    # Runs tell which was released last; reading them takes most of a second.
    from kfp_lifecycle.cli.inference import InferenceError
    from kfp_lifecycle.cli.outcome import chosen_endpoint

    try:
        return chosen_endpoint(None).model
    except InferenceError as error:
        refuse(str(error))


def with_interpreter() -> None:
    """Let servers be started under the serving environment of this checkout."""
    from kfp_lifecycle.environments.locks import interpreter

    os.environ.setdefault("LIFECYCLE_SERVING_PYTHON", str(interpreter("serving")))


def tried_version(model: str, version: str) -> Path:
    """The folder of a version as `validate_serving` left it in a run here.

    Raises:
        ContractViolation: there is none.
    """
    from kfp_lifecycle.artifacts.model import Model
    from kfp_lifecycle.local.run_records import all_runs

    for record in all_runs():
        servable = record.progress().artifact("servable_model")
        # An artifact that was removed, or a damaged or earlier one, tells nothing.
        with contextlib.suppress(ContractViolation):
            found = Model.read(Path(servable[0])) if servable is not None else None
            if servable is not None and found is not None and (found.model, found.version) == (model, version):
                return Path(servable[0])
    raise ContractViolation(f"no run here has tried version {version} of {model}; `lifecycle runs` lists what ran")


@contextlib.contextmanager
def registry_at_hand() -> Iterator[Follow]:
    """Let the registry's alias `champion` name the version that serves, at the end of the block.

    MLflow is imported meanwhile, which takes longer than to move traffic; nothing of it may hinder that.
    """
    from kfp_lifecycle.audit.record import file_of

    def begin() -> subprocess.Popen[str]:
        return begin_module("modelling", "kfp_lifecycle.registry.promotion", f"sqlite:///{STATE / 'mlflow.db'}")

    begun = begin() if is_built("modelling") else None

    def follow(model: str, version: str, before: str | None) -> None:
        try:
            told = [model, version, before or "", str(file_of(STATE / "serving"))]
            finish_module(begun or begin(), json.dumps(told) + "\n")
        except ModuleFailed:
            err.say(
                f"version {version} of {model} has all traffic, but the registry's alias does not follow. Once the "
                f"reason is mended: lifecycle rollback {model} --to {version}"
            )
            raise

    try:
        yield follow
    finally:
        if begun is not None:
            with begun:
                begun.kill()


def say_served(model: str, version: str, url: str) -> None:
    """The last line of each command that moves traffic."""
    out.say(f"{model} version {version} has all traffic at {url}")
