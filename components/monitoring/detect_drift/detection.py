"""Drift detection: what production sends beside what the champion was trained on, and what follows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.drift import SCORE, Compared, Drift, DriftRule, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import TABLE_FILE, Predictions
from kfp_lifecycle.components.monitoring.detect_drift.callers import CALLER, decisive_caller
from kfp_lifecycle.components.monitoring.detect_drift.change_point import change_point
from kfp_lifecycle.components.monitoring.detect_drift.distances import evidently_distance
from kfp_lifecycle.components.monitoring.detect_drift.explanations import explanation_drift
from kfp_lifecycle.components.monitoring.detect_drift.pictures import pictures_of
from kfp_lifecycle.components.monitoring.detect_drift.rule import TIME, Baseline
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide, drifted_inputs
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.modelling import attribution
from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.registry.champion import Champion, registered_version
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

BASELINE_FILE = "baseline/reference.parquet"
MODEL_FILE = "model.onnx"
ENTITY = "(entity)"
"""The column that says whose a prediction is, called as no feature is; missing where nobody is named."""
# More rows than this make nothing clearer: a difference that matters shows in far fewer.
LARGEST_SAMPLE = 20_000
# How far a column moved the score is told by so many rows.
SCORED_ROWS = 5_000


def detect_drift(settings: Configuration, locations: Locations, predictions: Path, drift: Path) -> Drift:
    """Compare the window's predictions with the champion's baseline.

    Args:
        settings: `deployment.model`, `monitoring` and `training.seed`.
        locations: `tracking_uri` says where the registry is.
        predictions: What `collect_predictions` wrote.
        drift: Folder for `drift.json`; it appears whole or not at all.

    Returns:
        The decision.

    Raises:
        ContractViolation: the registry does not know the version that the window is judged by, or its baseline lacks a
            column or has no rows.
    """
    rule, seed = settings.monitoring, settings.training.seed
    window = Predictions.read(predictions)
    champion = registered_version(locations.tracking_uri, window.model, window.version)
    if champion is None:
        raise ContractViolation(
            f"The registry does not know version {window.version} of {window.model}, which served in the window, so "
            "that there is no baseline to compare with. Look at a window in which a registered version served."
        )
    with tempfile.TemporaryDirectory() as scratch:
        described = champion.description(Path(scratch))
        inputs, titles = described.inputs, described.titles
        baseline = Baseline(read_baseline(champion, inputs, Path(scratch)), inputs, titles)
        current = read_predictions(predictions / TABLE_FILE, inputs, champion.version)
        compared = independent(current, seed)
        findings = baseline.compare(compared, rule, evidently_distance) if len(compared) >= rule.min_window else []
        judged = decide(findings, len(inputs), len(compared), rule)
        caller = decisive_caller(baseline, compared, findings, judged, rule)
        if caller is not None:
            compared = compared[compared[CALLER] != caller.caller].reset_index(drop=True)
            findings = baseline.compare(compared, rule, evidently_distance)
        if any(finding.drifted for finding in findings):
            scorer = Scorer(champion.fetch(Path(scratch) / "model", MODEL_FILE).read_bytes(), inputs)
            findings = explain(findings, baseline, compared, scorer, window.start, seed)
        explainer = champion_explainer(champion, Path(scratch)) if findings else None
        dates = baseline.by_date
        explanations = explanation_drift(explainer, inputs, dates, compared, seed, titles) if explainer else None
    judged = decide(findings, len(inputs), len(compared), rule)
    drifted = drifted_inputs(findings)
    found = Drift(
        verdict=judged.verdict,
        decision=judged.decision,
        sentence=judged.sentence,
        model=champion.model,
        version=champion.version,
        start=window.start,
        end=window.end,
        predictions=Compared(window=window.found.predictions, champion=len(current), compared=len(compared)),
        reference_rows=len(baseline.newest),
        reference_dates=baseline.dates,
        rule=DriftRule(**rule.model_dump(include=set(DriftRule.model_fields))),
        drifted_share=len(drifted) / len(inputs),
        drifted=drifted,
        columns=findings,
        mean_score=float(compared[SCORE].mean()) if len(compared) else None,
        pictures=pictures_of(findings, baseline.newest, compared, inputs),
        explanations=explanations,
        caller=caller,
    )
    with complete_folder(drift) as folder:
        found.write(folder)
    print(found.metadata()["summary"])
    return found


def explain(
    findings: Sequence[Finding],
    baseline: Baseline,
    current: pd.DataFrame,
    scorer: Scorer,
    start: datetime,
    seed: int,
) -> list[Finding]:
    """Say of each column that drifted since when, and how far that moved the mean score.

    The score is computed anew with values of the baseline in that column, in random order; the difference of the means
    is what the column moved.

    Args:
        findings: Of all columns.
        baseline: With values as they were.
        current: The window, with TIME, oldest first.
        scorer: The model that served.
        start: Of the window.
        seed: Of the baseline's values that are drawn.
    """
    random = np.random.default_rng(seed)
    some = current.sample(min(SCORED_ROWS, len(current)), random_state=seed)
    mean = float(scorer.score(some).mean())
    explained = []
    for finding in findings:
        if finding.drifted:
            changed = change_point(baseline.rows(finding, current[finding.column]))
            changes: dict[str, object] = {
                "since": start if changed is None else current[TIME].iloc[changed].to_pydatetime()
            }
            if finding.column != SCORE:
                drawn = random.choice(baseline.newest[finding.column].to_numpy(), len(some))
                restored = scorer.score(some.assign(**{finding.column: drawn}))
                changes["moved_score"] = mean - float(restored.mean())
            explained.append(finding.model_copy(update=changes))
        else:
            explained.append(finding)
    return explained


def champion_explainer(champion: Champion, scratch: Path) -> Explainer | None:
    """What explains the scores of a version; None where it brings nothing that does."""
    folder = scratch / "explainer"
    try:
        champion.fetch(folder, attribution.FILE)
    except ContractViolation:
        # Some estimators have none. That the registry answers was seen by the baseline.
        return None
    return Explainer.of(folder)


def score_distance(findings: Sequence[Finding]) -> float | None:
    """Evidently's distance of the score; None where nothing was compared."""
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
    """The predictions of one version: a column for each input, `score`, ENTITY, CALLER and TIME, oldest first."""
    table = pq.read_table(
        file, columns=["time", "entity", SCORE, "features", "caller"], filters=[("version", "==", version)]
    )
    names = {"caller": CALLER, "entity": ENTITY, "time": TIME}
    record = table.drop_columns("features").rename_columns(names).to_pandas(ignore_metadata=True)
    logged = pa.Table.from_struct_array(table["features"]).to_pandas()
    features = pd.DataFrame({item.name: logged.get(item.name) for item in inputs}, index=record.index)
    numeric = {item.name: "float64" for item in inputs if item.type == "numeric"}
    return record.join(features.astype(numeric))


def independent(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One prediction for each entity, its newest; those that name none all count.

    Asking twice about the same entity says nothing new, but a test takes it for more evidence.

    Args:
        predictions: Oldest first, with ENTITY.
        seed: Of the sample that is taken where there are more than 20,000.
    """
    known = predictions[ENTITY].notna()
    newest = ~predictions[ENTITY].duplicated(keep="last")
    kept = predictions[newest | ~known]
    if len(kept) > LARGEST_SAMPLE:
        kept = kept.sample(LARGEST_SAMPLE, random_state=seed).sort_index()
    return kept.reset_index(drop=True)
