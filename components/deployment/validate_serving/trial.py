"""Infrastructure validation: the real server of a registered model, started, asked, timed, and always stopped."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.serving import Example, Latency, ServerStart, ServingTrial
from kfp_lifecycle.components.deployment.validate_serving.protocols import (
    MALFORMED,
    grpc_scores,
    malformed_requests,
    v1_scores,
    v2_scores,
)
from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder
from kfp_lifecycle.serving.client import SCORE_TOLERANCE, Client, quantile, scores_in, v2_request

EXAMPLES = 50
# Clients that ask at once, beside the one that asks alone.
CLIENTS = 8
REFERENCE = Path("baseline") / "reference.parquet"


def try_serving(settings: Configuration, registered: Path, destination: Path) -> dict[str, Any]:
    """Try the server of a registered model and write the `servable_model` artifact.

    Args:
        settings: `deployment.model`, `entity` and `evaluation.latency_requests`.
        registered: The registered model's folder.
        destination: Folder to write.

    Returns:
        Metadata: `model`, `version`, `p50_ms`, `p95_ms`, `p99_ms`, `requests`, `clients`, `summary`.

    Raises:
        ContractViolation: the server does not start, gives another score than was registered, takes a malformed
            request for a good one, or does not log a prediction. Nothing is left at `destination` then.
    """
    model = Model.read(registered)
    inputs, version = model.inputs, str(model.version)
    rows, scores = read_examples(registered, inputs)
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "predictions"
        with TrialServer(registered, settings.deployment.model, version, log) as server, server.client() as client:
            check_scores("v2 REST", v2_scores(client, server.model, inputs, rows), scores, registered)
            check_scores("v1 REST", v1_scores(client, server.model, rows), scores, registered)
            check_scores("v2 gRPC", grpc_scores(server.grpc_port, server.model, inputs, rows), scores, registered)
            check_refusals(client, server.model, settings.entity.key, inputs, rows[0])
            requests = settings.evaluation.latency_requests
            latency = measure(server, inputs, rows, requests, clients=1)
            together = measure(server, inputs, rows, requests, clients=CLIENTS)
            start = ServerStart(ready_seconds=round(server.ready_seconds, 3), peak_memory_mb=server.peak_memory_mb())
        check_log(log, 3 * len(rows) + latency.requests + together.requests)
    with complete_folder(destination) as folder:
        shutil.copytree(registered, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        ServingTrial(
            latency=latency,
            concurrent_latency=together,
            server=start,
            examples=[Example(features=row, score=score) for row, score in zip(rows, scores, strict=True)],
        ).write(folder)
    summary = f"p99 {latency.p99_ms:.1f} ms"
    return {"model": settings.deployment.model, "version": version, **latency.model_dump(), "summary": summary}


def read_examples(registered: Path, inputs: Sequence[Feature]) -> tuple[list[dict[str, Any]], list[float]]:
    """The first baseline rows, feature by feature, and the scores the model gave them.

    Raises:
        ContractViolation: the baseline lacks a feature or the score, or has no rows.
    """
    file = registered / REFERENCE
    names = [item.name for item in inputs]
    try:
        table = pyarrow.parquet.read_table(file, columns=[*names, "score"]).slice(0, EXAMPLES)
    except (OSError, ValueError) as error:
        raise ContractViolation(f"{file} cannot be read ({error}). Train and register the model again.") from error
    absent = sorted({*names, "score"} - set(table.column_names))
    if absent or not table.num_rows:
        raise ContractViolation(
            f"{file} must hold a sample of the training features and the score of each; "
            f"{'it lacks ' + ', '.join(absent) if absent else 'it has no rows'}. Train and register the model again."
        )
    rows = table.to_pylist()
    scores = [float(row.pop("score")) for row in rows]
    return [{name: sendable(row[name]) for name in names} for row in rows], scores


def sendable(value: Any) -> Any:
    """A value as JSON can carry it: NaN, which it cannot, is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def check_scores(protocol: str, found: Sequence[float], expected: Sequence[float], registered: Path) -> None:
    """Every score is the registered one.

    Raises:
        ContractViolation: one is not.
    """
    if len(found) != len(expected):
        raise ContractViolation(
            f"the server of {registered} answered {len(expected)} rows over {protocol} with {len(found)} scores. "
            "Mend serving/ and register the model again."
        )
    worst = max(range(len(found)), key=lambda i: abs(found[i] - expected[i]))
    if not abs(found[worst] - expected[worst]) <= SCORE_TOLERANCE:
        raise ContractViolation(
            f"row {worst} of {registered / REFERENCE} was scored {expected[worst]:.6f} when the model was trained, and "
            f"{found[worst]:.6f} by its server over {protocol}: more than {SCORE_TOLERANCE:g} apart. "
            "The exported model is another than the trained one; train and register it again."
        )


def check_refusals(client: Client, model: str, entity_key: str, inputs: Sequence[Feature], row: dict[str, Any]) -> None:
    """Malformed requests are the sender's error, and the server answers on.

    Raises:
        ContractViolation: one was taken for a good one, or for the server's own failure.
    """
    requests = malformed_requests(model, entity_key, inputs, row)
    for name in MALFORMED:
        path, body = requests[name]
        answer = client.post(path, body)
        if not 400 <= answer.status < 500:
            raise ContractViolation(
                f"the server answered a malformed request ({name}) with {answer.status or 'nothing'} instead of "
                f"4xx: {answer.body[:200]}. Mend serving/server/decoding.py and register the model again."
            )


def measure(
    server: TrialServer, inputs: Sequence[Feature], rows: Sequence[dict[str, Any]], requests: int, clients: int
) -> Latency:
    """Latency of single rows over v2 REST, each client asking one after the other on a connection of its own.

    As many requests for each client: by a remainder fewer than asked for.

    Raises:
        ContractViolation: a request failed.
    """
    bodies = [json.dumps(v2_request(inputs, [row])).encode() for row in rows]
    share = max(1, requests // clients)

    def ask(_: int) -> list[float]:
        times = []
        with server.client() as client:
            for number in range(share):
                answer = client.post(f"/v2/models/{server.model}/infer", bodies[number % len(bodies)])
                if not scores_in(answer):
                    raise ContractViolation(
                        f"request {number + 1} of {share} failed with {answer.status}: {answer.body[:200]}. "
                        "Mend serving/ and register the model again."
                    )
                times.append(answer.seconds * 1000)
        return times

    with ThreadPoolExecutor(clients) as pool:
        times = [time for of_client in pool.map(ask, range(clients)) for time in of_client]
    quantiles = {f"p{share}_ms": round(quantile(times, share / 100), 3) for share in (50, 95, 99)}
    return Latency(**quantiles, requests=len(times), clients=clients)


def check_log(log: Path, expected: int) -> None:
    """Every prediction of the trial is in the log of the stopped server.

    Raises:
        ContractViolation: there are more or fewer.
    """
    logged = sum(pyarrow.parquet.read_metadata(file).num_rows for file in log.rglob("*.parquet"))
    if logged != expected:
        raise ContractViolation(
            f"the server answered {expected} predictions and logged {logged}: monitoring could not be trusted. "
            "Mend serving/server/prediction_log.py and register the model again."
        )
