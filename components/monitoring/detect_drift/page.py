"""Drift page: our verdict on every column, and Evidently's picture of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from kfp_lifecycle.artifacts.drift import Drift, DriftRule, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.rule import SCORE, named, presence
from kfp_lifecycle.reports.formatting import number
from kfp_lifecycle.reports.templates import KeyFigure, templates

METHOD = "corrected_p_value_and_distance"
HEADLINES = {"retrain": "Production has moved: train anew", "keep": "Keep the model", "undecided": "Nothing decided"}


def draw(drift: Drift, reference: pd.DataFrame, current: pd.DataFrame, inputs: Sequence[Feature]) -> str:
    """The report as one HTML document that needs no network.

    Args:
        drift: What was decided.
        reference: The champion's baseline.
        current: What was compared with it.
        inputs: The model's inputs.
    """
    counts = drift.predictions
    return (
        templates(Path(__file__).parent)
        .get_template("drift.html.j2")
        .render(
            drift=drift,
            headline=HEADLINES[drift.decision],
            figures=[
                KeyFigure("Predictions", number(counts.window), f"{counts.champion:,} by this version"),
                KeyFigure("Compared", number(counts.compared), "each entity once"),
                KeyFigure("Training data", number(drift.reference_rows), "rows to compare with"),
                KeyFigure("Features drifted", f"{len(drift.drifted)} of {len(inputs)}"),
            ],
            pictures=_evidently(drift.columns, reference, current, inputs, drift.rule) if drift.columns else "",
        )
    )


def _evidently(
    findings: Sequence[Finding],
    reference: pd.DataFrame,
    current: pd.DataFrame,
    inputs: Sequence[Feature],
    rule: DriftRule,
) -> str:
    # Read by Evidently when it is imported: nothing is to leave this machine.
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType
    from evidently.presets import DataDriftPreset

    shown = {_title(finding): finding for finding in findings}

    def judge(_: pd.Series, column: pd.Series, __: ColumnType, ___: float) -> tuple[float, bool]:
        finding = shown[str(column.name)]
        return finding.corrected_p_value, finding.drifted

    # Evidently knows no rule over several columns, so that it gets the verdict as a test of each.
    test = StatTest(
        METHOD,
        f"Holm-corrected p-value, and distance above {rule.min_effect:g}",
        [ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(test, judge)
    types = {SCORE: "numeric"} | {item.name: item.type for item in inputs}
    numeric = [title for title, item in shown.items() if item.aspect == "values" and types[item.column] == "numeric"]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[title for title in shown if title not in numeric]
    )
    preset = DataDriftPreset(
        columns=list(shown), method=METHOD, threshold=rule.significance, drift_share=rule.max_drifted_share
    )
    result = Report([preset], include_tests=False).run(
        current_data=Dataset.from_pandas(_columns(current, shown, types), definition),
        reference_data=Dataset.from_pandas(_columns(reference, shown, types), definition),
    )
    document: str = result.get_html_str(as_iframe=False)
    return document


def _title(finding: Finding) -> str:
    return finding.column if finding.aspect == "values" else f"{finding.column} is missing"


def _columns(frame: pd.DataFrame, shown: Mapping[str, Finding], types: Mapping[str, str]) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {}
    for title, finding in shown.items():
        column = frame[finding.column]
        if finding.aspect == "missing":
            columns[title] = presence(column)
        else:
            columns[title] = column.astype("float64") if types[finding.column] == "numeric" else named(column)
    return pd.DataFrame(columns)
