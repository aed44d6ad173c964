"""CBPE, confidence-based performance estimation: how good predictions are before their outcomes are known.

A calibrated score is the probability of the event, so that the confusion matrix that a sample will have is known in
expectation (the method of NannyML's CBPE, documented with its assumptions by NannyML 2022, "Performance estimation";
for accuracy Guillory et al. 2021, "Predicting with confidence on unseen distributions"). It assumes calibration and no
concept drift: where labels follow features otherwise than before, the scores do not say so, and neither does this.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import Estimate
from kfp_lifecycle.components.monitoring.join_outcomes.performance import FEWEST_OF_A_CLASS
from kfp_lifecycle.modelling.metrics import LOG_MARGIN
from kfp_lifecycle.uncertainty.bootstrap import interval

Floats = NDArray[np.float64]

NAMES = ("roc_auc", "log_loss", "precision", "recall")
REPLICATES = 200
# Of more rows as many are drawn: the interval is narrow by then.
LARGEST_SAMPLE = 20_000


def estimate_performance(
    score: Floats, acted: NDArray[np.bool_], known: NDArray[np.bool_], label: Floats, seed: int
) -> Estimate | None:
    """Estimate from scores alone where outcomes are open, and hold the method against those that are known.

    Args:
        score: The label's probability, shape (n,).
        acted: Whether the version's threshold says to act, shape (n,).
        known: Whose outcome is known, shape (n,).
        label: 0 or 1 of those, shape (n,).
        seed: Chooses the replicates.
    """
    is_open = ~known
    if not is_open.any():
        return None
    metrics = _estimated(score[is_open], acted[is_open], seed)
    errors: dict[str, float] = {}
    events = label[known].sum()
    if min(events, known.sum() - events) >= FEWEST_OF_A_CLASS:
        expected = figures(score[known], acted[known], score[known][None, :])[0]
        measured = figures(score[known], acted[known], label[known][None, :])[0]
        errors = {
            name: float(was - foretold)
            for name, was, foretold in zip(NAMES, measured, expected, strict=True)
            if np.isfinite(was) and np.isfinite(foretold)
        }
    return Estimate(rows=int(is_open.sum()), metrics=metrics, judged_rows=int(known.sum()), errors=errors)


def _estimated(score: Floats, acted: NDArray[np.bool_], seed: int) -> dict[str, Metric]:
    if min(score.sum(), (1 - score).sum()) < FEWEST_OF_A_CLASS:
        return {}
    value = figures(score, acted, score[None, :])[0]
    random = np.random.default_rng(seed)
    rows = min(len(score), LARGEST_SAMPLE)
    # What will be measured differs from its expectation by which rows come, and by what becomes of each.
    replicates = np.empty((REPLICATES, len(NAMES)))
    for number in range(REPLICATES):
        drawn = random.integers(0, len(score), rows)
        happened = (random.random(rows) < score[drawn]).astype(np.float64)
        replicates[number] = figures(score[drawn], acted[drawn], happened[None, :])[0]
    found = {}
    for place, name in enumerate(NAMES):
        column = replicates[np.isfinite(replicates[:, place]), place]
        if np.isfinite(value[place]) and len(column):
            scaled = value[place] + (column - value[place]) * np.sqrt(rows / len(score))
            found[name] = interval(float(value[place]), scaled, len(score))
    return found


def figures(score: Floats, acted: NDArray[np.bool_], event: Floats) -> Floats:
    """The figures of `NAMES` where each row is an event by some part: its label, or its probability.

    Args:
        score: Shape (n,).
        acted: Shape (n,).
        event: From 0 to 1, shape (b, n).

    Returns:
        Shape (b, 4); no number where it is undefined.
    """
    order = np.argsort(-score, kind="stable")
    ranked, positive = score[order], event[:, order]
    negative = 1 - positive
    # Equal scores are one step of the curve.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found, false = np.cumsum(positive, axis=1)[:, ends], np.cumsum(negative, axis=1)[:, ends]
    of_group = np.diff(false, axis=1, prepend=0)
    height = found - np.diff(found, axis=1, prepend=0) / 2
    likely = np.clip(score, LOG_MARGIN, 1 - LOG_MARGIN)
    loss = -(event * np.log(likely) + (1 - event) * np.log1p(-likely))
    caught, all_events = (event * acted).sum(axis=1), event.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.column_stack(
            [
                (of_group * height).sum(axis=1) / (found[:, -1] * false[:, -1]),
                loss.mean(axis=1),
                caught / np.array(float(acted.sum())),
                caught / all_events,
            ]
        )
