"""Model card of an approved model: what it said after training, then measured limits, what was not tested, verdict."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.artifacts.evaluation import Evaluation, Metric
from kfp_lifecycle.artifacts.model_card import CardSection, ModelCard
from kfp_lifecycle.components.evaluation.decide_promotion.measured_card import complete_card
from kfp_lifecycle.reports.model_card import write_card
from tests.modelling.verdicts import verdict

MEASURED = Evaluation(
    run_id="a run",
    metrics={
        "performance.roc_auc": Metric(0.81234, 0.79, 0.83, 4000),
        "calibration.slope": Metric(1.02, 0.9, 1.1, 4000),
        "robustness.worst_slice_auc": Metric(0.7, 0.6, 0.8, 300),
        "fairness.true_positive_rate.plan=pro": Metric(0.5, 0.4, 0.6, 120),
    },
    notes=[
        "robustness.past_roc_auc was not measured: too few training rows of one class.",
        "It leans on <one> feature.",
    ],
    sections=[],
)


def trained(folder: Path) -> Path:
    """A model folder as the training leaves it, as far as its card goes."""
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "roc.svg").write_text("<svg><title>a curve</title></svg>")
    purpose = CardSection(heading="Purpose", sentences=["Gives `churn` a probability."], plots=["roc"])
    write_card(folder, ModelCard(title="Customers who leave", sections=[purpose]))
    return folder


def test_an_approved_model_carries_what_was_measured_not_tested_and_decided(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model")
    complete_card(folder, MEASURED, verdict())
    card = ModelCard.read(folder)
    assert [section.heading for section in card.sections] == [
        "Purpose",
        "Measured: performance",
        "Measured: calibration",
        "Measured: robustness",
        "Measured: fairness, by group",
        "What was not tested",
        "What stands out",
        "Verdict",
    ]
    by_heading = {section.heading: section for section in card.sections}
    assert by_heading["Measured: performance"].table[1] == ["roc auc", "0.8123", "0.79 to 0.83", "4,000"]
    assert by_heading["Measured: fairness, by group"].table[1][0] == "true positive rate.plan=pro"
    assert "too few training rows" in by_heading["What was not tested"].sentences[0]
    assert by_heading["What stands out"].sentences == ["It leans on <one> feature."]
    assert by_heading["Verdict"].sentences == ["Approved: leaving meets every rule."]


def test_markdown_and_page_say_the_same_and_escape_what_is_no_markup(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model")
    complete_card(folder, MEASURED, verdict())
    text, page = ((folder / f"model_card.{kind}").read_text("utf-8") for kind in ("md", "html"))
    for section in ModelCard.read(folder).sections:
        assert f"## {section.heading}" in text
        assert section.heading in page
    assert "|roc auc|0.8123|0.79 to 0.83|4,000|" in text
    assert "<svg><title>a curve</title></svg>" in page
    assert "&lt;one&gt;" in page
    assert "<code>churn</code>" in page
    assert "<script" not in page


def test_a_model_that_was_trained_elsewhere_gets_a_card_of_what_was_measured(tmp_path: Path) -> None:
    complete_card(tmp_path, MEASURED, verdict())
    card = ModelCard.read(tmp_path)
    assert (card.title, card.sections[0].heading) == ("leaving", "Measured: performance")
