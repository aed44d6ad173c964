"""The model that the configuration asks for: an estimator by import path, behind encoders chosen by feature types."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components.contract import ContractViolation
from components.training.dataset import Feature

# Columns that one categorical feature may become. Rarer values share the code of an unseen one: all zeros.
MOST_CATEGORIES = 50
# Estimators that learn from a missing value and whose ONNX export keeps what they learned; for others it is imputed.
LEARNS_FROM_MISSING = "HistGradientBoostingClassifier"


def build_estimator(path: str, parameters: Mapping[str, Any], seed: int) -> BaseEstimator:
    """An untrained classifier.

    Args:
        path: Import path of a scikit-learn class.
        parameters: Its parameters where they differ from the library's defaults.
        seed: Its `random_state`, where it has one that `parameters` does not set.

    Raises:
        ContractViolation: there is no such class, it is no classifier, or it has no such parameter.
    """
    module, _, name = path.rpartition(".")
    try:
        estimator_class: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ContractViolation(
            f"training.estimator: scikit-learn has no {path} ({error}). "
            "Name a classifier such as sklearn.ensemble.HistGradientBoostingClassifier."
        ) from error
    if not (isinstance(estimator_class, type) and issubclass(estimator_class, BaseEstimator)):
        raise ContractViolation(f"training.estimator: {path} is not an estimator. Name a scikit-learn classifier.")
    known = sorted(inspect.signature(estimator_class).parameters)
    for parameter in parameters:
        if parameter not in known:
            close = difflib.get_close_matches(parameter, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}."
            raise ContractViolation(f"training.parameters or tuning.space: {name} has no parameter {parameter}; {hint}")
    settings = dict(parameters)
    if "random_state" in known:
        settings.setdefault("random_state", seed)
    try:
        estimator = estimator_class(**settings)
    except TypeError as error:
        raise ContractViolation(
            f"training.estimator: {path} cannot be made from training.parameters alone ({error}). "
            "Choose a classifier that needs no other estimator."
        ) from error
    if not is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        raise ContractViolation(
            f"training.estimator: {path} gives no probabilities. Choose a classifier that has predict_proba."
        )
    return estimator


def build_encoder(features: Sequence[Feature], train: pd.DataFrame, estimator: BaseEstimator) -> ColumnTransformer:
    """An untrained encoder from model inputs to one float32 matrix.

    A number passes as it is where the estimator learns from missing values; else it is imputed by the median and
    scaled. A category becomes one column for each of its values in the training data, the most frequent
    `MOST_CATEGORIES` of them; any other value is zero in all of them.

    Args:
        features: The model's inputs, numeric and categorical.
        train: The training part's inputs, which categories are taken from.
        estimator: What the matrix is for.
    """
    numeric = [feature.name for feature in features if feature.type == "numeric"]
    categorical = [feature.name for feature in features if feature.type == "categorical"]
    passes = type(estimator).__name__ == LEARNS_FROM_MISSING
    number = (
        "passthrough"
        if passes
        else Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    )
    steps: list[tuple[str, Any, list[str]]] = [("numeric", number, numeric)] if numeric else []
    if categorical:
        values = [_frequent_values(train[name]) for name in categorical]
        one_hot = OneHotEncoder(categories=values, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        steps.append(("categorical", one_hot, categorical))
    return ColumnTransformer(steps, verbose_feature_names_out=False)


def _frequent_values(column: pd.Series) -> NDArray[np.object_]:
    counts = column.value_counts()
    # Ties are broken by name, so that the same rows give the same columns.
    ranked = sorted(counts.index, key=lambda value: (-counts[value], value))[:MOST_CATEGORIES]
    return np.array(sorted(ranked), dtype=object)


def fit(estimator: BaseEstimator, inputs: NDArray[np.float32], label: NDArray[np.int8]) -> BaseEstimator:
    """Train an estimator on an encoded matrix.

    Raises:
        ContractViolation: the estimator refuses its parameters or the data.
    """
    try:
        return estimator.fit(inputs, label)
    except (ValueError, TypeError) as error:
        raise ContractViolation(
            f"training.estimator: {type(estimator).__name__} cannot be trained: {error} "
            "Correct training.parameters or tuning.space."
        ) from error
