"""Measured limits of a model card: what was found on rows that decided nothing, what nobody tested, and the verdict."""

from __future__ import annotations

import re
from pathlib import Path

from kfp_lifecycle.artifacts.evaluation import Evaluation, Metric
from kfp_lifecycle.artifacts.model_card import CardSection, ModelCard
from kfp_lifecycle.artifacts.titles import Titles, slice_title
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.reports.model_card import write_card

INTERVAL = "Value and 95% interval, on rows that neither trained, calibrated nor set the threshold."
# How the evaluation says that something was not, or could not be, measured.
UNTESTED = re.compile(r"not measured|undefined|too few|not known|say nothing|absent")


def complete_card(folder: Path, evaluation: Evaluation, verdict: Verdict) -> None:
    """Add what was measured and decided to the card of an approved model's folder.

    A model that has no card, since this library did not train it, gets one of these sections alone.
    """
    told = (folder / ModelCard.FILE).is_file()
    card = ModelCard.read(folder) if told else ModelCard(title=verdict.model, sections=[])
    write_card(folder, card.model_copy(update={"sections": [*card.sections, *measured_sections(evaluation, verdict)]}))


def measured_sections(evaluation: Evaluation, verdict: Verdict) -> list[CardSection]:
    """What was measured of a model, by dimension and by group, what was not, and what was decided by it."""
    sections = []
    for dimension in dict.fromkeys(name.partition(".")[0] for name in evaluation.metrics):
        heading = f"Measured: {dimension.replace('_', ' ')}"
        found = {
            name.partition(".")[2]: m for name, m in evaluation.metrics.items() if name.startswith(f"{dimension}.")
        }
        whole = {name: metric for name, metric in found.items() if "=" not in name}
        groups = {name: metric for name, metric in found.items() if "=" in name}
        if whole:
            sections.append(
                CardSection(heading=heading, sentences=[INTERVAL], table=_table("metric", whole, evaluation.titles))
            )
        if groups:
            sections.append(
                CardSection(
                    heading=f"{heading}, by group",
                    sentences=[INTERVAL],
                    table=_table("group", groups, evaluation.titles),
                )
            )
    untested = [note for note in evaluation.notes if UNTESTED.search(note)]
    sections += [
        CardSection(
            heading="What was not tested",
            sentences=[
                *untested,
                "Anybody outside the population of the test rows, and months later than theirs: monitoring sees these.",
            ],
        ),
        CardSection(
            heading="What stands out",
            sentences=[note for note in evaluation.notes if note not in untested] or ["Nothing."],
        ),
        CardSection(heading="Verdict", sentences=list(verdict.sentences)),
    ]
    return sections


def _table(title: str, metrics: dict[str, Metric], titles: Titles) -> list[list[str]]:
    rows = [
        [_called(name, titles), f"{metric.value:.4g}", f"{metric.low:.4g} to {metric.high:.4g}", f"{metric.rows:,}"]
        for name, metric in sorted(metrics.items())
    ]
    return [[title, "value", "95% interval", "rows"], *rows]


def _called(name: str, titles: Titles) -> str:
    """A metric, of a slice by the title of its column."""
    metric, _, piece = name.partition(".")
    called = slice_title(piece, titles)
    return name.replace("_", " ") if called == piece else f"{metric.replace('_', ' ')}.{called}"
