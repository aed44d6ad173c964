"""Which features the ranking rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from components.training.dataset import Part
from components.training.scoring import Scorer

MOST_ROWS = 5000
REPEATS = 3


def permutation_importance(scorer: Scorer, part: Part, seed: int) -> list[dict[str, Any]]:
    """How much ROC AUC is lost when a feature's values are shuffled among the rows (Breiman 2001, "Random forests").

    Args:
        scorer: The served model.
        part: Rows that it was not trained on; at most 5,000 of them are used, of both classes.
        seed: Chooses the rows and the shuffles.

    Returns:
        `feature` and `value` (the mean loss over three shuffles, in AUC, about 0 for a useless one), largest first.
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(len(part.label))[:MOST_ROWS]
    # A sample of a rare event may miss it: one row of each class is always there.
    rows = np.union1d(rows, [np.argmax(part.label), np.argmin(part.label)])
    inputs, label = part.features.iloc[rows], part.label[rows]
    feed = scorer.feed(inputs)
    whole = roc_auc_score(label, scorer.run(feed))
    losses = {}
    for name, values in feed.items():
        shuffled = [scorer.run({**feed, name: random.permutation(values)}) for _ in range(REPEATS)]
        losses[name] = float(np.mean([whole - roc_auc_score(label, score) for score in shuffled]))
    ranked = sorted(losses.items(), key=lambda item: -item[1])
    return [{"feature": name, "value": value} for name, value in ranked]
