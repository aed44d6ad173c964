"""Artifacts of a training run as its steps would leave them: made by code, small, and of a believable business."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.document import Document
from kfp_lifecycle.artifacts.evaluation import Evaluation
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.promotion import Promotion
from kfp_lifecycle.artifacts.serving import ServingTrial
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.artifacts.validation import ValidationResults
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.reports.report import ArtifactView, StepView
from kfp_lifecycle.runtime.states import State

CONFIGURATION = """\
name: churn
title: Customer churn of a subscription business
description: Ranks active customers by their risk of leaving, so that retention reaches the right ones.
entity: {name: customer, key: customer_id}
source:
  url: duckdb:///churn.duckdb
  tables:
    customers: {key: [customer_id], event_time: signed_up_at}
label: {name: churned, title: churns within 30 days, horizon_days: 30}
features: {service: churn}
gate:
  rules:
    - {metric: performance.roc_auc, min: 0.7}
deployment: {model: churn}
"""

BEGUN = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
STEPS: list[tuple[str, str, float, str]] = [
    ("tables", "ingest_data", 6.2, "1,204,118 rows"),
    ("dataset", "version_dataset", 2.9, "version 3f9a1c"),
    ("validated", "validate_data", 11.4, "41 of 42 checks passed"),
    ("training_set", "build_training_set", 9.8, "84,310 rows, 14 features"),
    ("parameters", "tune_hyperparameters", 14.1, "AUC 0.812"),
    ("model", "train_model", 5.3, "AUC 0.815"),
    ("evaluation", "evaluate_model", 12.6, "AUC 0.809"),
    ("verdict", "decide_promotion", 2.2, "8 of 8 rules met"),
    ("registered_model", "register_model", 3.1, "version 3"),
    ("servable_model", "validate_serving", 4.8, "12 requests answered"),
    ("store", "materialize_features", 3.7, "9,412 entities"),
    ("deployment", "release_model", 7.5, "100% of traffic"),
    ("promotion", "promote_model", 0.6, "version 3 is the champion"),
]

FEATURES = {
    "days_since_last_login": ("numeric", 0.94),
    "monthly_charge": ("numeric", 0.52),
    "payment_failures_90d": ("numeric", 0.47),
    "tenure_days": ("numeric", 0.41),
    "support_tickets_90d": ("numeric", 0.28),
    "purchase_frequency": ("numeric", 0.21),
    "plan": ("categorical", 0.17),
    "total_purchases": ("numeric", 0.08),
}


def steps(gap_seconds: float = 0.3) -> list[StepView]:
    """The run's steps, one after the other."""
    views, begun = [], BEGUN
    for _, name, seconds, figure in STEPS:
        views.append(StepView(name, State.done, begun, seconds, figure))
        begun += timedelta(seconds=seconds + gap_seconds)
    return views


def training_run(folder: Path) -> dict[str, ArtifactView]:
    """Write the artifacts of a promoted candidate below a folder."""
    metadata: dict[str, dict[str, Any]] = {
        artifact: {
            "step": view.name,
            "started_at": view.started_at.isoformat(),
            "seconds": view.seconds,
            "summary": view.key_figure,
        }
        for (artifact, *_), view in zip(STEPS, steps(), strict=True)
        if view.started_at
    }
    metadata["dataset"] |= {
        "version": "3f9a1c7be2d04415a9",
        "remote": "/srv/datasets/churn",
        "as_of": "2026-11-23T23:58:41+00:00",
    }
    for artifact in metadata:
        (folder / artifact).mkdir(parents=True)
    for artifact in ("tables", "dataset", "validated"):
        for table in manifest()["tables"]:
            (folder / artifact / f"{table}.parquet").touch()
        Manifest.model_validate(manifest()).write(folder / artifact)
    ValidationResults.model_validate({"checks": checks()}).write(folder / "validated")
    TrainingSetDescription.model_validate(training_set()).write(folder / "training_set")
    for artifact in ("model", "registered_model"):
        version = "3" if artifact == "registered_model" else None
        Model.model_validate({**model(), "version": version}).write(folder / artifact)
    Evaluation.model_validate(evaluation()).write(folder / "evaluation")
    for name, drawing in plots().items():
        file = folder / "evaluation" / "plots" / f"{name}.svg"
        file.parent.mkdir(exist_ok=True)
        file.write_text(drawing, "utf-8")
    ServingTrial.model_validate(serving()).write(folder / "servable_model")
    contents: dict[str, Document] = {
        "parameters": Parameters.model_validate(parameters()),
        "verdict": Verdict.model_validate(verdict()),
        "deployment": Deployment.model_validate(deployment()),
        "promotion": Promotion(model="churn", version="3", previous_version="2"),
    }
    for artifact, content in contents.items():
        (folder / artifact).rmdir()
        content.write(folder / artifact)
    return {artifact: ArtifactView(folder / artifact, facts) for artifact, facts in metadata.items()}


