"""`lifecycle reproduce`: a model trained again from its record, and how it came out."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, AsJson, Project, out, project_folder, refuse, say, write_json
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.environments.locks import EnvironmentMissing
from kfp_lifecycle.local.environment_module import ModuleFailed
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from kfp_lifecycle.cli.reproduction import Reproduction


def reproduce(
    model: Annotated[
        str, typer.Argument(metavar="RUN|VERSION", help="A run here, an MLflow run, or a version: `3` or `churn/3`.")
    ],
    project: Project = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Train with another setting, to see what it changes."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow server that knows it; by default this checkout's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model again from its recorded data, code and environment, and compare byte by byte.

    Example: `lifecycle reproduce 3`

    Exit codes: 0 the same bytes, 1 they differ, and it says how, 2 it cannot be trained again.
    """
    from kfp_lifecycle.backends.backend import BackendError
    from kfp_lifecycle.cli.reproduction import reproduce_model
    from kfp_lifecycle.config.loading import load_configuration
    from kfp_lifecycle.config.locations import local_locations

    try:
        configuration = load_configuration(project_folder(project))
        uri = tracking_uri or local_locations(STATE, configuration.name).tracking_uri
        with tempfile.TemporaryDirectory(prefix="reproduce-") as work:
            found = reproduce_model(model, uri, configuration.deployment.model, Path(work), settings or [], say)
    except (BackendError, ConfigurationError, ContractViolation, EnvironmentMissing, ModuleFailed) as error:
        refuse(f"{model} cannot be trained again: {error}")
    if as_json:
        write_json(asdict(found))
    else:
        out.say(describe(found))
    if not found.identical:
        raise typer.Exit(EXIT_FAILED)


def describe(found: Reproduction) -> str:
    """The outcome, for a terminal."""
    differences = [f"  {item['what']}: {item['was']} → {item['now']}" for item in found.differences]
    if not found.identical:
        return "\n".join(["Different. What is not as it was:", *differences])
    known = ["All the same, this is not as it was:", *differences] if differences else []
    return "\n".join([f"Identical: model.onnx has the same bytes (SHA-256 {found.digest}).", *known])
