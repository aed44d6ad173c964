"""Worth of remedies by the project's costs, had they been in force: cross-fitted on predictions whose outcome is known.

A remedy is fitted on four fifths of the entities and judged on the fifth that it has not seen. Before a horizon is over
an event counts for the part of the horizon that is not seen yet, too (inverse probability of censoring weights: Robins
and Rotnitzky 1992), so that the first weeks after a change say something.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.remedy import Gain, RemedyName
from kfp_lifecycle.components.monitoring.decide_remedy.followed import Followed, Ratio
from kfp_lifecycle.config.training import Costs, ThresholdRule
from kfp_lifecycle.modelling.decisions import best_threshold, break_even, decision_values
from kfp_lifecycle.uncertainty.bootstrap import entity_sums
from kfp_lifecycle.uncertainty.contributions import normal_interval
from kfp_lifecycle.uncertainty.sequential import MeanTest

Floats = NDArray[np.float64]
FOLDS = 5
# Fewer events say nothing of what a remedy is worth.
FEWEST_EVENTS = 10
# Of whom less of the horizon was seen, an event would count too much.
LEAST_SEEN = 0.2
# The cheapest to do first: of two that are as good it is chosen.
ORDER: tuple[RemedyName, ...] = ("recalibrate", "set the threshold", "retrain")
# One release in twenty of a version that is worth as much as the one before may ever be called worse.
EVER = 0.05
# The confidence sequence is narrowest at about so many entities.
NARROWEST_AT = 1_000


@dataclass(frozen=True)
class Fit:
    """A remedy that needs no training, fitted to all rows that it was judged on.

    Attributes:
        hazard_ratio: So many times as many events come as scores foretell; 1 where scores stay.
        threshold: To act from, 0 to 1.
        since: From when on events were counted.
        ratio: These.
    """

    hazard_ratio: float
    threshold: float
    since: datetime
    ratio: Ratio


@dataclass(frozen=True)
class Worth:
    """A remedy's gain over the decisions that were made, for 1,000 predictions."""

    remedy: RemedyName
    metric: Metric
    differences: Floats
    """Of each prediction, shape (n,)."""
    entity: NDArray[np.int64]
    """A whole number for each prediction's entity, shape (n,)."""
    currency: str
    fit: Fit | None = None
    """None where it has to be trained."""

    @property
    def sentence(self) -> str:
        """What it would have been worth, in words."""
        metric = self.metric
        return (
            f"it would have been worth {metric.value:+,.0f} {self.currency} for 1,000 predictions, 95% "
            f"{metric.low:+,.0f} to {metric.high:+,.0f}"
        )

    def gain(self) -> Gain:
        """As it is written down."""
        return Gain(remedy=self.remedy, per_1000=self.metric)


def worth_of_remedies(
    found: Followed, costs: Costs, features: pd.DataFrame | None, seed: int, since: datetime
) -> list[Worth]:
    """Score what was decided, and what each remedy would have decided, by the project's costs.

    `recalibrate`: scores as high as events are, acted upon from where it pays. `set the threshold`: the scores as they
    are, acted upon from where it would have paid. `retrain`: besides, how many more or fewer events come is learned
    from the features, from these rows alone; so it is worth this much at the least.

    Args:
        found: Predictions at risk since a moment, of one version.
        costs: What decisions are worth.
        features: The features of each, in its order; None where they are not known.
        seed: Of what is learned.
        since: That moment.

    Returns:
        In the order of ORDER; none where too few events are known.
    """
    seen = seen_enough(found)
    features = None if features is None else features[seen].reset_index(drop=True)
    found = found.of(seen)
    if found.observed.sum() < FEWEST_EVENTS:
        return []
    label = probable_label(found)
    score = found.rows["score"].to_numpy(np.float64)
    entity = found.rows["entity"].astype(str)
    fold = entity.map(lambda name: zlib.crc32(name.encode()) % FOLDS).to_numpy()
    pays = break_even(costs)
    acted: dict[RemedyName, NDArray[np.bool_]] = {
        remedy: np.zeros(len(label), dtype=bool) for remedy in ORDER if remedy != "retrain" or features is not None
    }
    for number in range(FOLDS):
        held, kept = fold == number, fold != number
        if not held.any() or not found.observed[kept].any():
            continue
        ratio = found.observed[kept].sum() / found.expected[kept].sum()
        acted["recalibrate"][held] = probability(found, ratio, held) >= pays
        acted["set the threshold"][held] = score[held] >= threshold_of(label[kept], score[kept], costs)
        if features is not None:
            ratios = learned_ratio(features, score, found, kept, held, seed)
            acted["retrain"][held] = probability(found, ratios, held) >= pays
    counted = found.ratio
    fits: dict[RemedyName, Fit] = {
        "recalibrate": Fit(counted.value, min(pays, 1.0), since, counted),
        "set the threshold": Fit(1.0, threshold_of(label, score, costs), since, counted),
    }
    return [replace(worth_of(remedy, found, those, costs), fit=fits.get(remedy)) for remedy, those in acted.items()]


