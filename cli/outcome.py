"""How runs ended and what is served, for people and for scripts."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.cli.console import STYLES, CommandConsole, naming
from kfp_lifecycle.cli.inference import InferenceError
from kfp_lifecycle.local.events import StepRecord
from kfp_lifecycle.local.run_records import MONITORING_PAGE, RunRecord, all_runs, resume_command
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import RunState
from kfp_lifecycle.serving.release.local.operations import Endpoint, endpoints

RUNS_SHOWN = 10


def serving_folder() -> Path:
    """Where local releases stand."""
    return STATE / "serving"


def served_endpoints() -> list[Endpoint]:
    """What is served, the model that was released last first."""
    newest = next((name for name in map(released_model, all_runs()) if name), None)
    return sorted(endpoints(serving_folder()), key=lambda endpoint: endpoint.model != newest)


def readable_endpoints() -> tuple[list[Endpoint], str]:
    """What is served, and what is wrong with the records of it: what can be told of runs does not depend on them."""
    try:
        return served_endpoints(), ""
    except ContractViolation as violation:
        return [], str(violation)


def chosen_endpoint(model: str | None) -> Endpoint:
    """The endpoint of a model; without a name, of the one that was released last.

    Raises:
        InferenceError: nothing is released, or the model is not.
    """
    served = served_endpoints()
    if not served:
        raise InferenceError("nothing was released yet: start with `lifecycle run training`", 2)
    found = [endpoint for endpoint in served if model in (None, endpoint.model)]
    if not found:
        raise InferenceError(f"{model} is not released; there are: {', '.join(each.model for each in served)}", 2)
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
        "damage": record.progress().damage or None,
    }


def endpoint_as_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as scripts see it."""
    return {
        "url": endpoint.url,
        "grpc": endpoint.grpc,
        "model": endpoint.model,
        "version": endpoint.version,
        "healthy": endpoint.healthy,
        "shares": dict(endpoint.shares),
        "remarks": list(endpoint.remarks),
    }


def status_as_json() -> dict[str, Any]:
    """What is served and how the runs ended."""
    served, damage = readable_endpoints()
    return {
        "endpoint": endpoint_as_json(served[0]) if served else None,
        "endpoints": [endpoint_as_json(endpoint) for endpoint in served],
        "damage": damage or None,
        "runs": [run_as_json(record) for record in all_runs()],
    }


def released_model(record: RunRecord) -> str | None:
    """The model a run released; None for a run that released none."""
    deployment = record.progress().artifact("deployment")
    # An artifact that was removed, or a damaged or earlier one, tells nothing.
    with contextlib.suppress(ContractViolation):
        return Deployment.read(Path(deployment[0])).model if deployment else None
    return None


def describe_status(console: CommandConsole) -> None:
    """What is served and the newest runs, for a terminal."""
    served, damage = readable_endpoints()
    for endpoint in served:
        state = "[green]answering[/]" if endpoint.healthy else "[yellow]stopped[/], start it with `lifecycle serve`"
        console.print(f"{endpoint.model} version {endpoint.version} at {endpoint.url}: {state}", soft_wrap=True)
        _say(console, *(f"  {remark}" for remark in endpoint.remarks))
    if not served:
        _say(console, damage or "nothing is served")
    for record in all_runs()[:RUNS_SHOWN]:
        console.print(f"\n{record.id}  {record.project}  [{STYLES[record.state]}]{record.state}[/]", soft_wrap=True)
        if record.state in (RunState.failed, RunState.interrupted, RunState.damaged):
            why = ": ".join(filter(None, (record.failed_step, *(record.reason or "").splitlines()[:1])))
            _say(console, f"  {why}")
        if damage := record.progress().damage:
            _say(console, f"  damaged: {damage}")
        if record.report:
            _say(console, f"  {record.report}")


def endpoints_of(record: RunRecord) -> tuple[list[Endpoint], str]:
    """What serves the model that a run is about, and what is wrong with the records of what is served."""
    served, damage = readable_endpoints()
    return [endpoint for endpoint in served if endpoint.model == record.model], damage


def outcome_as_json(record: RunRecord) -> dict[str, Any]:
    """A finished run and what it serves, for scripts."""
    served, damage = endpoints_of(record)
    told = run_as_json(record)
    return {
        **told,
        "damage": told["damage"] or damage or None,
        "endpoint": endpoint_as_json(served[0]) if served else None,
    }


