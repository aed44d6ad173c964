"""The drift report: our verdict on every column, and Evidently's picture of each."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kfp_lifecycle.components.monitoring.detect_drift.rule import SCORE, Finding, Input, named, presence
from kfp_lifecycle.config.monitoring import Monitoring

METHOD = "corrected_p_value_and_distance"
STYLE = """
<style>
.verdict {font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1100px; margin: 2rem auto; padding: 0 1rem;}
.verdict h1 {font-size: 1.5rem; margin: 0 0 .3rem;} .verdict p {margin: .3rem 0;}
.verdict .scroll {overflow-x: auto;} .verdict table {border-collapse: collapse; width: 100%; margin-top: 1rem;}
.verdict td, .verdict th {text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #e4e8ec;}
.verdict .drifted {color: #c2541b; font-weight: 600;} .verdict .quiet {color: #5d6b79;}
</style>
"""
HEADLINES = {"retrain": "Production has moved: train anew", "keep": "Keep the model", "undecided": "Nothing decided"}


def draw(
    content: Mapping[str, Any],
    findings: Sequence[Finding],
    reference: pd.DataFrame,
    current: pd.DataFrame,
    inputs: Sequence[Input],
    rule: Monitoring,
) -> str:
    """The report as one HTML document that needs no network.

    Args:
        content: What `drift.json` says.
        findings: Of all columns; empty where nothing was compared.
        reference: The champion's baseline.
        current: What was compared with it.
        inputs: The model's inputs.
        rule: The bounds.
    """
    verdict = STYLE + _verdict(content, findings, rule)
    if not findings:
        head = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Drift</title></head>'
        return f"{head}<body>{verdict}</body></html>"
    document = _evidently(findings, reference, current, inputs, rule)
    before, body, after = document.partition("<body>")
    return before + body + verdict + after


def _verdict(content: Mapping[str, Any], findings: Sequence[Finding], rule: Monitoring) -> str:
    counts = content["predictions"]
    rows = "".join(
        f'<tr class="{"drifted" if item.drifted else "quiet"}"><td>{html.escape(item.column)}</td>'
        f"<td>{'how many are missing' if item.aspect == 'missing' else 'values'}</td>"
        f"<td>{html.escape(item.sentence)}</td><td>{item.distance:.3f}</td><td>{item.corrected_p_value:.2g}</td>"
        f"<td>{'drifted' if item.drifted else '–'}</td></tr>"
        for item in sorted(findings, key=lambda item: (not item.drifted, -item.distance))
    )
    headings = "".join(
        f"<th>{name}</th>" for name in ("Column", "Of it", "Baseline → now", "Distance", "Corrected p-value", "")
    )
    table = f'<div class="scroll"><table><tr>{headings}</tr>{rows}</table></div>' if findings else ""
    return (
        f'<section class="verdict"><h1>{HEADLINES[content["decision"]]}</h1><p>{html.escape(content["sentence"])}</p>'
        f'<p class="quiet">{html.escape(content["model"])} version {html.escape(content["version"])}, '
        f"{content['start'][:16].replace('T', ' ')} to {content['end'][:16].replace('T', ' ')} UTC: "
        f"{counts['window']:,} predictions, {counts['champion']:,} by this version, {counts['compared']:,} compared "
        f"(each entity once), with {content['reference_rows']:,} rows of its training data.</p>"
        f'<p class="quiet">A column drifts when its p-value, corrected for {len(findings)} comparisons (Holm), is '
        f"below {rule.significance:g} and its distance (Jensen-Shannon) above {rule.min_effect:g}.</p>"
        f"{table}</section>"
    )


def _evidently(
    findings: Sequence[Finding],
    reference: pd.DataFrame,
    current: pd.DataFrame,
    inputs: Sequence[Input],
    rule: Monitoring,
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