def threshold_of(label: Floats, score: Floats, costs: Costs) -> float:
    """The score from which on acting would have paid."""
    return best_threshold(label, score.astype(np.float32), ThresholdRule.cost, costs)


def worth_of_version_before(found: Followed, acted: NDArray[np.bool_], costs: Costs) -> Worth | None:
    """What the decisions of the version before would have been worth, beside those that were made.

    It is asked anew in each window, so that its interval holds for all of them at once: a confidence sequence, over
    entities (Waudby-Smith and others 2024; `uncertainty/sequential.py`).

    Args:
        found: Predictions of the version that took over, since it did.
        acted: Whom the version before would have acted upon, shape (n,).
        costs: What decisions are worth.

    Returns:
        None where too few are known whom the two decide otherwise about: fewer than have FEWEST_EVENTS events between
            them where the decision makes no difference.
    """
    seen = seen_enough(found)
    found, acted = found.of(seen), acted[seen]
    otherwise = acted != found.rows["decision"].eq(True).to_numpy()
    if otherwise.sum() * break_even(costs) < FEWEST_EVENTS:
        return None
    worth = worth_of("roll back", found, acted, costs)
    test = MeanTest()
    test.add(entity_sums(worth.differences[:, None], worth.entity)[:, 0])
    rows = len(worth.differences)
    reach = 1000 * test.radius(EVER, NARROWEST_AT) * test.count / rows
    value = worth.metric.value
    return replace(worth, metric=Metric(value, value - reach, value + reach, rows))


def seen_enough(found: Followed) -> NDArray[np.bool_]:
    """Of whom enough of the horizon was seen to judge a decision by, shape (n,)."""
    seen: NDArray[np.bool_] = found.planned / found.whole >= LEAST_SEEN
    return seen


def probable_label(found: Followed) -> Floats:
    """The label of each, an event counting for the part of the horizon that is not seen yet, too, shape (n,)."""
    events = found.observed * np.maximum(found.whole / found.planned, 1.0)
    return 1 - events if found.absence else events


def worth_of(remedy: RemedyName, found: Followed, acted: NDArray[np.bool_], costs: Costs) -> Worth:
    """What other decisions would have been worth, less those that were made.

    Args:
        remedy: What would have led to them.
        found: Predictions of which enough was seen.
        acted: Whom to act upon, shape (n,).
        costs: What decisions are worth.
    """
    label, made = probable_label(found), found.rows["decision"].eq(True).to_numpy()
    # What each adds to the mean over all whom they stand for.
    share = found.weight / found.weight.mean()
    differences = share * (decision_values(label, acted, costs) - decision_values(label, made, costs))
    entity = pd.factorize(found.rows["entity"].astype(str))[0].astype(np.int64)
    return Worth(remedy, _per_1000(differences, entity), differences, entity, costs.currency)


def learned_ratio(
    features: pd.DataFrame,
    score: Floats,
    found: Followed,
    kept: NDArray[np.bool_],
    held: NDArray[np.bool_],
    seed: int,
) -> Floats:
    """Observed over expected events as a function of features and score, by boosted trees with Poisson loss.

    Shrunk to the ratio of all rows as a count of ten events would (a gamma prior), so that few events tell little.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    inputs = features.assign(_score=score)
    for name in inputs.columns:
        if inputs[name].dtype == object:
            inputs[name] = inputs[name].astype("category").cat.codes.astype(np.float64)
    overall = found.observed[kept].sum() / found.expected[kept].sum()
    trees = HistGradientBoostingRegressor(
        loss="poisson", max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=40, random_state=seed
    )
    weight = found.expected[kept]
    enough = weight > 0
    # So few rows are learned from faster by one thread than by several that wait for each other.
    with threadpool_limits(1):
        trees.fit(
            inputs[kept][enough].to_numpy(np.float64),
            found.observed[kept][enough] / weight[enough],
            sample_weight=weight[enough] / weight[enough].mean(),
        )
        predicted = trees.predict(inputs[held].to_numpy(np.float64))
    events = found.observed[kept].sum()
    shrunk: Floats = (events * predicted + FEWEST_EVENTS * overall) / (events + FEWEST_EVENTS)
    return shrunk


def probability(found: Followed, ratio: float | Floats, rows: NDArray[np.bool_]) -> Floats:
    """The label's probability where so many times as many events come as the scores foretell."""
    none: Floats = np.exp(-ratio * found.whole[rows])
    return none if found.absence else 1 - none


def choose(worths: Sequence[Worth]) -> Worth | None:
    """The remedy that pays: of those whose gain is above zero beyond chance, the cheapest to do that is not worse
    than the best beyond chance; None where none is."""
    paying = [worth for worth in worths if worth.metric.low > 0]
    if not paying:
        return None
    best = max(paying, key=lambda worth: worth.metric.value)
    for worth in paying:
        if worth is best or _per_1000(best.differences - worth.differences, best.entity).low <= 0:
            return worth
    return best


def _per_1000(differences: Floats, entity: NDArray[np.int64]) -> Metric:
    mean = float(differences.mean())
    contributions = entity_sums(1000 * (differences - mean)[:, None] / len(differences), entity)
    return normal_interval(1000 * mean, contributions[:, 0], len(differences))
