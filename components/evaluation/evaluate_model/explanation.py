"""Why the model says what it says, by SHAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shap
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.pipeline import Pipeline

from components.evaluation.bootstrap import Metric, interval
from components.training.calibration import Calibration
from components.training.dataset import Feature

Floats = NDArray[np.float64]

# Rows of the background of an explainer that compares with typical customers.
BACKGROUND_ROWS = 50
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
    sample = background.sample(min(BACKGROUND_ROWS, len(background)), random_state=seed)
    typical = np.asarray(encoder.transform(sample), dtype=np.float64)
    scale = "probability"
    output = estimator.predict_proba(matrix)[:, 1]
    if shap.explainers.Tree.supports_model_with_masker(estimator, None):
        method, explainer = "TreeExplainer, exact", shap.TreeExplainer(estimator)
        values, base = _of_event(explainer.shap_values(matrix, check_additivity=False), explainer.expected_value)
        if hasattr(estimator, "decision_function"):
            scale, output = "log-odds", estimator.decision_function(matrix)
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
    return Explanation(method, scale, names, _by_feature(encoder, names, values), base, output, inputs)


def _of_event(values: Any, base: Any) -> tuple[Floats, float]:
    values = np.asarray(values)
    return (values[..., 1] if values.ndim == 3 else values), float(np.ravel(base)[-1])


def _by_feature(encoder: Any, names: list[str], values: Floats) -> Floats:
    """Sum the contributions of the columns that one feature was encoded as."""
    columns: list[str] = []
    for step, transformer, of in encoder.transformers_:
        if step == "categorical":
            columns += [name for name, known in zip(of, transformer.categories_, strict=True) for _ in known]
        elif step == "numeric":
            columns += list(of)
    return np.column_stack([values[:, np.array(columns) == name].sum(axis=1) for name in names])


def explanation_metrics(explanation: Explanation, seed: int) -> tuple[dict[str, Metric], list[str]]:
    """Additivity and stability.

    `explainability.additivity_error` is the largest distance of base plus contributions from the model's own output,
    on the scale of the explanation. `explainability.stability` is the mean rank correlation (Spearman) of the features'
    mean absolute contribution between resamples of the explained rows and all of them: 1 when their order does not
    depend on who was looked at.
    """
    rows = len(explanation.output)
    error = np.abs(explanation.base + explanation.contributions.sum(axis=1) - explanation.output)
    metrics = {
        "explainability.additivity_error": Metric(float(error.max()), float(error.min()), float(error.max()), rows)
    }
    notes = [f"Explained by {explanation.method}, on the scale of {explanation.scale}, {rows:,} rows."]
    sizes = np.abs(explanation.contributions)
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=REPLICATES)
    ranks, whole = rankdata(drawn @ sizes, axis=1), rankdata(sizes.mean(axis=0))
    if np.ptp(whole) == 0:
        notes.append("explainability.stability is undefined: no feature contributes more than another.")
        return metrics, notes
    centred, reference = ranks - ranks.mean(axis=1, keepdims=True), whole - whole.mean()
    with np.errstate(invalid="ignore"):
        correlation = centred @ reference / np.sqrt((centred**2).sum(axis=1) * (reference**2).sum())
    metrics["explainability.stability"] = interval(float(np.nanmean(correlation)), correlation, rows)
    return metrics, notes


def reasons(explanation: Explanation, calibration: Calibration, row: int, most: int = 3) -> list[str]:
    """The strongest reasons for one row's score, in plain words.

    A reason's points are the difference that taking its contribution out of the score makes to the probability.

    Args:
        explanation: Of several rows.
        calibration: From score to probability.
        row: Which row.
        most: How many reasons.
    """
    contributions = explanation.contributions[row]
    outputs = np.append(explanation.output[row], explanation.output[row] - contributions)
    probability = explanation.probabilities(calibration, outputs)
    points = 100 * (probability[0] - probability[1:])
    sentences = []
    for position in np.argsort(-np.abs(points))[:most]:
        name = explanation.features[position]
        verb = "raises" if points[position] > 0 else "lowers"
        sentences.append(
            f"{_value(explanation.rows.iloc[row][name], name)} {verb} the risk by {abs(points[position]):.0f} points"
        )
    return sentences


def _value(value: Any, name: str) -> str:
    if value == "" or pd.isna(value):
        return f"missing {name}"
    return f"{name} = {value:.4g}" if isinstance(value, float | np.floating) else f"{name} = {value}"
