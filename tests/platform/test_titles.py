"""Titles: what people call a feature is read everywhere, does no harm anywhere, and never takes the name's place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kfp_lifecycle.artifacts.drift import Explanations, Weight
from kfp_lifecycle.artifacts.model_card import CardSection
from kfp_lifecycle.artifacts.titles import is_named, slice_title, title_and_name, title_of
from kfp_lifecycle.config.features import Features
from kfp_lifecycle.config.problems import describe_error
from kfp_lifecycle.reports.formatting import metric_words
from kfp_lifecycle.reports.model_card import sections_as_html, sections_as_markdown

TITLES = {"nian_ling": "年龄", "groesse_cm": "Größe (cm)", "mr": "عمر", "x": "<script>alert(1)</script>|[a](b)"}


def test_a_column_is_called_by_its_title_and_one_without_by_its_name() -> None:
    assert [title_of(name, TITLES) for name in ("nian_ling", "age")] == ["年龄", "age"]
    assert [title_and_name(name, TITLES) for name in ("groesse_cm", "age")] == ["Größe (cm) [groesse_cm]", "age"]


def test_so_is_the_column_of_a_slice_and_of_a_metric() -> None:
    assert slice_title("nian_ling=q1", TITLES) == "年龄=q1"
    assert slice_title("nian_ling+groesse_cm", TITLES) == "年龄+Größe (cm)"
    assert slice_title("age=nian_ling", TITLES) == "age=nian_ling"
    assert metric_words("performance.roc_auc.nian_ling=q1", TITLES) == "ROC AUC 年龄=q1"
    assert metric_words("performance.roc_auc.age_band=q1", TITLES) == "ROC AUC age band=q1"


def test_what_is_written_from_right_to_left_turns_nothing_of_its_sentence() -> None:
    assert title_of("mr", TITLES) == "\u2068عمر\u2069"
    assert is_named(title_of("عمر", {}), "عمر")
    assert not is_named(title_of("mr", TITLES), "mr")


def test_monitoring_speaks_of_titles() -> None:
    weights = [Weight(column="nian_ling", title="年龄", before=0.1, after=0.4)]
    told = Explanations(distance=0.3, usual=None, rows=200, weights=weights).sentence
    assert told == "Scores rest on other features by 30.0%; most of all on 年龄: 10.0% → 40.0%."


def test_a_card_shows_a_title_and_lets_it_do_nothing() -> None:
    cell = title_and_name("x", TITLES)
    section = CardSection(heading="What it rests on", sentences=[f"Most often missing: {cell}."], table=[["f"], [cell]])
    page, text = (render("Model card", "churn", [section]) for render in (sections_as_html, sections_as_markdown))
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;|[a](b) [x]") == 2
    assert "<script" not in page + text
    assert "|&lt;script>alert(1)&lt;/script>\\|[a]\\(b) [x]|" in text


@pytest.mark.parametrize(
    ("titles", "told"),
    [
        ({"a": "one\nline"}, "a title is one line of text"),
        ({"a": " "}, "a title is one line of text"),
        ({"a": "turned \u202e"}, "a title is one line of text"),
        ({"a": "Größe", "b": "Größe"}, "titles calls 2 features 'Größe'"),
    ],
)
def test_a_title_that_is_none_or_that_two_features_share_is_refused(titles: Any, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Features(service="churn", titles=titles)
    detail = refused.value.errors()[0]
    assert told in describe_error(detail)