def describe_outcome(console: CommandConsole, record: RunRecord, started: RetrainingRequest | None = None) -> None:
    """The last lines on the screen: how the run ended, what it decided, and what to do next.

    Args:
        console: The screen.
        record: The run.
        started: What led to a training run, which has begun meanwhile.
    """
    served, damage = endpoints_of(record)
    _describe_ending(console, record, served)
    if started is not None:
        _say(console, f"\nTraining:   lifecycle watch {started.run}")
    for sentence in told_beside(record):
        console.say(f"  note: {sentence}")
    for endpoint in served:
        _describe_endpoint(console, endpoint)
    if damage:
        _say(console, f"\n{damage}")
    if record.report:
        _say(console, f"\nReport:     {record.report}")
        monitored = Path(record.report).with_name(MONITORING_PAGE)
        if monitored.is_file():
            _say(console, f"Monitoring: {monitored}")
    if record.state in (RunState.done, RunState.rejected):
        store = STATE / "mlflow.db"
        ui = environment_command("modelling", "mlflow")
        _say(console, f"Experiments: {ui} ui --backend-store-uri sqlite:///{shlex.quote(str(store))}")
    if served:
        _say(console, "Stop it all: lifecycle down")


def _describe_ending(console: CommandConsole, record: RunRecord, served: Sequence[Endpoint]) -> None:
    """How the run ended, or what it decided."""
    failed = record.progress().failed()
    if record.state is RunState.interrupted:
        _say(console, "\n[yellow]Stopped.[/] Nothing is half-written. Go on with:", f"  {resume_command(record)}")
    elif failed is not None:
        _describe_failure(console, record, failed)
    elif record.state is RunState.rejected:
        console.print(f"\n[yellow]The candidate was rejected.[/] {_what_serves(served)}")
        for sentence in missed_thresholds(record):
            console.say(f"  - {sentence}")
    elif (registered := record.progress().artifact("registered_model")) and registered[1].get("waits"):
        named = f"{registered[1]['version']} --model {registered[1]['model']}"
        console.print(f"\n[yellow]Version {registered[1]['version']} waits for approval.[/] A person decides:")
        _say(console, f"  lifecycle approve {named}", f"  lifecycle reject {named}")
    elif decisions := record.progress().decisions():
        _say(console, "", *decisions)
    else:
        console.print("\n[green]Done.[/]")


def environment_command(environment: str, program: str) -> str:
    """A program of an environment, as typed in a shell here."""
    from kfp_lifecycle.environments.locks import environment_directory

    place = environment_directory(environment) / "bin" / program
    here = Path.cwd()
    return shlex.quote(str(place.relative_to(here) if place.is_relative_to(here) else place))


def missed_thresholds(record: RunRecord) -> list[str]:
    """What kept a candidate from promotion, in the gate's own sentences."""
    verdict = _verdict(record)
    if verdict is None:
        return []
    missed = [rule.sentence for rule in verdict.rules if not rule.passed]
    champion = verdict.champion
    return missed + ([champion.sentence] if champion and not champion.passed else [])


def told_beside(record: RunRecord) -> list[str]:
    """What the verdict has to say beside what was missed."""
    verdict = _verdict(record)
    return verdict.told_beside if verdict else []


def _verdict(record: RunRecord) -> Verdict | None:
    found = record.progress().artifact("verdict")
    # A damaged one, or that of an earlier format, tells nothing.
    with contextlib.suppress(ContractViolation):
        return Verdict.read(Path(found[0])) if found else None
    return None


def _describe_failure(console: CommandConsole, record: RunRecord, failed: StepRecord) -> None:
    console.print(f"\n[bold red]{failed.name.replace('-', ' ')} failed.[/]")
    reason = naming(failed.reason, Path(record.project_folder))
    _say(console, reason, f"\nLog:        {failed.log}", f"Resume:     {resume_command(record)}")


def _what_serves(champions: Sequence[Endpoint]) -> str:
    if not champions:
        return "No model is in production."
    if any(champion.healthy for champion in champions):
        return "The champion goes on serving."
    return "The champion stays; its servers are stopped."


def _describe_endpoint(console: CommandConsole, endpoint: Endpoint) -> None:
    address = f"{endpoint.url}/v2/models/{endpoint.model}/infer"
    if not endpoint.healthy:
        _say(console, f"\nEndpoint:   {address} is stopped, start it with `lifecycle serve`")
        return
    _say(
        console,
        f"\nEndpoint:   {address}   (gRPC {endpoint.grpc})",
        f"Model:      {endpoint.model} version {endpoint.version}",
    )
    request = example_request(endpoint.model)
    if request:
        body = shlex.quote(json.dumps(request, ensure_ascii=False))
        _say(console, "\nTry it:", f"  curl -s {address} -H 'Content-Type: application/json' -d {body}")


def example_request(model: str) -> dict[str, Any] | None:
    """A v2 request that a released model answers, as its release noted it."""
    for record in all_runs():
        deployment = record.progress().artifact("deployment")
        if deployment is not None:
            # A record of an earlier format tells nothing.
            with contextlib.suppress(ContractViolation):
                released = Deployment.read(Path(deployment[0]))
                if released.model == model and released.example is not None:
                    return released.example.model_dump(mode="json")
    return None


def _say(console: CommandConsole, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=line.startswith("\n[yellow]Stopped"), soft_wrap=True, highlight=False)
