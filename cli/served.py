"""`lifecycle status`, `predict`, `serve`, `down`: what is served here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import AsJson, err, out, refuse, write_json


def status(as_json: AsJson = False) -> None:
    """Show what is served and how the last runs ended.

    Example: `lifecycle status --json`
    """
    from kfp_lifecycle.cli.outcome import describe_status, status_as_json

    if as_json:
        write_json(status_as_json())
    else:
        describe_status(out)


def predict(
    entity: Annotated[
        list[str] | None, typer.Option("--entity", metavar="ID", help="Entity to score from the online store.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="A v2 inference request; `-` reads standard input.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to ask; by default the one released last.")
    ] = None,
) -> None:
    """Ask the model that is served, in the v2 (Open Inference) protocol, and print its answer.

    Example: `lifecycle predict --entity 17`

    Example: `lifecycle predict --json request.json`
    """
    from kfp_lifecycle.cli.inference import InferenceError, entity_request, infer, read_request
    from kfp_lifecycle.cli.outcome import chosen_endpoint

    if bool(entity) == bool(file):
        refuse("name either --entity ID or --json FILE")
    try:
        endpoint = chosen_endpoint(model)
        request = read_request(file) if file else entity_request(endpoint, entity or [])
        answer = infer(endpoint, request)
    except InferenceError as error:
        err.say(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    write_json(answer, ensure_ascii=False)


def serve() -> None:
    """Start again what was released: after `lifecycle down`, or after the machine was restarted.

    Example: `lifecycle serve`
    """
    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.serving.release.local.operations import start

    endpoints = start(serving_folder())
    if not endpoints:
        refuse("nothing was released yet: start with `lifecycle run training`")
    for endpoint in endpoints:
        out.print(f"{endpoint.model} version {endpoint.version} answers at {endpoint.url}")


def down() -> None:
    """Stop all servers. What they serve is kept: `lifecycle serve` starts them again.

    Example: `lifecycle down`
    """
    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.serving.release.local.operations import stop

    stopped = stop(serving_folder())
    out.print("all servers are stopped" if stopped else "nothing was running")
