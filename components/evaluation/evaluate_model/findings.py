"""Sample that an evaluation examines, and the findings that it gathers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric, Section, Suspect
from kfp_lifecycle.artifacts.titles import Titles
from kfp_lifecycle.config.evaluation import Evaluation
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.uncertainty.area import Area, area
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Features that are examined one by one, and two by two, the most. Of a table with 1,500 columns nobody reads more, a
# correction for all of them would find nothing, and its cost grows with their cube.
MOST_EXAMINED = 100


@dataclass
class Findings:
    """What an evaluation gathers.

    Attributes:
        metrics: By full name, `dimension.metric[.slice]`.
        notes: Sentences for a reader: what was not measured and why, what stands out.
        sections: Tables for a report.
        figures: Plots by file name without suffix.
        suspects: Features that may know what comes after.
    """

    metrics: dict[str, Metric] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take over what another found."""
        self.metrics |= other.metrics
        self.notes += other.notes
        self.sections += other.sections
        self.figures |= other.figures
        self.suspects += other.suspects

    def table(self, dimension: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; numbers are rounded as people read them, what is no number is left empty."""
        shown = [[_shown(value) for value in row] for row in rows]
        self.sections.append(Section(dimension=dimension, title=title, columns=list(columns), rows=shown))


@dataclass(frozen=True)
class Sample:
    """Rows that the candidate has never seen, and what it says of them.

    Attributes:
        part: The rows, n of them.
        scorer: The served model.
        score: Its score of each row, shape (n,), each in [0, 1].
        threshold: It acts from this score on.
        sensitive: Columns that fairness is judged by.
        entity: A whole number for each row's entity, shape (n,).
        bootstrap: Of all test rows.
        settings: How thoroughly to examine.
        costs: What decisions are worth.
        seed: Chooses whatever is chosen by chance.
        titles: What people call columns whose name is another one.
        ranked: The model's inputs, those that it rests on most first; () where their order is not known.
    """

    part: Part
    scorer: Scorer
    score: NDArray[np.float32]
    threshold: float
    sensitive: Sequence[str]
    entity: NDArray[np.int64]
    bootstrap: Bootstrap
    settings: Evaluation
    costs: Costs
    seed: int
    titles: Titles = field(default_factory=dict)
    ranked: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse scores that are no probabilities.

        Raises:
            ContractViolation: one is no number, or outside 0 and 1.
        """
        wrong = np.flatnonzero(~((self.score >= 0) & (self.score <= 1)))
        if len(wrong):
            raise ContractViolation(
                f"The model scores {len(wrong):,} of {self.rows:,} test rows with no probability; row {wrong[0]:,} "
                f"gets {self.score[wrong[0]]}. A score is a number from 0 to 1: train and export the model again."
            )

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.label)

    @property
    def label(self) -> NDArray[np.int8]:
        """1 for the event, 0 for none, shape (n,)."""
        return self.part.label

    @cached_property
    def acted(self) -> NDArray[np.bool_]:
        """The decisions, shape (n,)."""
        return self.score >= self.threshold

    @property
    def entities(self) -> int:
        """How many there are."""
        return self.bootstrap.counts.shape[1]

    @cached_property
    def whole(self) -> Area:
        """ROC AUC of all rows."""
        return self.area(self.score)

    def area(self, score: NDArray[Any], rows: Any = slice(None)) -> Area:
        """ROC AUC of any score of these rows, or of some of them."""
        return area(self.label, score, self.entity, self.entities, rows)

    @property
    def features(self) -> Mapping[str, str]:
        """Type of each of the model's inputs, by name."""
        return {item.name: item.type for item in self.scorer.features}

    @property
    def examined(self) -> Mapping[str, str]:
        """Type of each input that is examined by itself: all, or the `MOST_EXAMINED` that the model rests on most."""
        features = self.features
        if len(features) <= MOST_EXAMINED:
            return features
        chosen = set((self.ranked or list(features))[:MOST_EXAMINED])
        return {name: kind for name, kind in features.items() if name in chosen}


def _shown(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
