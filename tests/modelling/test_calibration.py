"""Platt scaling holds where rows are few, separated, weighted or all alike, and refuses to turn a ranking round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import _sigmoid_calibration
from sklearn.linear_model import LogisticRegression

from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling.calibration import (
    ISOTONIC_GROUPS,
    NARROWEST_GROUP,
    Calibration,
    fit_calibration,
    fit_platt,
    maximum_likelihood,
)
from kfp_lifecycle.runtime.contract import ContractViolation

Floats = NDArray[np.float64]


def logistic(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def logit(score: Any) -> Any:
    return np.log(score) - np.log1p(-np.asarray(score))


def sample(rows: int, seed: int, slope: float = 1.0) -> tuple[Floats, NDArray[np.int8]]:
    """Scores, and labels whose log-odds are `slope` times theirs; both classes are there."""
    random = np.random.default_rng(seed)
    value = random.normal(-1.0, 1.5, rows)
    label = (random.random(rows) < logistic(slope * value)).astype(np.int8)
    label[:2] = (0, 1)
    return logistic(value), label


def test_ten_separated_positives_do_not_make_a_score_certain() -> None:
    random = np.random.default_rng(0)
    score = np.concatenate([random.uniform(0.05, 0.4, 90), random.uniform(0.6, 0.95, 10)])
    label = np.repeat([0, 1], [90, 10]).astype(np.int8)
    found = fit_calibration(Method.sigmoid, score, label)
    assert 0 < found.slope < 4
    # Ten events of ten are 11 of 12 under a uniform prior; the highest may be somewhat above that mean.
    assert 0.75 < found.apply(np.array([0.9]))[0] < 0.99
    assert found.apply(score).mean() == pytest.approx(label.mean(), abs=1e-9)


@pytest.mark.parametrize("rows", [12, 40, 300, 5000])
def test_the_slope_is_that_of_scikit_learns_platt_scaling(rows: int) -> None:
    score, label = sample(rows, seed=rows)
    slope, _ = fit_platt(logit(score), label, np.ones(rows))
    negative, _ = _sigmoid_calibration(logit(score), label)
    assert slope == pytest.approx(-negative, rel=1e-3)


def test_maximum_likelihood_is_that_of_scikit_learn() -> None:
    score, label = sample(400, seed=3)
    weight = np.random.default_rng(1).uniform(0.2, 3, 400)
    target = np.where(label == 1, 0.9, 0.2)
    found = maximum_likelihood(logit(score), target, weight)
    # A row with a target between is a row of each class, by as much.
    inputs, labels = np.tile(logit(score), 2)[:, None], np.repeat([1, 0], 400)
    both = np.concatenate([weight * target, weight * (1 - target)])
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(inputs, labels, sample_weight=both)
    assert found == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=1e-5)


def test_at_small_samples_it_is_nearer_to_the_truth_than_maximum_likelihood() -> None:
    """The mean divergence from the truth (Kullback and Leibler), over samples of 24 rows whose scores are true."""
    ours, theirs = [], []
    truth = logistic(np.linspace(-5, 3, 200))
    for seed in range(150):
        score, label = sample(24, seed)
        try:
            found = fit_calibration(Method.sigmoid, score, label)
        except ContractViolation:
            continue
        slope, intercept = maximum_likelihood(logit(score), label.astype(float), np.ones(24))
        for fitted, into in ((found, ours), (Calibration(Method.sigmoid, slope, intercept), theirs)):
            given = np.clip(fitted.apply(truth), 1e-9, 1 - 1e-9)
            into.append((truth * np.log(truth / given) + (1 - truth) * np.log((1 - truth) / (1 - given))).mean())
    assert len(ours) > 100
    assert np.mean(ours) < 0.9 * np.mean(theirs)


def test_at_large_samples_it_finds_the_truth() -> None:
    score, label = sample(200_000, seed=1, slope=0.5)
    found = fit_calibration(Method.sigmoid, score, label)
    assert (found.slope, found.intercept) == pytest.approx((0.5, 0), abs=0.02)


def test_a_calibration_that_would_turn_the_ranking_round_is_refused() -> None:
    score, label = sample(300, seed=2, slope=-1.0)
    with pytest.raises(ContractViolation, match=r"300 calibration rows, .* higher scores go with fewer events"):
        fit_calibration(Method.sigmoid, score, label)


def test_one_score_for_all_becomes_the_share_of_events() -> None:
    label = np.repeat([0, 1], [75, 25]).astype(np.int8)
    found = fit_calibration(Method.sigmoid, np.full(100, 0.3), label)
    assert found.apply(np.array([0.3]))[0] == pytest.approx(0.25)
    assert found.slope == 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_size_of_weights_says_nothing_and_heavy_rows_are_few_rows(scale: float) -> None:
    score, label = sample(60, seed=4)
    heavy = np.where(np.arange(60) % 6 == 0, 50.0, 0.5)
    found, plain = (fit_calibration(Method.sigmoid, score, label, weight) for weight in (scale * heavy, heavy))
    assert (found.slope, found.intercept) == pytest.approx((plain.slope, plain.intercept), rel=1e-9)
    alone = fit_calibration(Method.sigmoid, score[::6], label[::6])
    assert found.slope == pytest.approx(alone.slope, rel=0.35)
    assert np.average(found.apply(score), weights=heavy) == pytest.approx(np.average(label, weights=heavy), abs=1e-9)


def test_isotonic_steps_are_no_steeper_than_32_bits_can_follow() -> None:
    random = np.random.default_rng(0)
    score = np.sort(np.concatenate([0.2 + random.uniform(0, 1e-6, 500), random.random(500)]))
    label = (random.random(1000) < 0.5).astype(np.int8)
    found = fit_calibration(Method.isotonic, score, label)
    scores = np.array(found.knots)[:, 0]
    assert (np.diff(scores) > NARROWEST_GROUP * scores[1:]).all()
    assert len(scores) <= ISOTONIC_GROUPS
