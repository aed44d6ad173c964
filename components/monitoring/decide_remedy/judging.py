"""Judging a window: the documents that are read, and the remedy that is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.predictions import Predictions
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.decide_remedy.decision import decide
from kfp_lifecycle.components.monitoring.decide_remedy.evidence import Evidence
from kfp_lifecycle.components.monitoring.decide_remedy.logged import Logged
from kfp_lifecycle.components.monitoring.decide_remedy.page import draw
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.training import ThresholdRule
from kfp_lifecycle.monitoring.history import BusinessFigure, WindowRecord, read_history, record_window, retrainings
from kfp_lifecycle.monitoring.resolution import moves_of, resolutions
from kfp_lifecycle.runtime.outputs import complete_folder, write_whole

# So many windows of the past are drawn: half a year of days, more than three years of weeks.
DRAWN = 180


def decide_remedy(
    settings: Configuration,
    locations: Locations,
    predictions: Path,
    drift: Path,
    skew: Path,
    outcomes: Path,
    remedy: Path,
    report: Path,
    runs: Sequence[str] = (),
) -> Remedy:
    """Decide by what was found, write it to the history of windows, and draw the page.

    Args:
        settings: What the step was given of the configuration.
        locations: `tracking_uri` says where the registry is, `prediction_log` where predictions are, `audit_record` who
            released and rolled back; it may be empty.
        predictions: What `collect_predictions` wrote.
        drift: What `detect_drift` wrote.
        skew: What `recompute_features` wrote.
        outcomes: What `join_outcomes` wrote.
        remedy: Folder to write; it appears whole or not at all.
        report: HTML file to write.
        runs: The run of monitoring, by each name that a training which it asks for may know it by.

    Raises:
        ContractViolation: a document is missing or damaged, the log or the audit record cannot be read, or MLflow
            cannot be reached.
    """
    served, moved, known = Predictions.read(predictions), Drift.read(drift), Outcomes.read(outcomes)
    table = pd.read_parquet(outcomes / Outcomes.TABLE)
    logged = Logged(locations, known, table, moved.version)
    found = decide(
        Evidence(
            drift=moved,
            outcomes=known,
            table=table,
            skew=ServingSkew.read(skew),
            label=settings.label.name,
            costs=settings.training.costs,
            ratio=settings.monitoring.outcome_ratio,
            run_length=settings.monitoring.ranking_run_length,
            seed=settings.training.seed,
            by_costs=settings.training.threshold.by is ThresholdRule.cost,
            features=logged.features,
            adjusted=lambda: logged.adjusted,
            decisions=logged.decisions,
        )
    )
    record_window(locations.tracking_uri, settings.name, window_record(found, served, moved, known, runs))
    history = read_history(locations.tracking_uri, settings.name, found.model, until=found.window.end, windows=DRAWN)
    done = resolutions(
        history,
        retrainings(locations.tracking_uri, settings.name, history),
        moves_of(locations.audit_record, found.model),
    )
    with complete_folder(remedy) as folder:
        found.write(folder)
        write_whole(report, draw(found, served, moved, known, history, done, settings.label.title))
    print(found.sentence)
    return found


def window_record(
    found: Remedy, served: Predictions, drift: Drift, outcomes: Outcomes, runs: Sequence[str]
) -> WindowRecord:
    """What the history keeps of a window."""
    own = next((version for version in outcomes.versions if version.version == found.version), None)
    week = own.weeks[-1] if own is not None and own.weeks else None
    performance = own.performance[0].metrics if own is not None and own.performance else {}
    return WindowRecord(
        model=found.model,
        version=found.version,
        start=found.window.start,
        end=found.window.end,
        predictions=served.found.predictions,
        compared=drift.predictions.compared,
        mean_score=drift.mean_score,
        drifted=drift.drifted,
        verdict=found.verdict,
        remedy=found.remedy,
        sentence=found.sentence,
        since=found.since,
        adjustment=found.adjustment,
        week=week.end if week else None,
        observed=week.observed if week else None,
        expected=week.expected if week else None,
        roc_auc=performance.get("roc_auc"),
        business={
            item.name: BusinessFigure(title=item.title, unit=item.unit, per=item.per, value=item.value)
            for item in (own.business if own is not None else [])
            if item.value is not None
        },
        runs=[run for run in runs if run],
    )
