"""Baseline: what stays with a model for comparison with production, date by date."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part
from kfp_lifecycle.modelling.scoring import Scorer

# The newest date is what production is compared with; the others say how dates differ.
NEWEST_ROWS, FORMER_ROWS = 5000, 1000
LARGEST_DATES = 12


def baseline_of(parts: Mapping[str, Part], present: pd.DataFrame | None, scorer: Scorer, seed: int) -> pd.DataFrame:
    """Rows of the newest dates that the model was made from and judged by: its inputs, `score` and the date.

    Of all parts, and of the moment of the training: production follows upon that, a label's horizon after the newest
    labels, and no label is needed. Right after a change much moves within a horizon. Where nearly each row has a time
    of its own, time is cut into twelve stretches of as many rows, each known by its last time.

    Args:
        parts: As `read_parts` gives them.
        present: As `TrainingSet.present` gives it.
        scorer: The model as it is served.
        seed: Of the samples.
    """
    rows = pd.concat(
        [part.features.assign(**{TIMESTAMP: part.frame[TIMESTAMP].to_numpy()}) for part in parts.values()],
        ignore_index=True,
    )
    rows[TIMESTAMP] = dates_of(rows[TIMESTAMP])
    if present is not None:
        rows = pd.concat([rows, present], ignore_index=True)
    newest = sorted(rows[TIMESTAMP].unique())[-LARGEST_DATES:]
    kept = [
        rows[rows[TIMESTAMP] == date].pipe(_sample, NEWEST_ROWS if date == newest[-1] else FORMER_ROWS, seed)
        for date in newest
    ]
    sampled = pd.concat(kept, ignore_index=True)
    return sampled.assign(score=scorer.score(sampled))


def dates_of(times: pd.Series) -> pd.Series:
    """The date of each row: its time, or the last time of its stretch where rows share no times."""
    if times.nunique() <= len(times) // 20:
        return times
    stretch = (times.rank(method="first") - 1) * LARGEST_DATES // len(times)
    return times.groupby(stretch).transform("max")


def _sample(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    return rows.sample(min(most, len(rows)), random_state=seed).sort_index()
