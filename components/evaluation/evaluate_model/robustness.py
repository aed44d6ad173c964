"""Robustness of the ranking to outages, noise, new values and stale features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.titles import title_of
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part, model_inputs
from kfp_lifecycle.modelling.scoring import Feed
from kfp_lifecycle.runtime.contract import ContractViolation

# Features that are missing together, the most harmful ones.
MISSING_TOGETHER = 3
# Share of single values that are missing, or outside what training saw, by chance.
SHARE_BROKEN = 0.1
# Noise of numbers, in standard deviations of the training rows.
SMALL_NOISE, LARGE_NOISE = 0.1, 0.5
UNSEEN = "\N{REPLACEMENT CHARACTER} unseen"
# More disturbances are not told apart at this size.
TOLD = 15


class Disturbances:
    """Disturbed copies of the rows, and what each costs.

    Attributes:
        drops: Loss of ROC AUC by what was disturbed.
    """

    def __init__(self, sample: Sample) -> None:
        """Note the undisturbed rows."""
        self.sample, self.findings = sample, Findings()
        self.feed = sample.scorer.feed(sample.part.features)
        self.drops: dict[str, Metric] = {}

    def drop(self, name: str, changed: Feed, metric: str = "") -> None:
        """Score the rows with some tensors in place of theirs; `metric` is `robustness.<metric>_auc_drop`."""
        score = checked_scores(self.sample, {**self.feed, **changed}, name)
        self.drops[name] = self.sample.whole.less(self.sample.area(score))
        if metric:
            self.findings.metrics[f"robustness.{metric}_auc_drop"] = self.drops[name]

    def without(self, name: str, features: Sequence[str], metric: str = "") -> float:
        """Score the rows with some features missing everywhere; the loss."""
        self.drop(name, {feature: without_value(self.feed[feature]) for feature in features}, metric)
        return self.drops[name].value


def examine_robustness(
    sample: Sample, train: pd.DataFrame, before: pd.DataFrame, entity: str, views: Mapping[str, Sequence[str]]
) -> Findings:
    """Score disturbed copies of the rows.

    Args:
        sample: The test rows; where they are more than `evaluation.disturbed_rows`, as many are chosen by entity.
        train: The model's inputs in training: the range that it knows.
        before: Rows of earlier snapshots, as the training set holds them: what stale features would be.
        entity: Column of the entity key.
        views: Features by the view that gives them: what goes missing together when a view is not filled.
    """
    sample = some_of(sample)
    disturbed = Disturbances(sample)
    findings, feed, drops = disturbed.findings, disturbed.feed, disturbed.drops
    random = np.random.default_rng(sample.seed)
    examine_missing(disturbed, views)
    holes = {name: with_holes(values, random) for name, values in feed.items()}
    disturbed.drop(f"{SHARE_BROKEN:.0%} of values missing", holes, "missing_values")

    numbers = {
        name: train[name].to_numpy(dtype=np.float64) for name, kind in sample.features.items() if kind == "numeric"
    }
    numbers = {name: values for name, values in numbers.items() if np.isfinite(values).any()}
    categories = [name for name, kind in sample.features.items() if kind == "categorical"]
    if numbers:
        for scale, called, metric in ((SMALL_NOISE, "small", "noise"), (LARGE_NOISE, "large", "large_noise")):
            noisy = {name: with_noise(feed[name], known, scale, random) for name, known in numbers.items()}
            disturbed.drop(f"{called} noise, in range", noisy, metric)
        outside = {name: outside_range(feed[name], known, random) for name, known in numbers.items()}
        disturbed.drop(f"{SHARE_BROKEN:.0%} of numbers out of range", outside, "outside_range")
    if categories:
        unseen = {name: np.full_like(feed[name], UNSEEN) for name in categories}
        disturbed.drop("unseen categories", unseen, "unseen_category")
    stale = stale_features(sample, before, entity)
    if stale is None:
        findings.notes.append(
            "robustness.stale_features_auc_drop was not measured: too few entities are in an earlier snapshot too."
        )
    else:
        rows, features, days = stale
        fresh = sample.area(sample.score, rows)
        score = sample.score.copy()
        score[rows] = checked_scores(sample, sample.scorer.feed(features), "stale features")
        drops[f"features {days:.0f} days older"] = fresh.less(sample.area(score, rows))
        findings.metrics["robustness.stale_features_auc_drop"] = drops[f"features {days:.0f} days older"]

    drops = dict(sorted(drops.items(), key=lambda item: -item[1].value))
    findings.table(
        "robustness",
        "What disturbances cost",
        ["disturbance", "loss of AUC", "low", "high", "rows"],
        [[name, metric.value, metric.low, metric.high, metric.rows] for name, metric in list(drops.items())[:TOLD]],
    )
    findings.figures["robustness_drops"] = plots.interval_plot("What disturbances cost", "loss of AUC", drops, mark=0)
    return findings


def examine_missing(disturbed: Disturbances, views: Mapping[str, Sequence[str]]) -> None:
    """What is lost without a feature, without the most harmful ones together, without all of a view.

    Args:
        disturbed: The rows.
        views: Features by the view that gives them; one of a single feature says no more than that.
    """
    metrics, notes = disturbed.findings.metrics, disturbed.findings.notes
    titles = {name: title_of(name, disturbed.sample.titles) for name in disturbed.sample.examined}
    harm = {name: disturbed.without(f"{title} missing", [name]) for name, title in titles.items()}
    harmful = sorted(harm, key=lambda name: -harm[name])
    worst = titles[harmful[0]]
    metrics["robustness.worst_missing_feature_auc_drop"] = disturbed.drops[f"{worst} missing"]
    notes.append(f"The ranking suffers most when {worst} is missing: AUC falls by {harm[harmful[0]]:.3f}.")
    together = harmful[:MISSING_TOGETHER]
    if len(together) < len(harmful):
        lost = disturbed.without(f"the {MISSING_TOGETHER} most harmful missing", together, "three_missing_features")
        notes.append(f"With {', '.join(titles[name] for name in together)} missing together AUC falls by {lost:.3f}.")
    names = {view: f"all of {view} missing" for view, features in views.items() if len(features) > 1}
    losses = {view: disturbed.without(name, views[view]) for view, name in names.items()}
    if losses:
        worst = max(losses, key=lambda view: losses[view])
        metrics["robustness.worst_missing_view_auc_drop"] = disturbed.drops[names[worst]]
        notes.append(
            f"Of the feature views {worst} is needed most: without its {len(views[worst])} features AUC falls by "
            f"{losses[worst]:.3f}."
        )


def some_of(sample: Sample) -> Sample:
    """The rows that are scored again and again: all, or so many of them as the settings allow, by entity."""
    share = sample.settings.disturbed_rows / sample.rows
    if share >= 1:
        return sample
    chosen = np.random.default_rng(sample.seed).permutation(sample.entities) < share * sample.entities
    rows = np.flatnonzero(chosen[sample.entity])
    part = Part(
        sample.part.frame.iloc[rows].reset_index(drop=True),
        sample.part.features.iloc[rows].reset_index(drop=True),
        sample.part.label[rows],
        sample.part.entity[rows],
    )
    return replace(sample, part=part, score=sample.score[rows], entity=sample.entity[rows])


def checked_scores(sample: Sample, feed: Feed, what: str) -> NDArray[np.float32]:
    """Scores of disturbed rows.

    Raises:
        ContractViolation: one is no probability: a server would answer with it.
    """
    score = sample.scorer.run(feed)
    wrong = int((~((score >= 0) & (score <= 1))).sum())
    if wrong:
        raise ContractViolation(
            f"With {what} the model scores {wrong:,} of {len(score):,} rows with no probability, and its server would "
            "answer with that. Choose another estimator, or bound the features in their views."
        )
    return score


def without_value(values: NDArray[Any]) -> NDArray[Any]:
    """The tensor of a feature that is missing everywhere."""
    return np.full_like(values, np.nan) if values.dtype == np.float32 else np.full_like(values, "")


def with_holes(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """The tensor of a feature that is missing in some rows, chosen by chance."""
    return np.where(random.random(values.shape) < SHARE_BROKEN, without_value(values), values)


def with_noise(
    values: NDArray[np.float32], known: NDArray[np.float64], scale: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """The tensor of a number that is measured less exactly, by normal noise, but never outside what training saw.

    Args:
        values: The tensor.
        known: The training rows' values.
        scale: Of the noise, in standard deviations of `known`.
        random: Draws it.
    """
    noisy = values + random.normal(0, np.nanstd(known) * scale, values.shape)
    # Rows that were outside already stay where they are.
    low, high = np.fmin(np.nanmin(known), values), np.fmax(np.nanmax(known), values)
    return np.clip(noisy, low, high).astype(np.float32)


def outside_range(
    values: NDArray[np.float32], known: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float32]:
    """The tensor of a number of which some, by chance, lie a standard deviation below or above what training saw."""
    low, high, deviation = np.nanmin(known), np.nanmax(known), np.nanstd(known)
    outside = np.where(random.random(values.shape) < 0.5, low - deviation, high + deviation)
    return np.where(random.random(values.shape) < SHARE_BROKEN, outside, values).astype(np.float32)


def stale_features(
    sample: Sample, before: pd.DataFrame, entity: str
) -> tuple[NDArray[np.int64], pd.DataFrame, float] | None:
    """The features that each entity had at the snapshot before: what is served when an update fails.

    Returns:
        Positions of the test rows that have an earlier one, its features, and the median age in days; None where
        either class has fewer than two of them.
    """
    frame = sample.part.frame
    now = pd.DataFrame({entity: frame[entity], TIMESTAMP: frame[TIMESTAMP], "row": np.arange(sample.rows)})
    then = pd.concat([before, frame], ignore_index=True)
    then = then.assign(then=then[TIMESTAMP]).sort_values(TIMESTAMP, kind="stable")
    joined = pd.merge_asof(
        now.sort_values(TIMESTAMP, kind="stable"),
        then,
        on=TIMESTAMP,
        by=entity,
        allow_exact_matches=False,
        suffixes=("", "_"),
    ).dropna(subset="then")
    rows = joined["row"].to_numpy(dtype=np.int64)
    events = int(sample.label[rows].sum())
    if min(events, len(rows) - events) < 2:
        return None
    days = (joined[TIMESTAMP] - joined["then"]).dt.total_seconds().median() / 86_400
    return rows, model_inputs(joined, sample.scorer.features, "earlier snapshots"), float(days)
