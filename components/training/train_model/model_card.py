"""Model card of a training: what the model is for, learned from and rests on. What it is worth is measured later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.model_card import CardSection, ModelCard
from kfp_lifecycle.artifacts.titles import title_and_name, title_of
from kfp_lifecycle.components.training.train_model.fitting import TrainedModel
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.training import ClassWeight, ThresholdRule
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.decisions import costs_suffice
from kfp_lifecycle.reports.model_card import write_card

MOST_FEATURES = 12


def write_model_card(
    folder: Path,
    configuration: Configuration,
    training_set: TrainingSet,
    model: TrainedModel,
    description: Model,
    plots: Mapping[str, str],
) -> None:
    """Write `model_card.json`, `model_card.md`, `model_card.html` and `plots/<name>.svg` into a model folder.

    Args:
        folder: The model folder.
        configuration: Of the project.
        training_set: What the model learned from.
        model: The model.
        description: What `model.json` says.
        plots: Each an `<svg>` element.
    """
    (folder / "plots").mkdir()
    for name, picture in plots.items():
        (folder / "plots" / f"{name}.svg").write_text(picture, "utf-8")
    sections = card_sections(configuration, training_set, model, description)
    write_card(folder, ModelCard(title=configuration.title, sections=sections))


def card_sections(
    configuration: Configuration, training_set: TrainingSet, model: TrainedModel, description: Model
) -> list[CardSection]:
    """What the card says, in order."""
    return [
        _purpose(configuration),
        _data(configuration, training_set, model),
        _performance(model, description),
        _decisions(configuration, model),
        _reasons(description),
        _limits(configuration, training_set, model),
        _origin(description),
    ]


def _section(
    heading: str, sentences: Sequence[str], table: Sequence[Sequence[str]] = (), plots: Sequence[str] = ()
) -> CardSection:
    return CardSection(
        heading=heading, sentences=list(sentences), table=[list(row) for row in table], plots=list(plots)
    )


def _purpose(configuration: Configuration) -> CardSection:
    sentences = [
        configuration.description,
        f"It gives each {configuration.entity.name} the probability that it {configuration.label.title}, from what is "
        "known at the moment of asking.",
        f"Judged and meant for the population of {configuration.label.source}; for anyone else it is untested.",
    ]
    return _section("Purpose", [sentence for sentence in sentences if sentence])


def _data(configuration: Configuration, training_set: TrainingSet, model: TrainedModel) -> CardSection:
    rows = [("part", "snapshots" if training_set.by_time else "divided", "rows", "events")]
    kept, description = model.kept, training_set.description
    scores_stay = kept is not None and kept.scores_stay
    by_costs = costs_suffice(configuration.training) and not scores_stay
    for name, use in (
        ("train", "trained on" if kept is None else "trained what it is compared with"),
        ("validation", "measured below" if by_costs else "set the threshold"),
        ("calibration", "not used" if scores_stay else "calibrated"),
        ("test", "kept for the evaluation"),
    ):
        part = model.parts[name]
        dates = sorted({f"{moment:%Y-%m-%d}" for moment in part.frame["event_timestamp"].unique()})
        if not training_set.by_time:
            dates = [{"random": "at random", "group": "by group"}[description.split]]
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]} ({len(dates)})"
        rows.append((f"{name}: {use}", span, f"{len(part.label):,}", f"{part.label.mean():.1%}"))
    news = "what is new is trained on" if description.learns_from_change else "it is fitted to what is new"
    sentences = [
        *([] if kept is None else model.notes),
        f"{len(training_set.features)} features of the feature service {description.feature_service}. "
        + (
            f"A label is known {configuration.label.horizon_days} days after its snapshot; "
            + (
                f"the dates from {divided} on, after a change, are divided by {configuration.entity.name}, so that "
                f"{news}, and how it does in later months is not known."
                if (divided := description.divided_since)
                else "what was trained on was known before the first later part begins."
            )
            if training_set.by_time
            else "The rows were not divided by time: no part is later than another, and how it does in later months is "
            "not known."
        ),
    ]
    return _section("Data", sentences, rows)


def _performance(model: TrainedModel, description: Model) -> CardSection:
    label, score = model.parts["validation"].label, model.validation_score
    auc = roc_auc_score(label, score)
    rows = [("model", "ROC AUC"), (description.estimator.rpartition(".")[2], f"{auc:.3f}")]
    rows += [(name, f"{value:.3f}") for name, value in description.baseline_auc.items()]
    sentences = [
        f"On the validation part: average precision {average_precision_score(label, score):.3f} "
        f"(chance {label.mean():.3f}), Brier score {brier_score_loss(label, score):.4f}. The run's report has the "
        "evaluation on rows that decided nothing, with intervals, fairness and robustness."
    ]
    return _section("Performance", sentences, rows, ("roc", "precision_recall", "learning_curve"))


def _decisions(configuration: Configuration, model: TrainedModel) -> CardSection:
    training, costs = configuration.training, configuration.training.costs
    scores_stay = model.kept is not None and model.kept.scores_stay
    by_costs = costs_suffice(training) and not scores_stay
    pays = "where acting begins to pay" if by_costs else "where the decisions are worth the most"
    by = {
        ThresholdRule.cost: f"{pays}: {costs.action:g} {costs.currency} an action, "
        f"{costs.saved:g} for an event prevented, {costs.success_rate:.0%} of actions prevent it",
        ThresholdRule.f1: "where F1 is highest",
        ThresholdRule.balanced_accuracy: "where balanced accuracy is highest",
    }[training.threshold.by]
    acted = float((model.validation_score >= model.threshold).mean())
    weighted = f"Rows counted by {training.weight} in training and calibration. " if training.weight else ""
    weighted += "Both classes counted the same in training. " if training.class_weight is ClassWeight.balanced else ""
    calibrated = (
        "The calibration is as it was, of other days: its scores are no probabilities any more."
        if scores_stay
        else f"Scores are made probabilities by calibration ({training.calibration}), on rows that chose nothing else."
    )
    sentences = [
        f"{weighted}{calibrated}",
        f"It acts from a score of {model.threshold:.4f} on, {by}: {acted:.1%} of the validation rows.",
    ]
    return _section("Probabilities and decisions", sentences, (), ("calibration",))


def _reasons(description: Model) -> CardSection:
    rows = [("feature", "AUC lost when shuffled", "share of the splits' gain")]
    for item in description.importance[:MOST_FEATURES]:
        gain = "" if item.gain is None else f"{item.gain:.1%}"
        rows.append((title_and_name(item.feature, description.titles), f"{item.value:.4f}", gain))
    sentences = ["Features that tell the same share their importance: shuffling one leaves the other."]
    return _section("What the ranking rests on", sentences, rows, ("importance",))


def _limits(configuration: Configuration, training_set: TrainingSet, model: TrainedModel) -> CardSection:
    train = model.parts["train"].features
    missing = {item.name: _missing_share(train[item.name]) for item in training_set.features}
    most = max(missing, key=lambda name: missing[name])
    titles = training_set.titles
    sensitive = [title_of(name, titles) for name in training_set.sensitive if name in train.columns]
    sentences = [
        "It knows one event and none: two classes, no more. A category that it never saw, or seldom, counts as none "
        "of those it knows; a missing number is learned from or replaced by the median, as the estimator allows.",
        f"Most often missing in training: {title_of(most, titles)}, {missing[most]:.1%} of the rows.",
        f"Features older than {configuration.features.freshness_days} days count as missing.",
        f"Sensitive features that it reads: {', '.join(sensitive)}."
        if sensitive
        else "It reads none of the features that fairness is judged by.",
        *(model.notes if model.kept is None else []),
        *model.limited,
    ]
    return _section("Limits", sentences)


def _missing_share(column: Any) -> float:
    return float((column == "").mean() if column.dtype == object else column.isna().mean())


def _origin(description: Model) -> CardSection:
    origin, hardware = description.origin, description.origin.hardware
    changed, commit = origin.code.changed, origin.code.commit or "not known"
    rows = [
        ("what", "which"),
        ("pipeline run", origin.pipeline_run or "not known"),
        ("MLflow run", description.run_id),
        ("data version", origin.data.version),
        ("training set", origin.data.training_set),
        ("feature version", description.feature_version),
        ("commit", f"{commit}, and {len(changed)} changed files" if changed else commit),
        ("code", origin.code.digest),
        ("environment", f"{origin.environment.name} ({origin.environment.digest})".strip()),
        ("seed", str(description.seed)),
        ("machine", f"{hardware.cpu}, {hardware.cores} cores, {hardware.memory_gb} GB, {hardware.system}"),
        ("model.onnx, SHA-256", description.onnx_digest),
    ]
    return _section(
        "Origin", ["`lifecycle reproduce` with either run trains it again and compares, byte by byte."], rows
    )