def manifest() -> dict[str, Any]:
    """The tables of the dataset."""
    rows = {
        "customers": 10_000,
        "logins": 1_004_291,
        "purchases": 88_240,
        "subscriptions": 92_417,
        "support_tickets": 9_170,
    }
    columns = {"customer_id": "VARCHAR", "at": "TIMESTAMP"}
    tables = {name: {"rows": count, "columns": columns} for name, count in rows.items()}
    return {"as_of": "2026-11-23T23:58:41+00:00", "tables": tables}


def checks() -> list[dict[str, Any]]:
    """One warning and a handful of passed checks."""
    passed = [
        {
            "table": table,
            "column": "customer_id",
            "layer": layer,
            "rule": rule,
            "severity": "critical",
            "passed": True,
            "rows": 0,
            "share": 0.0,
            "examples": [],
            "remedy": "",
        }
        for table in ("customers", "logins", "purchases", "subscriptions")
        for layer, rule in (
            ("schema", "is never missing"),
            ("rules", "is unique where the key says so"),
            ("statistics", "moves less than 0.2"),
        )
    ]
    drifted = {
        "table": "subscriptions",
        "column": "amount",
        "layer": "statistics",
        "rule": "distance from the last accepted snapshot at most 0.2 (it is 0.27)",
        "severity": "warning",
        "passed": False,
        "rows": 4_120,
        "share": 0.0446,
        "examples": ["49.0", "59.0", "79.0"],
        "remedy": "Look whether prices were changed on purpose; the run goes on.",
    }
    return [*passed, drifted]


def training_set() -> dict[str, Any]:
    """Twelve snapshots, thirty days apart, divided by time."""
    days = [date(2025, 10, 29) + timedelta(days=30 * count) for count in range(12)]
    snapshots = {"train": days[:8], "validation": days[8:10], "test": days[10:]}
    return {
        "entity": "customer_id",
        "label": "churned",
        "features": [{"name": name, "type": kind} for name, (kind, _) in FEATURES.items()],
        "sensitive": ["age_band", "gender", "region"],
        "feature_service": "churn",
        "feature_version": "b7e23ec29af2",
        "snapshots": {part: [day.isoformat() for day in dates] for part, dates in snapshots.items()},
        "rows": {"train": 56_204, "validation": 13_911, "test": 14_195},
        "positives": {"train": 2_924, "validation": 751, "test": 738},
        "label_rates": [
            {"snapshot": day.isoformat(), "rows": 7_000, "positives": 360 + 3 * count} for count, day in enumerate(days)
        ],
        "as_of": "2026-11-23T23:58:41+00:00",
    }


def parameters() -> dict[str, Any]:
    """What tuning found."""
    chosen = {"learning_rate": 0.0613, "max_leaf_nodes": 23, "min_samples_leaf": 84, "l2_regularization": 0.417}
    return {"parameters": chosen, "trials": 12, "best_value": 0.8124, "default_value": 0.8047}


def model() -> dict[str, Any]:
    """What the model says of itself."""
    return {
        "model": "churn",
        "inputs": training_set()["features"],
        "feature_service": "churn",
        "feature_version": "b7e23ec29af2",
        "threshold": 0.2083,
        "calibration": {"method": "sigmoid", "slope": 1.04},
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        "parameters": parameters()["parameters"],
        "seed": 42,
        "run_id": "4c1f6a0e9d0b4b7f8f55f0f4c1c58a31",
        "baseline_auc": {"tenure": 0.61},
        "importance": [{"feature": name, "value": value} for name, (_, value) in FEATURES.items()],
    }


def evaluation() -> dict[str, Any]:
    """Six dimensions, measured."""
    measured = {
        "performance.roc_auc": (0.809, 0.794, 0.823),
        "performance.best_possible_roc_auc": (0.846, 0.834, 0.858),
        "performance.average_precision": (0.241, 0.219, 0.266),
        "performance.lift_at_10_percent": (4.12, 3.85, 4.4),
        "performance.expected_value_per_1000": (612.4, 480.1, 744.9),
        "fairness.demographic_parity_ratio.gender": (0.94, 0.88, 1.01),
        "fairness.demographic_parity_ratio.age_band": (0.86, 0.8, 0.93),
        "calibration.expected_calibration_error": (0.0081, 0.0052, 0.0134),
        "robustness.worst_missing_feature_auc_drop": (0.071, 0.058, 0.086),
        "explainability.additivity_error": (2.1e-7, 2.1e-7, 2.1e-7),
        "latency.p50_ms": (0.021, 0.02, 0.023),
        "latency.p99_ms": (0.064, 0.051, 0.088),
    }
    metrics = {
        name: {"value": value, "low": low, "high": high, "rows": 14_195}
        for name, (value, low, high) in measured.items()
    }
    return {
        "run_id": model()["run_id"],
        "metrics": metrics,
        "notes": ["Group region = north has 84 rows: too few to judge."],
        "sections": [
            {
                "dimension": "performance",
                "title": "Decisions at the threshold 0.208",
                "columns": ["", "acted on", "left alone"],
                "rows": [["event", 391, 347], ["no event", 1_180, 12_277]],
            },
            {
                "dimension": "explainability",
                "title": "Why the highest scores are high",
                "columns": ["customer_id", "score", "reasons"],
                "rows": [["C004711", 0.871, "days_since_last_login 41 (+1.9); payment_failures_90d 2 (+0.8)"]],
            },
        ],
    }


