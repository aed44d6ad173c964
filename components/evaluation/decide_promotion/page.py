"""Verdict page for whoever answers for it: decision, rules, champion, quality, model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.evaluation import Evaluation
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.titles import title_of
from kfp_lifecycle.artifacts.verdict import Comparison, Judgement, Verdict, Window
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.reports.findings import QualityFindings, feature_findings, model_findings, quality_findings
from kfp_lifecycle.reports.formatting import words
from kfp_lifecycle.reports.geometry import IntervalBar, interval_bar
from kfp_lifecycle.reports.templates import KeyFigure, templates
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole

TEMPLATE = "verdict.html.j2"


def write_verdict_page(
    settings: Configuration, training_set: Path, model: Path, evaluation: Path, verdict_file: Path, report: Path
) -> Verdict:
    """Write the page, whole or not at all.

    Args:
        settings: Words for the page.
        training_set: The training set artifact.
        model: The candidate.
        evaluation: What was measured of it.
        verdict_file: What was decided of it.
        report: HTML file to write; it needs nothing else.

    Returns:
        The verdict.

    Raises:
        ContractViolation: the artifacts are not of one run, or a file is missing or does not hold what it should.
    """
    verdict = Verdict.read(verdict_file)
    origins = {Model.FILE: Model.read(model).run_id, Evaluation.FILE: Evaluation.read(evaluation).run_id}
    for file, run_id in origins.items():
        if run_id != verdict.run_id:
            raise ContractViolation(
                f"The verdict is about the model of run {verdict.run_id}, but {file} is of run {run_id}. "
                "Give the step the artifacts of one run."
            )
    page = verdict_page(settings, verdict, training_set, model, evaluation)
    write_whole(report, page)
    return verdict


def verdict_page(
    configuration: Configuration, verdict: Verdict, training_set: Path, model: Path, evaluation: Path
) -> str:
    """The page as one HTML document: no script, no network, all text escaped."""
    quality = quality_findings(evaluation)
    findings = model_findings(model, None)
    return (
        templates(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            configuration=configuration,
            verdict=verdict,
            sentence=_sentence(verdict),
            missed=_missed(verdict),
            figures=_figures(verdict, quality),
            rules=[(rule, _rule_bar(rule)) for rule in sorted(verdict.rules, key=_missed_first)],
            comparisons=_comparisons(verdict),
            quality=quality,
            features=feature_findings(training_set, configuration),
            model=findings,
            facts=_facts(configuration, verdict, Model.read(model)),
        )
    )


def _sentence(verdict: Verdict) -> str:
    """The first sentence without the decision, which stands beside it."""
    told = verdict.sentences[0].partition(": ")[2]
    return told[:1].upper() + told[1:]


def _missed(verdict: Verdict) -> list[str]:
    """What a rejected candidate does not meet."""
    if verdict.decision != "rejected":
        return []
    rules = [rule.sentence for rule in sorted(verdict.rules, key=_missed_first) if not rule.passed]
    champion = verdict.champion
    return [*rules, champion.sentence] if champion is not None and not champion.passed else rules


def _missed_first(rule: Judgement) -> int:
    return 1 if rule.waived or rule.set_aside else 2 if rule.passed else 0


def _rule_bar(rule: Judgement) -> IntervalBar | None:
    if rule.value is None:
        return None
    return interval_bar(rule.value, rule.low, rule.high, rule.min, rule.max)


def _comparisons(verdict: Verdict) -> list[tuple[Window, list[tuple[Comparison, IntervalBar | None]]]]:
    """The comparisons of each window, with their drawings."""
    champion = verdict.champion
    if champion is None:
        return []
    return [
        (window, [(item, _lead_bar(item)) for item in champion.comparisons if item.window == window.name])
        for window in champion.windows
    ]


def _lead_bar(comparison: Comparison) -> IntervalBar | None:
    if comparison.difference is None:
        return None
    demanded = comparison.margin if comparison.demand == "superiority" else -comparison.margin
    return interval_bar(comparison.difference, comparison.low, comparison.high, lowest=demanded)


def _figures(verdict: Verdict, quality: QualityFindings) -> list[KeyFigure]:
    met = sum(rule.passed and not rule.waived and not rule.set_aside for rule in verdict.rules)
    figures = [KeyFigure("Rules met", f"{met} of {len(verdict.rules)}", "of the gate")]
    if quality.auc is not None:
        figures.append(KeyFigure("ROC AUC", quality.auc.value, "on rows it has never seen"))
        if quality.auc.rows is not None:
            figures.append(KeyFigure("Judged on", quality.auc.rows, "rows"))
    champion = verdict.champion
    if champion is None:
        figures.append(KeyFigure("In production", "nothing yet", "the rules alone decide"))
    elif not champion.comparisons:
        figures.append(KeyFigure("In production", f"version {champion.version}", "could not be compared with"))
    else:
        lead = champion.comparisons[0]
        figures.append(KeyFigure(f"Lead over version {champion.version}", lead.difference, f"in {words(lead.metric)}"))
    return figures


def _facts(configuration: Configuration, verdict: Verdict, model: Model) -> list[tuple[str, Any]]:
    costs = configuration.training.costs
    facts = [
        ("Name", verdict.model),
        ("Predicts", f"how likely it is that a {configuration.entity.name} {configuration.label.title}"),
        ("Meant for", configuration.description),
        ("Acts", f"on scores from {model.threshold:.3f}"),
        (
            "Worth of a decision",
            f"{costs.saved:g} {costs.currency} for an event prevented, {costs.action:g} for an action; "
            f"{costs.success_rate:.0%} of actions prevent it",
        ),
        ("Estimator", model.estimator),
        ("Calibration", model.calibration.method),
        ("Features", f"{len(model.inputs)}, version {model.feature_version} of {model.feature_service}"),
        (
            "Fairness judged by",
            ", ".join(title_of(item.rpartition(":")[2], model.titles) for item in configuration.features.sensitive),
        ),
        ("Seed", model.seed),
        ("MLflow run", verdict.run_id),
        ("Decided", verdict.decided_at),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]
