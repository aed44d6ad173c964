"""Evaluation of a candidate: every metric with its interval, notes and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from kfp_lifecycle.artifacts.document import Document, Part


@dataclass(frozen=True)
class Metric:
    """A measured value with its 95% interval and the number of rows behind it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float
    low: float
    high: float
    rows: int


class Section(Part):
    """A table of the evaluation, such as the confusion matrix or the groups of a sensitive column."""

    dimension: str
    """Which dimension of quality it belongs to."""
    title: str
    """What it shows."""
    columns: list[str]
    """Its titles."""
    rows: list[list[Any]]
    """Its cells: text, numbers as people read them, null where there is none."""


class Suspect(Part):
    """A feature that may leak the label: alone it ranks better than all the others together."""

    feature: str
    """Its name."""
    roc_auc: Metric
    """How it ranks alone, on training rows that were left out."""
    others: float
    """ROC AUC of all other features together, those that are suspected too left out."""
    sentence: str
    """The finding in plain words."""


class Evaluation(Document):
    """What `evaluate_model` measured. Beside it are `predictions.parquet` and `plots/<dimension>_<name>.svg`."""

    FILE = "evaluation.json"
    WRITER = "evaluate_model"

    run_id: str
    """The candidate's run in MLflow."""
    metrics: dict[str, Metric]
    """By full name, `dimension.metric[.slice]`."""
    notes: list[str]
    """Sentences for a reader: what was not measured and why, what stands out."""
    sections: list[Section]
    """Tables, in the order of a report."""
    titles: dict[str, str] = Field(default={})
    """What people call columns that metrics name otherwise."""
    suspects: list[Suspect] = Field(default=[])
    """Features that may leak the label; the gate refuses each that `gate.waivers` gives no reason for."""