def verdict() -> dict[str, Any]:
    """Every rule met, and a champion beaten."""
    measured = evaluation()["metrics"]
    limits = {
        "performance.roc_auc": (0.7, None, "confidence", "The ranking must be worth acting on."),
        "performance.lift_at_10_percent": (2.0, None, "estimate", "Retention reaches a tenth of the customers."),
        "fairness.demographic_parity_ratio.gender": (0.8, 1.25, "estimate", "Four-fifths rule."),
        "calibration.expected_calibration_error": (None, 0.05, "estimate", "Scores are read as probabilities."),
        "latency.p99_ms": (None, 100.0, "estimate", "The account page waits for it."),
    }
    rules = []
    for metric, (least, most, bound, why) in limits.items():
        value = measured[metric]["value"]
        margin = min(value - least if least is not None else math.inf, most - value if most is not None else math.inf)
        rules.append(
            {
                **measured[metric],
                "metric": metric,
                "min": least,
                "max": most,
                "bound": bound,
                "passed": True,
                "margin": margin,
                "why": why,
                "sentence": f"{metric} is {value}: met.",
            }
        )
    sentence = "The candidate is better by 0.012, and the whole interval is above 0."
    lead = {
        "metric": "roc_auc",
        "window": "newest",
        "demand": "superiority",
        "margin": 0.0,
        "champion": 0.797,
        "candidate": 0.809,
        "difference": 0.012,
        "low": 0.003,
        "high": 0.021,
        "method": "DeLong",
        "passed": True,
        "sentence": sentence,
    }
    champion = {"version": "2", "compared": True, "passed": True, "sentence": sentence, "comparisons": [lead]}
    return {
        "decision": "approved",
        "model": "churn",
        "run_id": model()["run_id"],
        "decided_at": "2026-11-24T08:31:00+00:00",
        "feature_version": "b7e23ec29af2",
        "snapshots": ["2026-08-25"],
        "rules": rules,
        "champion_version": "2",
        "champion": champion,
        "sentences": ["Approved: churn meets every rule."],
    }


def serving() -> dict[str, Any]:
    """How the server did with the model, alone and with eight clients."""
    return {
        "latency": {"p50_ms": 1.35, "p95_ms": 1.56, "p99_ms": 1.66, "requests": 300, "clients": 1},
        "concurrent_latency": {"p50_ms": 9.97, "p95_ms": 11.7, "p99_ms": 64.8, "requests": 296, "clients": 8},
        "server": {"ready_seconds": 0.92, "peak_memory_mb": 231.3},
        "examples": [{"features": {"plan": "pro"}, "score": 0.3}],
    }


def deployment() -> dict[str, Any]:
    """A canary that went well."""
    traffic = [
        {"percent": percent, "requests": 50, "errors": 0, "p99_ms": p99}
        for percent, p99 in ((10, 14.2), (50, 12.8), (100, 13.1))
    ]
    example = {"inputs": [{"name": "customer_id", "shape": [1, 1], "datatype": "BYTES", "data": ["C000042"]}]}
    return {
        "url": "http://127.0.0.1:8080",
        "grpc": "127.0.0.1:8081",
        "model": "churn",
        "version": "3",
        "previous_version": "2",
        "strategy": "canary",
        "steps": traffic,
        "example": example,
    }


def plots() -> dict[str, str]:
    """A curve for each of four plots, on paper of their own."""
    curves = {
        "performance_roc_curve": 0.35,
        "performance_precision_recall": 2.4,
        "calibration_reliability": 1.05,
        "robustness_missing_features": 0.6,
    }
    return {name: _curve(power) for name, power in curves.items()}


def _curve(power: float) -> str:
    points = " ".join(f"{40 + 3.2 * step:.1f},{250 - 230 * (step / 100) ** power:.1f}" for step in range(101))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 280"><rect width="400" height="280" fill="#fff"/>'
        '<path d="M40 20V250H380" fill="none" stroke="#999"/>'
        '<path d="M40 250L360 20" stroke="#ccc" stroke-dasharray="4 4"/>'
        f'<polyline points="{points}" fill="none" stroke="#265d8f" stroke-width="2.5"/></svg>'
    )
