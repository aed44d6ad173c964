"""History of windows in MLflow: what monitoring found of each, one run for each model, version and window's end.

The experiment is `monitoring/<project>`. A window that is looked at again is updated in its place, so that a late or a
repeated run changes nothing; figures are metrics, which MLflow draws, and all of it is one JSON document in a tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import Field, ValidationError

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.document import Part
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.remedy import RemedyName, RemedyVerdict
from kfp_lifecycle.registry.evaluation_record import LONGEST_NAME, recorded_name
from kfp_lifecycle.registry.tracking import connect, experiment_id, mlflow_errors

DOCUMENT = "window"
# A tag holds 5,000 characters at least; a sentence is cut before the document would not fit.
LONGEST_SENTENCE = 1_500
# A page of MLflow's search.
AT_ONCE = 1_000


class BusinessFigure(Part):
    """A business metric of a window."""

    title: str
    """In words."""
    unit: str
    """`money`, `share` or `number`."""
    per: int
    """Predictions that it is told for."""
    value: Metric
    """With its 95% interval."""


class WindowRecord(Part):
    """What monitoring found of one window."""

    model: str
    """Its name in the registry."""
    version: str
    """The one that the window is judged by."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Of the window; not included."""
    predictions: int
    """That were served in it."""
    compared: int
    """Of these, by the version and each entity once."""
    mean_score: float | None
    """Of those compared; null where there are none."""
    drifted: list[str] = Field(default=[])
    """Features."""
    verdict: RemedyVerdict
    """What has happened."""
    remedy: RemedyName
    """What to do about it."""
    sentence: str
    """Both, in words."""
    since: datetime | None = None
    """When it began."""
    adjustment: Adjustment | None = None
    """The remedy as it was measured, for the training that the window asks for."""
    week: datetime | None = None
    """End of the newest week of outcomes; null where none are known."""
    observed: int | None = None
    """Events in that week."""
    expected: float | None = None
    """Events in it that the scores foretold."""
    roc_auc: Metric | None = None
    """In production, of those whose horizon has passed."""
    business: dict[str, BusinessFigure] = Field(default={})
    """By name."""
    runs: list[str] = Field(default=[])
    """The run of monitoring that looked at it last, by each name that a training which it asked for may know it by."""

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What there is one record of."""
        return self.model, self.version, self.end


def record_window(tracking_uri: str, project: str, found: WindowRecord) -> str:
    """Write a window to the history, in the place of an earlier look at it. Returns the run's id in MLflow.

    Args:
        tracking_uri: MLflow tracking server.
        project: Its name.
        found: What was found.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    found = found.model_copy(update={"sentence": shortened(found.sentence)})
    client = connect(tracking_uri)
    from mlflow.entities import Metric as Recorded
    from mlflow.entities import RunTag

    with mlflow_errors(tracking_uri):
        experiment = experiment_id(client, tracking_uri, f"monitoring/{project}")
        key = {"model": found.model, "version": found.version, "window_end": _moment(found.end)}
        asked = " and ".join(f"tags.{name} = '{value}'" for name, value in key.items())
        runs = client.search_runs([experiment], asked, max_results=1, order_by=["attributes.start_time ASC"])
        if runs:
            run_id = str(runs[0].info.run_id)
            stale = set(runs[0].data.metrics) - set(figures(found))
        else:
            run_id = str(
                client.create_run(
                    experiment,
                    start_time=_milliseconds(found.start),
                    tags=key,
                    run_name=f"version {found.version}, to {found.end.astimezone(UTC):%Y-%m-%d %H:%M}",
                ).info.run_id
            )
            stale = set()
        # Of figures of one moment MLflow shows the largest, so that each look is of its own.
        now = _milliseconds(datetime.now(UTC))
        tags = {
            "verdict": found.verdict,
            "remedy": found.remedy,
            "sentence": found.sentence,
            "run": ", ".join(found.runs),
            DOCUMENT: found.model_dump_json(exclude_defaults=True),
        }
        client.log_batch(
            run_id,
            metrics=[
                *(Recorded(name, value, now, 0) for name, value in figures(found).items()),
                *(Recorded(name, float("nan"), now, 0) for name in sorted(stale)),
            ],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        client.set_terminated(run_id, end_time=_milliseconds(found.end))
    return run_id


def read_history(
    tracking_uri: str, project: str, model: str, until: datetime | None = None, windows: int = AT_ONCE
) -> list[WindowRecord]:
    """The newest windows of a model, oldest first; none where none was looked at.

    Args:
        tracking_uri: MLflow tracking server.
        project: Its name.
        model: Its name in the registry.
        until: Windows that end later are left out.
        windows: So many at the most.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        experiment = client.get_experiment_by_name(f"monitoring/{project}")
        if experiment is None:
            return []
        runs = client.search_runs(
            [experiment.experiment_id], f"tags.model = '{model}'", max_results=AT_ONCE,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
    found: dict[tuple[str, str, datetime], WindowRecord] = {}
    for run in runs:
        try:
            record = WindowRecord.model_validate_json(run.data.tags.get(DOCUMENT, ""))
        except ValidationError:
            # A run of this experiment that somebody else made, or one that was cut off before it was written.
            continue
        if until is None or record.end <= until:
            found[record.key] = record
    return sorted(found.values(), key=lambda record: (record.end, len(record.version), record.version))[-windows:]


def adjustment_of(tracking_uri: str, project: str, model: str, run: str) -> Adjustment | None:
    """What a run of monitoring measured of the remedy that it asked for; None where it measured none, or is not known.

    Args:
        tracking_uri: MLflow tracking server.
        project: Its name.
        model: Its name in the registry.
        run: The run, by any of its names.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    windows = read_history(tracking_uri, project, model)
    return next((window.adjustment for window in reversed(windows) if run in window.runs), None)


def figures(found: WindowRecord) -> dict[str, float]:
    """The figures that MLflow draws, by name."""
    values: dict[str, float | None] = {
        "predictions": found.predictions,
        "mean_score": found.mean_score,
        "features_drifted": len(found.drifted),
        "events_observed": found.observed,
        "events_expected": found.expected,
    }
    metrics: Mapping[str, Metric] = {
        **({"roc_auc": found.roc_auc} if found.roc_auc else {}),
        **{f"business.{name}": figure.value for name, figure in found.business.items()},
    }
    for name, metric in metrics.items():
        values |= {name: metric.value, f"{name}.low": metric.low, f"{name}.high": metric.high}
    return {
        recorded_name(name): float(value)
        for name, value in values.items()
        if value is not None and len(recorded_name(name)) <= LONGEST_NAME
    }


def shortened(sentence: str) -> str:
    """A sentence as a tag holds it."""
    return sentence if len(sentence) <= LONGEST_SENTENCE else f"{sentence[: LONGEST_SENTENCE - 1]}…"


class Retraining(Part):
    """A training that a window asked for, and how it ended."""

    run: str
    """The run of monitoring that asked."""
    decision: str
    """`approved` or `rejected`; empty where it was not decided yet."""
    verdict: str
    """In words."""
    began: datetime
    """When its model was trained."""
    version: str = ""
    """Under which it was registered; empty where it was not."""


def retrainings(tracking_uri: str, project: str, windows: Sequence[WindowRecord]) -> dict[str, Retraining]:
    """The trainings that windows asked for, by the run of monitoring that did.

    Args:
        tracking_uri: MLflow tracking server.
        project: Its name, which is that of its experiment.
        windows: Of its history, all of one model.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    asked = {run for window in windows for run in window.runs}
    if not asked:
        return {}
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        experiment = client.get_experiment_by_name(project)
        if experiment is None:
            return {}
        runs = client.search_runs([experiment.experiment_id], "tags.asked_by != ''", max_results=AT_ONCE)
        versions = client.search_model_versions(f"name = '{windows[0].model}'")
        registered = {version.run_id: str(version.version) for version in versions}
    return {
        run.data.tags["asked_by"]: Retraining(
            run=run.data.tags["asked_by"],
            decision=run.data.tags.get("decision", ""),
            verdict=run.data.tags.get("verdict", ""),
            began=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            version=registered.get(run.info.run_id, ""),
        )
        for run in runs
        if run.data.tags.get("asked_by") in asked
    }


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
