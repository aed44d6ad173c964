"""SHAP explanations: what scores rest on, and the reasons of single ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pandas as pd
import shap
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.titles import Titles, title_and_name, title_of
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.modelling.attribution_export import typical_rows
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.calibration_graph import RawScorer
from kfp_lifecycle.modelling.estimator import encoded_columns
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.uncertainty.bootstrap import interval
from kfp_lifecycle.uncertainty.contributions import NORMAL_95

Floats = NDArray[np.float64]

# Rows whose reasons are told, those with the highest scores.
TOLD_ROWS = 3
REPLICATES = 200


@dataclass(frozen=True)
class Explanation:
    """Contributions of features to the uncalibrated score of some rows.

    Attributes:
        method: How they were computed, in words.
        scale: What they add up to: `log-odds` or `probability`.
        features: Names, in the order of the columns.
        contributions: Shape (n, features).
        base: The score of an average customer.
        output: What the model gives, shape (n,), to which base and contributions must add up.
        rows: What was explained: model inputs.
    """

    method: str
    scale: str
    features: list[str]
    contributions: Floats
    base: float
    output: Floats
    rows: pd.DataFrame

    def probabilities(self, calibration: Calibration, output: Floats) -> Floats:
        """The served probability for values on this scale."""
        return calibration.apply(1 / (1 + np.exp(-output)) if self.scale == "log-odds" else np.clip(output, 0, 1))


def explain(
    pipeline: Pipeline, features: list[Feature], inputs: pd.DataFrame, background: pd.DataFrame, seed: int
) -> Explanation:
    """Explain rows by the explainer that fits the estimator.

    Trees: TreeExplainer (Lundberg et al. 2020, "From local explanations to global understanding"), exact. Linear
    models: LinearExplainer, exact. Any other: PermutationExplainer against a sample of training rows.

    Args:
        pipeline: Encoder and estimator.
        features: The model's inputs.
        inputs: What to explain, n rows.
        background: Training rows, for explainers that compare with typical ones.
        seed: Chooses among them.
    """
    encoder, estimator = pipeline[0], pipeline[-1]
    matrix = np.asarray(encoder.transform(inputs), dtype=np.float64)
    typical = np.asarray(encoder.transform(typical_rows(background, seed)), dtype=np.float64)
    scale = "probability"
    output = estimator.predict_proba(matrix)[:, 1]
    if shap.explainers.Tree.supports_model_with_masker(estimator, None):
        method, explainer = "TreeExplainer, exact", shap.TreeExplainer(estimator)
        values, base = _of_event(explainer.shap_values(matrix, check_additivity=False), explainer.expected_value)
        margin = _log_odds(estimator, matrix)
        if margin is not None:
            scale, output = "log-odds", margin
    elif hasattr(estimator, "coef_") and hasattr(estimator, "decision_function"):
        method, explainer = "LinearExplainer, exact", shap.LinearExplainer(estimator, typical)
        values, base = _of_event(explainer.shap_values(matrix), explainer.expected_value)
        scale, output = "log-odds", estimator.decision_function(matrix)
    else:
        method = f"PermutationExplainer against {len(typical)} training rows"
        explainer = shap.PermutationExplainer(lambda rows: estimator.predict_proba(rows)[:, 1], typical, seed=seed)
        explained = explainer(matrix, silent=True)
        values, base = explained.values, float(np.ravel(explained.base_values)[0])
    names = [feature.name for feature in features]
    columns = encoded_columns(encoder, features)
    # What one feature was encoded as counts together.
    contributions = np.column_stack([values[:, columns[name]].sum(axis=1) for name in names])
    return Explanation(method, scale, names, contributions, base, output, inputs)


def explain_exported(model: ModelFolder, inputs: pd.DataFrame, background: pd.DataFrame, seed: int) -> Explanation:
    """Explain rows of a model of which the exported form alone is kept, by what explains it when it is served.

    Where nothing does, by PermutationExplainer against a sample of training rows.

    Args:
        model: The model.
        inputs: What to explain, n rows.
        background: Training rows, for an explainer that compares with typical ones.
        seed: Chooses among them.
    """
    features = model.features
    scorer = RawScorer(onnx.load(model.folder / "model.onnx"), features)
    names = [feature.name for feature in features]
    score, explainer = scorer(inputs), Explainer.of(model.folder)
    if explainer is not None:
        texts = [feature.name for feature in features if feature.type == "categorical"]
        numbers = [feature.name for feature in features if feature.type == "numeric"]
        matrix = inputs[numbers].to_numpy(np.float64).T
        found = explainer.contributions(matrix, [inputs[name].tolist() for name in texts])
        places = [(numbers + texts).index(name) for name in names]
        output = np.log(score) - np.log1p(-score) if explainer.scale == "log-odds" else score
        method = "the arrays that explain it when it is served, exact"
        return Explanation(method, explainer.scale, names, found[:, places], explainer.base, output, inputs)
    typical = typical_rows(background, seed)
    # The explainer exchanges values between rows, so that numbers may stand for texts.
    both = pd.concat([inputs, typical])
    categories = {name: both[name].unique() for name in names if both[name].dtype == object}

    def coded(rows: pd.DataFrame) -> Floats:
        columns = [
            rows[name].map({value: code for code, value in enumerate(categories[name])})
            if name in categories
            else rows[name]
            for name in names
        ]
        return np.column_stack(columns).astype(np.float64)

    def scored(matrix: Floats) -> Floats:
        columns = {
            name: categories[name][column.astype(int)] if name in categories else column.astype(np.float32)
            for name, column in zip(names, matrix.T, strict=True)
        }
        return scorer(pd.DataFrame(columns))

    method = f"PermutationExplainer against {len(typical)} training rows"
    explained = shap.PermutationExplainer(scored, coded(typical), seed=seed)(coded(inputs), silent=True)
    base = float(np.ravel(explained.base_values)[0])
    return Explanation(method, "probability", names, explained.values, base, score, inputs)


def _log_odds(estimator: Any, matrix: Floats) -> Floats | None:
    """What a boosted model adds up its trees to, shape (n,); None for a model that adds up probabilities."""
    package = type(estimator).__module__.partition(".")[0]
    if package == "lightgbm":
        return np.asarray(estimator.predict(matrix, raw_score=True), dtype=np.float64)
    if package == "xgboost":
        return np.asarray(estimator.predict(matrix, output_margin=True), dtype=np.float64)
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(matrix), dtype=np.float64)
    return None


def _of_event(values: Any, base: Any) -> tuple[Floats, float]:
    values = np.asarray(values)
    return (values[..., 1] if values.ndim == 3 else values), float(np.ravel(base)[-1])


def examine_explanations(
    sample: Sample, explanation: Explanation, explained: NDArray[np.int64], calibration: Calibration, key: str
) -> Findings:
    """Additivity, what scores rest on and how well that is known, and the reasons of the highest scores.

    `explainability.additivity_error` is the largest distance of base plus contributions from the model's own output, on
    the scale of the explanation; `explainability.served_error` that of the probability which they give, calibrated,
    from the served score. `explainability.importance_error` is the sampling error of the features' mean absolute
    contributions: the largest half width of their 95% intervals, as a share of their sum. `explainability.stability` is
    the mean rank correlation (Spearman) of those means between resamples of the explained rows and all of them: 1 when
    their order does not depend on who was looked at.

    Args:
        sample: The test rows.
        explanation: Of the highest scores, `TOLD_ROWS` of them, and then of rows chosen by chance.
        explained: Positions of the explained rows among the test rows.
        calibration: From score to probability.
        key: Column of the entity key.
    """
    findings = Findings()
    rows = len(explained)
    output = explanation.base + explanation.contributions.sum(axis=1)
    for name, error in (
        ("additivity_error", np.abs(output - explanation.output)),
        ("served_error", np.abs(explanation.probabilities(calibration, output) - sample.score[explained])),
    ):
        largest = float(error.max())
        findings.metrics[f"explainability.{name}"] = Metric(largest, float(error.min()), largest, rows)
    findings.add(_importance(explanation, sample.titles, sample.seed))
    findings.table(
        "explainability",
        "Why the highest scores are high",
        [key, "score", "reasons"],
        [
            [
                str(sample.part.frame[key].iloc[row]),
                float(sample.score[row]),
                "; ".join(reasons(explanation, calibration, position, sample.settings.wording, sample.titles)),
            ]
            for position, row in enumerate(explained[:TOLD_ROWS])
        ],
    )
    return findings


def _importance(explanation: Explanation, titles: Titles, seed: int) -> Findings:
    findings = Findings()
    # The highest scores were not chosen by chance.
    sizes = np.abs(explanation.contributions[TOLD_ROWS:])
    if not len(sizes):
        findings.notes.append("What scores rest on was not measured: there are too few test rows.")
        return findings
    rows, mean, total = len(sizes), sizes.mean(axis=0), float(sizes.mean(axis=0).sum())
    reach = NORMAL_95 * sizes.std(axis=0) / np.sqrt(rows)
    order = np.argsort(-mean, kind="stable")
    importance = {
        explanation.features[at]: Metric(
            float(mean[at]), float(mean[at] - reach[at]), float(mean[at] + reach[at]), rows
        )
        for at in order
    }
    findings.table(
        "explainability",
        f"What scores rest on: mean contribution, {explanation.scale} (SHAP)",
        ["feature", "mean", "low", "high", "share"],
        [
            [
                title_and_name(name, titles),
                *(metric.value, metric.low, metric.high, metric.value / total if total else None),
            ]
            for name, metric in importance.items()
        ],
    )
    findings.figures["explainability_importance"] = plots.importance_plot(
        {title_of(name, titles): metric for name, metric in importance.items()}, explanation.scale
    )
    told = f"Explained by {explanation.method}, on the scale of {explanation.scale}, {rows:,} rows"
    if np.ptp(mean) == 0:
        findings.notes.append(f"{told}.")
        findings.notes.append("explainability.stability is undefined: no feature contributes more than another.")
        return findings
    error = float(reach.max()) / total
    findings.metrics["explainability.importance_error"] = Metric(error, float(reach.min()) / total, error, rows)
    findings.notes.append(
        f"{told}: enough to know each feature's share of the importance to within {100 * error:.1f} points (95%)."
    )
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=REPLICATES)
    ranks, whole = rankdata(drawn @ sizes, axis=1), rankdata(mean)
    centred, reference = ranks - ranks.mean(axis=1, keepdims=True), whole - whole.mean()
    with np.errstate(invalid="ignore"):
        correlation = centred @ reference / np.sqrt((centred**2).sum(axis=1) * (reference**2).sum())
    findings.metrics["explainability.stability"] = interval(float(np.nanmean(correlation)), correlation, rows)
    return findings


def reasons(
    explanation: Explanation,
    calibration: Calibration,
    row: int,
    wording: Mapping[str, str],
    titles: Titles,
    most: int = 3,
) -> list[str]:
    """The strongest reasons for one row's score, in plain words.

    A reason's points are the difference that taking its contribution out of the score makes to the probability.

    Args:
        explanation: Of several rows.
        calibration: From score to probability.
        row: Which row.
        wording: What a feature's value is in words, by name, with `{value}` in its place.
        titles: What people call features whose name is another one.
        most: How many reasons.

    Returns:
        Such as "no login for 41 days raises the risk by 12 points".
    """
    contributions = explanation.contributions[row]
    outputs = np.append(explanation.output[row], explanation.output[row] - contributions)
    probability = explanation.probabilities(calibration, outputs)
    points = 100 * (probability[0] - probability[1:])
    sentences = []
    for position in np.argsort(-np.abs(points), kind="stable")[:most]:
        name = explanation.features[position]
        verb = "raises" if points[position] > 0 else "lowers"
        told = _value(explanation.rows.iloc[row][name], title_of(name, titles), wording.get(name))
        size = abs(points[position])
        shown = f"{size:.0f} point{'' if round(size) == 1 else 's'}" if size >= 1 else f"{size:.1f} points"
        sentences.append(f"{told} {verb} the risk by {shown}")
    return sentences


def _value(value: Any, title: str, words: str | None) -> str:
    if value == "" or pd.isna(value):
        return f"missing {title}"
    if words:
        return words.format(value=value)
    return f"{title} = {value:.4g}" if isinstance(value, float | np.floating) else f"{title} = {value}"
