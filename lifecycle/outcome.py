"""How runs ended and what is served, for people and for scripts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from serving.local import Endpoint, endpoints

from lifecycle.inference import InferenceError
from platforms.local.events import StepRecord
from platforms.local.runs import RunRecord, RunState, all_runs, resume_command
from platforms.local.state import CHECKOUT, STATE

STYLES = {
    RunState.running: "cyan",
    RunState.done: "green",
    RunState.rejected: "yellow",
    RunState.failed: "bold red",
    RunState.interrupted: "yellow",
}
RUNS_SHOWN = 10


def serving_folder() -> Path:
    """Where local releases stand."""
    return STATE / "serving"


def chosen_endpoint(model: str | None) -> Endpoint:
    """The endpoint of a model, or the only one there is.

    Raises:
        InferenceError: nothing is released, the model is not, or more than one is and none was named.
    """
    served = endpoints(serving_folder())
    if not served:
        raise InferenceError("nothing was released yet: start with `lifecycle run training`", 2)
    names = ", ".join(endpoint.model for endpoint in served)
    found = [endpoint for endpoint in served if model in (None, endpoint.model)]
    if not found:
        raise InferenceError(f"{model} is not released; there are: {names}", 2)
    if len(found) > 1:
        raise InferenceError(f"more than one model is released: name one of {names}", 2)
    return found[0]


def run_as_json(record: RunRecord) -> dict[str, Any]:
    """A run as scripts see it."""
    return {
        "id": record.id,
        "pipeline": record.pipeline,
        "project": record.project,
        "state": record.state,
        "failed_step": record.failed_step,
        "reason": record.reason,
        "report": record.report,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }


def endpoint_as_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as scripts see it."""
    return {
        "url": endpoint.url,
        "grpc": endpoint.grpc,
        "model": endpoint.model,
        "version": endpoint.version,
        "healthy": endpoint.healthy,
    }


def status_as_json() -> dict[str, Any]:
    """What is served and how the runs ended: the newest run's model first, where several are served."""
    served = endpoints(serving_folder())
    runs = all_runs()
    released = next((name for name in map(released_model, runs) if name), None)
    served = sorted(served, key=lambda endpoint: endpoint.model != released)
    return {
        "endpoint": endpoint_as_json(served[0]) if served else None,
        "endpoints": [endpoint_as_json(endpoint) for endpoint in served],
        "runs": [run_as_json(record) for record in runs],
    }


def released_model(record: RunRecord) -> str | None:
    """The model a run released; None for a run that released none."""
    deployment = record.progress().artifact("deployment")
    return str(json.loads(Path(deployment[0]).read_text(encoding="utf-8"))["model"]) if deployment else None


def status_table() -> Table:
    """What is served and the newest runs, for a terminal."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 2))
    for heading in ("run", "project", "state", "why", "report"):
        table.add_column(heading, overflow="fold")
    for endpoint in endpoints(serving_folder()):
        state = Text("answering", "green") if endpoint.healthy else Text("stopped", "yellow")
        table.add_row(f"{endpoint.model} version {endpoint.version}", endpoint.url, state, "", "")
    for record in all_runs()[:RUNS_SHOWN]:
        why = ": ".join(filter(None, (record.failed_step, *(record.reason or "").splitlines()[:1])))
        table.add_row(
            record.id, record.project, Text(record.state, STYLES[record.state]), Text(why), record.report or ""
        )
    return table


def outcome_as_json(record: RunRecord) -> dict[str, Any]:
    """A finished run and what it serves, for scripts."""
    model = released_model(record)
    served = [endpoint for endpoint in endpoints(serving_folder()) if endpoint.model == model]
    return {**run_as_json(record), "endpoint": endpoint_as_json(served[0]) if served else None}


def describe_outcome(console: Console, record: RunRecord) -> None:
    """The last lines on the screen: how the run ended, and what to do next."""
    failed = record.progress().failed()
    if record.state is RunState.interrupted:
        _say(console, "\n[yellow]Stopped.[/] Nothing is half-written. Go on with:", f"  {resume_command(record)}")
    elif failed is not None:
        _describe_failure(console, record, failed)
    elif record.state is RunState.rejected:
        serving = any(endpoint.healthy for endpoint in endpoints(serving_folder()))
        rest = "The champion goes on serving." if serving else "No model is in production."
        console.print(f"\n[yellow]The candidate was rejected.[/] {rest}")
        for sentence in missed_thresholds(record):
            console.print(f"  - {sentence}", markup=False, soft_wrap=True)
    else:
        console.print("\n[green]Done.[/]")
    model = released_model(record)
    for endpoint in endpoints(serving_folder()):
        if endpoint.model == model:
            _describe_endpoint(console, endpoint, record)
    if record.report:
        _say(console, f"\nReport:     {record.report}")
    if record.state in (RunState.done, RunState.rejected):
        store = STATE / "mlflow.db"
        ui = environment_command("modelling", "mlflow")
        _say(console, f"Experiments: {ui} ui --backend-store-uri sqlite:///{shlex.quote(str(store))}")
    if model:
        _say(console, "Stop it all: lifecycle down")


def environment_command(environment: str, program: str) -> str:
    """A program of an environment, as typed in a shell from the checkout."""
    from environments.locks import environment_directory

    place = environment_directory(environment) / "bin" / program
    return shlex.quote(str(place.relative_to(CHECKOUT)))


def missed_thresholds(record: RunRecord) -> list[str]:
    """What kept a candidate from promotion, in the gate's own sentences."""
    verdict = record.progress().artifact("verdict")
    if verdict is None:
        return []
    content = json.loads(Path(verdict[0]).read_text(encoding="utf-8"))
    missed = [rule["sentence"] for rule in content["rules"] if not rule["passed"]]
    champion = content.get("champion")
    return missed + ([champion["sentence"]] if champion and not champion["passed"] else [])


def _describe_failure(console: Console, record: RunRecord, failed: StepRecord) -> None:
    console.print(f"\n[bold red]{failed.name.replace('-', ' ')} failed.[/]")
    _say(console, failed.reason, f"\nLog:        {failed.log}", f"Resume:     {resume_command(record)}")


def _describe_endpoint(console: Console, endpoint: Endpoint, record: RunRecord) -> None:
    request = json.dumps({"inputs": example_inputs(record)})
    _say(
        console,
        f"\nEndpoint:   {endpoint.url}/v2/models/{endpoint.model}/infer   (gRPC {endpoint.grpc})",
        f"Model:      {endpoint.model} version {endpoint.version}",
        "\nTry it:",
        f"  curl -s {endpoint.url}/v2/models/{endpoint.model}/infer -H 'Content-Type: application/json' \\",
        f"    -d '{request}'",
    )


def example_inputs(record: RunRecord) -> list[dict[str, Any]]:
    """A v2 input that the released model answers: one entity of the store."""
    deployment = record.progress().artifact("deployment")
    if deployment is None:
        return []
    inputs: list[dict[str, Any]] = json.loads(Path(deployment[0]).read_text(encoding="utf-8"))["example"]["inputs"]
    return inputs


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=line.startswith("\n[yellow]Stopped"), soft_wrap=True, highlight=False)
