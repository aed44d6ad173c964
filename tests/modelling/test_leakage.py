"""Leaks are named: one, several that mask each other, the label itself under another name; what only helps is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from kfp_lifecycle.artifacts.titles import Titles
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings
from kfp_lifecycle.components.evaluation.evaluate_model.leakage import event_rates, examine_leakage
from kfp_lifecycle.modelling.dataset import Part
from tests.modelling.test_evaluation_dimensions import logistic, normal, part_of, sample_of

ROWS = 3000


def search(columns: dict[str, NDArray[Any]], label: NDArray[Any], titles: Titles | None = None) -> Findings:
    """What is found in training rows with these features."""
    train: Part = part_of(columns, label.astype(np.int8), np.arange(len(label)))
    sample = sample_of(lambda feed: logistic(sum(feed.values())), {name: normal(200) for name in columns})
    sample = replace(sample, titles=titles or {})
    simple = make_pipeline(FunctionTransformer(np.nan_to_num), LogisticRegression(max_iter=5000))
    return examine_leakage(sample, train, simple, make_pipeline(HistGradientBoostingClassifier(max_iter=30)))


def weak_signals(
    seed: int = 0, rate: float = 0.3, strength: float = 0.35
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int8]]:
    """Three honest features with a ROC AUC of some 0.65 together, or more, and the label."""
    columns = {name: normal(ROWS, seed + number) for number, name in enumerate(("age", "visits", "spent"))}
    logit = strength * sum(columns.values()) + np.log(rate / (1 - rate))
    label = (np.random.default_rng(seed + 9).random(ROWS) < logistic(logit)).astype(np.int8)
    return columns, label


def noisy(label: NDArray[Any], scale: float, seed: int) -> NDArray[np.float32]:
    return (label + scale * normal(len(label), seed)).astype(np.float32)


def test_one_that_knows_more_than_all_the_others_is_named() -> None:
    columns, label = weak_signals()
    found = search({**columns, "refund": noisy(label, 0.6, 5)}, label)
    [suspect] = found.suspects
    assert suspect.feature == "refund"
    assert suspect.roc_auc.value > 0.8
    assert suspect.others < 0.75
    assert found.notes == [suspect.sentence]
    assert suspect.sentence.startswith("refund may leak the label: alone it ranks with ROC AUC 0.")
    assert found.metrics["performance.roc_auc_without_strongest_feature"].value < 0.75


def test_it_is_named_by_its_title_and_by_what_a_waiver_names() -> None:
    columns, label = weak_signals()
    found = search({**columns, "tui_kuan": noisy(label, 0.6, 5)}, label, titles={"tui_kuan": "退款"})
    assert found.suspects[0].sentence.startswith("退款 [tui_kuan] may leak the label: ")
    assert found.sections[0].rows[0][0] == "退款 [tui_kuan]"


@pytest.mark.parametrize("scales", [(0.4, 0.45), (0.3, 0.35, 0.5)])
def test_strong_ones_do_not_mask_each_other(scales: tuple[float, ...]) -> None:
    columns, label = weak_signals()
    leaks = {f"leak_{number}": noisy(label, scale, 20 + number) for number, scale in enumerate(scales)}
    found = search({**columns, **leaks}, label)
    assert {suspect.feature for suspect in found.suspects} == set(leaks)
    assert all(suspect.others < 0.75 for suspect in found.suspects)


def test_strong_ones_do_not_mask_each_other_beside_good_features() -> None:
    columns, label = weak_signals(strength=0.7)
    found = search({**columns, "letter": noisy(label, 0.38, 20), "ticket": noisy(label, 0.4, 21)}, label)
    assert {suspect.feature for suspect in found.suspects} == {"letter", "ticket"}
    # Less than half as far above chance, which was asked before, they would not be.
    assert all(0.75 < suspect.others < 0.82 for suspect in found.suspects)


@pytest.mark.parametrize(("event", "other"), [(9, 3), (0, 12)])
@pytest.mark.parametrize("rate", [0.3, 0.01])
def test_a_function_of_the_label_is_named_however_rare_the_event_is(event: int, other: int, rate: float) -> None:
    columns, label = weak_signals(3, rate)
    spread = np.where(label == 1, event, other + np.arange(ROWS) % 5).astype(np.float32)
    [suspect] = search({**columns, "months_left": spread}, label).suspects
    assert suspect.feature == "months_left"
    assert "it is as good as the label itself" in suspect.sentence


def test_two_copies_of_the_label_are_both_named() -> None:
    columns, label = weak_signals()
    found = search({**columns, "closed": label.astype(np.float32), "reason": 3 - label.astype(np.float32)}, label)
    assert {suspect.feature for suspect in found.suspects} == {"closed", "reason"}


def test_a_good_feature_without_any_other_is_none_and_a_copy_of_the_label_is_one() -> None:
    """There is nothing to compare it with."""
    _, label = weak_signals()
    assert search({"balance": noisy(label, 0.5, 5)}, label).suspects == []
    assert [suspect.feature for suspect in search({"paid": noisy(label, 0.1, 5)}, label).suspects] == ["paid"]


def test_features_that_share_what_they_know_are_none() -> None:
    x, y = normal(2000), normal(2000, 1)
    label = np.random.default_rng(0).random(2000) < logistic(2 * x + 2 * y)
    assert search({"x": x, "y": y}, label).suspects == []


def test_many_good_measures_of_one_thing_are_none() -> None:
    data = load_breast_cancer(as_frame=True)
    columns = {name: data.data[name].to_numpy(dtype=np.float32) for name in data.data}
    assert search(columns, 1 - data.target.to_numpy()).suspects == []


def test_groups_of_a_feature_have_the_event_rate_of_training() -> None:
    known = pd.Series(["a", "b", "a", ""], dtype=object)
    rates = event_rates(known, np.array([1, 0, 1, 0]), pd.Series(["a", "b", "", "new"]), "categorical")
    assert rates == pytest.approx([(2 + 10) / 22, 10 / 21, 10 / 21, 0.5])
    missing = event_rates(pd.Series([np.nan] * 4), np.array([1, 0, 1, 0]), pd.Series([1.0, np.nan]), "numeric")
    assert missing == pytest.approx([0.5, 0.5])
