"""Estimates that say how sure they are: performance before outcomes, and what acting changed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, precision_score, recall_score, roc_auc_score

from kfp_lifecycle.components.monitoring.join_outcomes.cbpe import NAMES, estimate_performance, figures
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.monitoring.treatment import treatment_effect

COSTS = Costs(saved=240, action=6)


def sample(seed: int, rows: int = 1_500) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Calibrated scores, rounded so that some are equal, and what became of them."""
    random = np.random.default_rng(seed)
    score = np.clip(np.round(random.beta(1, 9, rows), 3), 0.001, 0.999)
    return score, (random.random(rows) < score).astype(float), random


def test_its_figures_of_labels_are_scikit_learn_s() -> None:
    score, label, _ = sample(1)
    acted = score >= 0.2
    expected = [roc_auc_score(label, score), log_loss(label, score), precision_score(label, acted),
                recall_score(label, acted)]  # fmt: skip
    assert figures(score, acted, label[None, :])[0] == pytest.approx(expected)


def test_what_is_measured_later_lies_in_the_interval_as_often_as_it_says() -> None:
    inside = dict.fromkeys(NAMES, 0)
    for seed in range(40):
        score, label, _ = sample(seed, rows=500)
        nobody = np.zeros(len(score), dtype=bool)
        estimate = estimate_performance(score, score >= 0.2, nobody, label, 1_000 + seed)
        assert estimate is not None
        measured = figures(score, score >= 0.2, label[None, :])[0]
        for name, value in zip(NAMES, measured, strict=True):
            inside[name] += estimate.metrics[name].low <= value <= estimate.metrics[name].high
    # Of 40, fewer than 34 are less likely than 1 in 200 where 95% are inside.
    assert all(count >= 34 for count in inside.values()), inside


def test_it_says_how_wrong_it_was_where_scores_mean_something_else_by_now() -> None:
    score, _, random = sample(2, rows=4_000)
    doubled = (random.random(len(score)) < np.minimum(1, 2 * score)).astype(float)
    known = np.arange(len(score)) < 3_000
    estimate = estimate_performance(score, score >= 0.2, known, doubled, 0)
    assert estimate is not None
    assert (estimate.rows, estimate.judged_rows) == (1_000, 3_000)
    assert estimate.errors["precision"] > 0.2
    assert estimate.errors["log_loss"] > 0.05


def test_too_few_events_give_no_estimate_and_nothing_open_none_at_all() -> None:
    score = np.full(50, 0.01)
    few = estimate_performance(score, score > 1, np.zeros(50, dtype=bool), score, 0)
    assert few is not None
    assert (few.metrics, few.errors) == ({}, {})
    assert estimate_performance(score, score > 1, np.ones(50, dtype=bool), score, 0) is None


@pytest.mark.parametrize("saved", [0.0, 0.6])
def test_the_effect_of_acting_is_covered_and_none_is_seen_where_there_is_none(saved: float) -> None:
    covered, seen = 0, 0
    for seed in range(40):
        score, label, random = sample(seed)
        held_out = random.random(len(score)) < 0.2
        label[~held_out & (random.random(len(score)) < saved)] = 0
        effect = treatment_effect(score, label, ~held_out, held_out, np.arange(len(score)), COSTS, seed)
        assert effect is not None
        truth = saved * score[~held_out].mean()
        covered += effect.prevented.low <= truth <= effect.prevented.high
        seen += effect.prevented.low > 0
        assert effect.value_per_1000.low == pytest.approx(1000 * (240 * effect.prevented.low - 6))
    assert covered >= 36
    assert seen >= 27 if saved else seen <= 4


def test_bands_take_out_most_of_what_other_scores_of_the_held_out_would_feign() -> None:
    score, label, random = sample(3, rows=20_000)
    held_out = random.random(len(score)) < np.where(score > 0.1, 0.4, 0.05)
    effect = treatment_effect(score, label, ~held_out, held_out, np.arange(len(score)), COSTS, 0)
    assert effect is not None
    feigned = label[held_out].mean() - label[~held_out].mean()
    assert feigned > 0.04, "where nothing was done"
    assert abs(effect.prevented.value) < feigned / 2


def test_too_few_that_were_held_out_tell_nothing() -> None:
    score, label, _ = sample(4)
    held_out = np.arange(len(score)) < 19
    assert treatment_effect(score, label, ~held_out, held_out, np.arange(len(score)), COSTS, 0) is None
