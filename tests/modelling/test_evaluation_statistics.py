"""Every formula agrees with an independent computation, and its interval covers the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics

from kfp_lifecycle.components.evaluation.evaluate_model.calibration_error import (
    Reliability,
    calibration_errors,
    folded_normal_mean,
    recalibration,
    spiegelhalter,
)
from kfp_lifecycle.components.evaluation.evaluate_model.fairness import wilson
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.metrics import Performance
from kfp_lifecycle.uncertainty.area import area, newcombe_bound
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, interval, measure
from kfp_lifecycle.uncertainty.contributions import simultaneous, standard_error

COSTS = Costs(saved=240, action=15, success_rate=0.3)


def scores(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    # Rounded, so that many scores are equal.
    score = random.beta(1, 4, rows).round(2).astype(np.float32)
    return (random.random(rows) < score).astype(np.int8), score


def overconfident() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400 rows of 200 entities, scored too high; the figures beside each use come from other libraries."""
    random = np.random.default_rng(5)
    score = random.beta(1, 4, 400).round(2).astype(np.float32)
    label = (random.random(400) < score**1.3).astype(np.int8)
    assert label.sum() == 43
    return label, score, np.arange(400) // 2


class TestPerformance:
    def test_is_what_scikit_learn_says(self) -> None:
        label, score = scores()
        statistic = Performance(label, score, 0.25, COSTS)
        found = dict(zip(statistic.names, statistic(np.ones((1, len(label))))[0], strict=True))
        acted = score >= 0.25
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, acted))
        assert found["precision"] == pytest.approx(metrics.precision_score(label, acted))
        assert found["recall"] == pytest.approx(metrics.recall_score(label, acted))
        assert found["f1"] == pytest.approx(metrics.f1_score(label, acted))
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(label, score))
        assert found["average_precision"] == pytest.approx(metrics.average_precision_score(label, score))
        assert found["brier_score"] == pytest.approx(metrics.brier_score_loss(label, score))
        assert found["log_loss"] == pytest.approx(metrics.log_loss(label, score), rel=1e-3)
        worth = sum((72 if event else 0) - 15 for event, act in zip(label, acted, strict=True) if act)
        assert found["expected_value_per_1000"] == pytest.approx(1000 * worth / len(label))

    def test_weights_mean_repeated_rows(self) -> None:
        label, score = scores(300)
        weights = np.random.default_rng(1).integers(0, 4, 300)
        weighted = Performance(label, score, 0.25, COSTS)(weights[None, :].astype(float))
        repeated = Performance(label.repeat(weights), score.repeat(weights), 0.25, COSTS)(np.ones((1, weights.sum())))
        assert weighted == pytest.approx(repeated)

    @pytest.mark.parametrize("percent", [5, 10, 20])
    def test_lift_is_the_event_rate_at_the_top_over_the_event_rate(self, percent: int) -> None:
        random = np.random.default_rng(2)
        score = random.permutation(1000).astype(np.float32)
        label = (random.random(1000) < score / 1000).astype(np.int8)
        position = Performance.names.index(f"lift_at_{percent}_percent")
        found = Performance(label, score / 1000, 0.5, COSTS)(np.ones((1, 1000)))[0, position]
        assert found == pytest.approx(label[np.argsort(-score)[: 10 * percent]].mean() / label.mean())

    def test_equal_scores_at_the_limit_of_a_lift_count_in_part(self) -> None:
        label = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], dtype=np.int8)
        found = Performance(label, np.full(10, 0.5, dtype=np.float32), 0.5, COSTS)(np.ones((1, 10)))[0]
        assert found[Performance.names.index("lift_at_10_percent")] == pytest.approx(1)

    def test_replicates_are_the_same_however_they_are_computed(self) -> None:
        label, score = scores(300)
        bootstrap = Bootstrap(np.arange(300) // 2, 60, 0)
        statistic = Performance(label, score, 0.25, COSTS)
        assert statistic.replicate(bootstrap) == pytest.approx(bootstrap.replicate(statistic), nan_ok=True)


class TestBootstrap:
    def test_draws_as_many_entities_as_there_are(self) -> None:
        counts = Bootstrap(np.arange(500), 300, 0).counts
        assert (counts.sum(axis=1) == 500).all()
        # Drawn with replacement, a count has the variance of a binomial number: 1 - 1/500.
        assert counts.var() == pytest.approx(0.998, rel=0.02)

    def test_sums_each_entity_once_and_gives_the_same(self) -> None:
        values = np.random.default_rng(0).normal(size=(300, 2))
        bootstrap = Bootstrap(np.random.default_rng(1).integers(0, 80, 300), 50, 0)
        assert bootstrap.totals(values) == pytest.approx(bootstrap.replicate(lambda weights: weights @ values))

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        random = np.random.default_rng(4)
        covered = 0
        for seed in range(200):
            sample = random.exponential(size=(100, 1))
            bootstrap = Bootstrap(np.arange(100), 400, seed)
            found = interval(sample.mean(), bootstrap.totals(sample)[:, 0] / 100, 100)
            covered += found.low <= 1 <= found.high
        assert 180 <= covered <= 198

    def test_rows_that_repeat_an_entity_are_no_new_evidence(self) -> None:
        values = np.random.default_rng(0).normal(size=200)

        def width(entity: np.ndarray, values: np.ndarray) -> float:
            metric = measure(lambda weights: weights @ values / weights.sum(axis=1), Bootstrap(entity, 400, 0))
            return metric.high - metric.low

        assert width(np.tile(np.arange(200), 4), np.tile(values, 4)) == pytest.approx(width(np.arange(200), values))


class TestArea:
    def test_has_delongs_variance(self) -> None:
        label, score, _ = overconfident()
        found = area(label, score, np.arange(400), 400)
        # The package confidenceinterval 1.0.5, delong_roc_variance.
        assert found.value == pytest.approx(0.8606606, abs=1e-6)
        assert standard_error(found.contributions) ** 2 == pytest.approx(0.0007472759591, rel=1e-6)

    def test_has_the_variance_of_obuchowskis_clusters(self) -> None:
        label, score, entity = overconfident()
        found = area(label, score, entity, 200)
        positives, negatives = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
        wins = (score[positives][:, None] > score[negatives]) + 0.5 * (score[positives][:, None] == score[negatives])
        value = wins.mean()
        by_positive, by_negative = np.zeros(200), np.zeros(200)
        for row, mean in zip(positives, wins.mean(axis=1), strict=True):
            by_positive[entity[row]] += (mean - value) / len(positives)
        for row, mean in zip(negatives, wins.mean(axis=0), strict=True):
            by_negative[entity[row]] += (mean - value) / len(negatives)
        holders = len(np.unique(entity[positives])), len(np.unique(entity[negatives]))
        variance = (
            holders[0] / (holders[0] - 1) * (by_positive**2).sum()
            + holders[1] / (holders[1] - 1) * (by_negative**2).sum()
            + 2 * 200 / 199 * (by_positive * by_negative).sum()
        )
        assert found.value == pytest.approx(value)
        assert standard_error(found.contributions) ** 2 == pytest.approx(variance, rel=0.005)

    def test_agrees_with_the_bootstrap_in_the_difference_of_two_scores(self) -> None:
        label, score = scores(1500)
        other = (score + np.random.default_rng(6).normal(0, 0.2, 1500)).astype(np.float32)
        entity = np.arange(1500) // 3
        ours, theirs = (area(label, values, entity, 500) for values in (score, other))
        bootstrap = Bootstrap(entity, 1000, 0)
        position = Performance.names.index("roc_auc")
        replicates = [Performance(label, values, 0.5, COSTS).replicate(bootstrap) for values in (score, other)]
        spread = (replicates[0] - replicates[1])[:, position].std()
        assert standard_error(ours.contributions - theirs.contributions) == pytest.approx(spread, rel=0.1)

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        random = np.random.default_rng(7)
        covered = 0
        for _ in range(400):
            label = (np.arange(120) < 30).astype(np.int8)
            score = (label * 1.5 + random.normal(size=120)).astype(np.float32)
            found = area(label, score, np.arange(120), 120).metric()
            covered += found.low <= norm.cdf(1.5 / np.sqrt(2)) <= found.high
        assert 368 <= covered <= 394

    def test_of_a_perfect_ranking_is_not_taken_for_certain(self) -> None:
        label = (np.arange(20) < 8).astype(np.int8)
        found = area(label, label.astype(np.float32), np.arange(20), 20).metric()
        assert found.value == found.high == 1
        assert 0.7 < found.low < 0.9
        # The bound is where an area of 1 is 1.96 standard errors away.
        low = newcombe_bound(8, 12)
        error = low * (1 - low) * (1 + 9 * (1 - low) / (2 - low) + 9 * low / (1 + low)) / 96
        assert 1 - low == pytest.approx(1.96 * np.sqrt(error), rel=1e-3)

    def test_of_a_constant_score_is_exactly_a_half(self) -> None:
        found = area(np.array([0, 1, 0, 1]), np.full(4, 0.3), np.arange(4), 4).metric()
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


class TestSimultaneous:
    def test_many_independent_estimates_need_sidaks_distance(self) -> None:
        found = simultaneous(np.array([3.0, *np.zeros(19)]), np.eye(20), 0)
        assert found.critical == pytest.approx(norm.ppf((1 + 0.95 ** (1 / 20)) / 2), abs=0.06)
        assert found.p_values[0] == pytest.approx(1 - (1 - 2 * norm.sf(3)) ** 20, abs=0.01)

    def test_estimates_that_say_the_same_count_once(self) -> None:
        found = simultaneous(np.array([1.96, 0, 0]), np.ones((3, 3)), 0)
        assert found.critical == pytest.approx(1.96, abs=0.06)
        assert found.p_values[0] == pytest.approx(0.05, abs=0.01)


class TestCalibration:
    def test_errors_agree_with_a_plain_loop(self) -> None:
        label, score = scores()
        limits = sorted(set(np.quantile(score.astype(float), np.arange(1, 10) / 10)))
        groups: dict[int, list[int]] = {}
        for row, value in enumerate(score.astype(float)):
            groups.setdefault(sum(value > limit for limit in limits), []).append(row)
        gaps = [abs(label[rows].mean() - score[rows].astype(float).mean()) for rows in groups.values()]
        expected = sum(gap * len(rows) / len(label) for gap, rows in zip(gaps, groups.values(), strict=True))
        found = calibration_errors(Reliability(label, score), Bootstrap(np.arange(len(label)), 50, 0), "")
        assert found["calibration.expected_calibration_error"].value == pytest.approx(expected)
        assert found["calibration.maximum_calibration_error"].value == pytest.approx(max(gaps))

    def test_the_debiased_error_is_that_of_verified_uncertainty_calibration(self) -> None:
        label, score, _ = overconfident()
        found = calibration_errors(Reliability(label, score), Bootstrap(np.arange(400), 2000, 0), "")
        # The package uncertainty-calibration, plugin_ce and normal_debiased_ce with power 1 over the same groups.
        assert found["calibration.expected_calibration_error"].value == pytest.approx(0.076825)
        assert found["calibration.debiased_calibration_error"].value == pytest.approx(0.0711906, abs=0.001)

    def test_the_debiased_error_of_true_probabilities_is_nearer_to_nil(self) -> None:
        debiased, plain = [], []
        for seed in range(20):
            label, score = scores(1000, seed)
            found = calibration_errors(Reliability(label, score), Bootstrap(np.arange(1000), 100, seed), "")
            plain.append(found["calibration.expected_calibration_error"].value)
            debiased.append(found["calibration.debiased_calibration_error"].value)
        assert np.mean(debiased) < 0.7 * np.mean(plain)

    def test_folds_the_normal_distribution(self) -> None:
        drawn = np.abs(np.random.default_rng(0).normal(0.3, 0.5, 400_000))
        assert folded_normal_mean(np.array([0.3]), np.array([0.5]))[0] == pytest.approx(drawn.mean(), abs=0.003)
        assert folded_normal_mean(np.array([-0.3]), np.array([0.0]))[0] == 0.3

    def test_spiegelhalters_z_is_standard_normal_for_true_probabilities(self) -> None:
        found = []
        for seed in range(300):
            label, score = scores(300, seed)
            z = spiegelhalter(label, score, np.arange(300))
            assert z is not None
            found.append(z)
        assert np.mean(found) == pytest.approx(0, abs=0.2)
        assert np.std(found) == pytest.approx(1, abs=0.12)

    def test_slope_and_intercept_are_those_of_statsmodels(self) -> None:
        label, score, entity = overconfident()
        found = recalibration(label, score, entity)
        assert found is not None
        slope, intercept = found
        # statsmodels 0.15, Logit with cov_type "cluster" and no correction.
        assert slope.value == pytest.approx(1.84834686, rel=1e-3)
        assert intercept.value == pytest.approx(0.03148452, abs=2e-3)
        assert (slope.high - slope.low) / 2 / 1.959964 == pytest.approx(0.27806948, rel=5e-3)
        assert (intercept.high - intercept.low) / 2 / 1.959964 == pytest.approx(0.26259619, rel=5e-3)

    @pytest.mark.parametrize("score", [np.full(40, 0.3), np.where(np.arange(40) < 10, 0.9, 0.1)])
    def test_slope_of_equal_or_separating_scores_is_undefined(self, score: np.ndarray) -> None:
        assert recalibration((np.arange(40) < 10).astype(np.int8), score, np.arange(40)) is None


def test_wilsons_interval_is_that_of_statsmodels() -> None:
    # statsmodels 0.15, proportion_confint with method "wilson".
    assert wilson(7 / 40, 40) == pytest.approx((0.08745414, 0.31949990), abs=1e-7)
    assert wilson(0, 40) == pytest.approx((0, 0.08762160), abs=1e-7)
