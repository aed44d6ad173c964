"""Drift detection: what production sends beside what the champion was trained on, and what follows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.drift import Compared, Drift, DriftRule, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import TABLE_FILE, Predictions
from kfp_lifecycle.components.monitoring.detect_drift.page import draw
from kfp_lifecycle.components.monitoring.detect_drift.rule import SCORE, compare, decide, drifted_inputs
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry.champion import Champion, registered_version
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder, write_whole

BASELINE_FILE = "baseline/reference.parquet"
# More rows than this make nothing clearer: a difference that matters shows in far fewer.
LARGEST_SAMPLE = 20_000


def detect_drift(settings: Configuration, locations: Locations, predictions: Path, drift: Path, report: Path) -> Drift:
    """Compare the window's predictions with the champion's baseline.

    Args:
        settings: `deployment.model`, `monitoring` and `training.seed`.
        locations: `tracking_uri` says where the registry is.
        predictions: What `collect_predictions` wrote.
        drift: Folder for `drift.json`; it appears whole or not at all.
        report: HTML file to write.

    Returns:
        The decision.

    Raises:
        ContractViolation: the registry does not know the version that the window is judged by, or its baseline lacks a
            column or has no rows.
    """
    rule = settings.monitoring
    window = Predictions.read(predictions)
    champion = registered_version(locations.tracking_uri, window.model, window.version)
    if champion is None:
        raise ContractViolation(
            f"The registry does not know version {window.version} of {window.model}, which served in the window, so "
            "that there is no baseline to compare with. Look at a window in which a registered version served."
        )
    with tempfile.TemporaryDirectory() as scratch:
        inputs = champion.description(Path(scratch)).inputs
        reference = read_baseline(champion, inputs, Path(scratch))
    current = read_predictions(predictions / TABLE_FILE, inputs, champion.version)
    compared = independent(current, settings.training.seed)
    enough = len(compared) >= rule.min_window
    findings = compare(reference, compared, inputs, rule) if enough else []
    decision, sentence = decide(findings, len(inputs), len(compared), rule)
    drifted = drifted_inputs(findings)
    found = Drift(
        decision=decision,
        sentence=sentence,
        model=champion.model,
        version=champion.version,
        start=window.start,
        end=window.end,
        predictions=Compared(window=window.found.predictions, champion=len(current), compared=len(compared)),
        reference_rows=len(reference),
        rule=DriftRule(**rule.model_dump(include=set(DriftRule.model_fields))),
        drifted_share=len(drifted) / len(inputs),
        drifted=drifted,
        columns=findings,
    )
    with complete_folder(drift) as folder:
        found.write(folder)
        write_whole(report, draw(found, reference, compared, inputs))
    print(sentence)
    return found


def score_distance(findings: Sequence[Finding]) -> float | None:
    """Jensen-Shannon distance of the score, 0 to 1; None where nothing was compared."""
    return next((finding.distance for finding in findings if finding.column == SCORE), None)


def read_baseline(champion: Champion, inputs: Sequence[Feature], scratch: Path) -> pd.DataFrame:
    """The sample of its training data that the champion carries.

    Raises:
        ContractViolation: it cannot be read, lacks a column, or has no rows.
    """
    where = f"{BASELINE_FILE} of {champion.model} version {champion.version}"
    remedy = "Train and promote a model again."
    try:
        reference = pd.read_parquet(champion.fetch(scratch / "baseline", BASELINE_FILE))
    except (OSError, ValueError) as error:
        raise ContractViolation(f"{where} cannot be read ({error}). {remedy}") from error
    missing = [name for name in [SCORE, *(item.name for item in inputs)] if name not in reference]
    if missing or reference.empty:
        problem = f"has no column {', '.join(missing)}" if missing else "has no rows"
        raise ContractViolation(f"{where} {problem}, so that there is nothing to compare with. {remedy}")
    return reference


def read_predictions(file: Path, inputs: Sequence[Feature], version: str) -> pd.DataFrame:
    """The predictions of one version: a column for each input, `score`, `entity` and `time`, oldest first."""
    table = pq.read_table(file, columns=["time", "entity", "version", SCORE, "features"]).to_pandas(
        ignore_metadata=True, self_destruct=True
    )
    table = table[table["version"] == version].reset_index(drop=True)
    features = pd.DataFrame(table["features"].tolist(), columns=[item.name for item in inputs], index=table.index)
    for item in inputs:
        if item.type == "numeric":
            features[item.name] = features[item.name].astype("float64")
    record = table[["time", "entity", SCORE]]
    # A feature may be called as a column of the record is.
    return record[[name for name in record if name not in features]].join(features)


def independent(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One prediction for each entity, its newest; those that name none all count.

    Asking twice about the same entity says nothing new, but a test takes it for more evidence.

    Args:
        predictions: Oldest first, with `entity`.
        seed: Of the sample that is taken where there are more than 20,000.
    """
    known = predictions["entity"].notna()
    newest = ~predictions["entity"].duplicated(keep="last")
    kept = predictions[newest | ~known]
    if len(kept) > LARGEST_SAMPLE:
        kept = kept.sample(LARGEST_SAMPLE, random_state=seed).sort_index()
    return kept.reset_index(drop=True)
