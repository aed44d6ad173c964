"""MLflow record of a model's evaluation and of the verdict on it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.artifacts.evaluation import Evaluation, Metric
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.registry.tracking import mlflow_errors, without_password
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EVALUATION_PATH = "evaluation"
# What one request may hold, how long a name and a tag may be: MLflow's own limits.
MOST_METRICS, LONGEST_NAME, LONGEST_TAG = 1000, 250, 5000
IN_WORDS = {"=": ":", "+": " and "}


def record_evaluation(
    client: MlflowClient, tracking_uri: str, run_id: str, metrics: Mapping[str, Metric], folder: Path
) -> None:
    """Record metrics with their 95% intervals, and `evaluation.json` and the plots as artifacts in `evaluation/`.

    A metric `m` becomes `m`, `m.low` and `m.high`, written as `recorded_name` says. One whose name is too long for
    MLflow is in `evaluation.json` alone.

    Args:
        client: Of `connect`.
        tracking_uri: Where it is connected to.
        run_id: The run that trained the model.
        metrics: By full name.
        folder: The evaluation artifact.

    Raises:
        ContractViolation: the server is lost on the way or knows no such run.
    """
    from mlflow.entities import Metric as Recorded

    now = int(time.time() * 1000)
    recorded = [
        Recorded(recorded_name(name) + end, value, now, 0)
        for name, metric in metrics.items()
        for end, value in (("", metric.value), (".low", metric.low), (".high", metric.high))
        if len(recorded_name(name) + ".high") <= LONGEST_NAME
    ]
    with _of_run(tracking_uri, run_id):
        client.log_artifact(run_id, str(folder / Evaluation.FILE), EVALUATION_PATH)
        client.log_artifacts(run_id, str(folder / "plots"), f"{EVALUATION_PATH}/plots")
        for start in range(0, len(recorded), MOST_METRICS):
            client.log_batch(run_id, metrics=recorded[start : start + MOST_METRICS])


def recorded_name(name: str) -> str:
    """A metric's name as MLflow takes it: `=` is `:`, `+` is ` and `, and what else it refuses its code in hexadecimal
    digits, so that two names never become one."""
    return re.sub(r"[^\w.\- :]", lambda found: IN_WORDS.get(found[0], f"_{ord(found[0]):x}_"), name)


def record_verdict(client: MlflowClient, tracking_uri: str, verdict: Verdict) -> None:
    """Record the artifact `verdict.json` and the tags `decision` and `verdict`, as a registered version has them, and
    `asked_by`, the run of monitoring that asked for the training.

    Args:
        client: Of `connect`.
        tracking_uri: Where it is connected to.
        verdict: What was decided, and of which run's model.

    Raises:
        ContractViolation: the server is lost on the way or knows no such run.
    """
    run_id = verdict.run_id
    with _of_run(tracking_uri, run_id):
        client.log_text(run_id, verdict.text(), Verdict.FILE)
        client.set_tag(run_id, "verdict", " ".join(verdict.sentences)[:LONGEST_TAG])
        client.set_tag(run_id, "decision", verdict.decision)
        if verdict.asked_by:
            client.set_tag(run_id, "asked_by", verdict.asked_by)


@contextlib.contextmanager
def _of_run(tracking_uri: str, run_id: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    with mlflow_errors(tracking_uri):
        try:
            yield
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ContractViolation(
                f"{without_password(tracking_uri)} has no run {run_id}, which trained this model: it was deleted, or "
                "tracking_uri names another server than then. Correct it, or train again without the cache: "
                "lifecycle run training --no-cache"
            ) from error
