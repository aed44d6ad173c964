"""Estimator by import path, and the encoder before it: imputation, scaling and one-hot encoding by feature types."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.training import ESTIMATOR_PACKAGES, ClassWeight, Training
from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part
from kfp_lifecycle.runtime.contract import ContractViolation

# Columns that one categorical feature may become, and all of them together: what training costs grows with columns.
# Rarer values share the code of an unseen one: all zeros.
MOST_CATEGORIES, MOST_CATEGORY_COLUMNS = 50, 500
# A matrix of more columns than this is wide. Histogram gradient boosting, unless it is told otherwise, then sorts
# numbers into fewer bins than its own 255: its time grows with columns times bins, however few of them a column fills.
WIDE_COLUMNS, BINS, BINS_OF_WIDE = 1000, 255, 63
# Estimators that learn from a missing value and whose ONNX export keeps what they learned; for others it is imputed.
LEARNS_FROM_MISSING = ("HistGradientBoostingClassifier", "LGBMClassifier", "XGBClassifier")
# Estimators that split on thresholds: how a number is scaled changes nothing for them, but may move it across one.
TREES = (
    *LEARNS_FROM_MISSING,
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "RandomForestClassifier",
    "ExtraTreesClassifier",
    "GradientBoostingClassifier",
    "AdaBoostClassifier",
    "BaggingClassifier",
)
# LightGBM's sums depend on the order in which threads finish, unless it is told otherwise.
PACKAGE_DEFAULTS = {"lightgbm": {"deterministic": True, "force_row_wise": True, "verbose": -1}}


def build_estimator(path: str, parameters: Mapping[str, Any], seed: int) -> BaseEstimator:
    """An untrained classifier.

    Args:
        path: Import path of a classifier from one of `ESTIMATOR_PACKAGES`.
        parameters: Its parameters where they differ from the library's defaults.
        seed: Its `random_state`, where it has one that `parameters` does not set.

    Raises:
        ContractViolation: the package is not allowed, there is no such class, it is no classifier, or it has no such
            parameter.
    """
    module, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    if package not in ESTIMATOR_PACKAGES:
        raise ContractViolation(
            f"training.estimator: {path} is not from {', '.join(ESTIMATOR_PACKAGES)}, and nothing else is imported "
            "because a configuration names it."
        )
    try:
        estimator_class: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, OSError) as error:
        # OSError: LightGBM looks for the system's OpenMP library, libgomp1, which slim images lack.
        raise ContractViolation(
            f"training.estimator: {package} has no {path} here ({error}). "
            "Name a classifier such as sklearn.ensemble.HistGradientBoostingClassifier."
        ) from error
    if not (isinstance(estimator_class, type) and issubclass(estimator_class, BaseEstimator)):
        raise ContractViolation(f"training.estimator: {path} is not an estimator. Name a scikit-learn classifier.")
    try:
        known = sorted(estimator_class().get_params(deep=False))
    except TypeError as error:
        raise ContractViolation(
            f"training.estimator: {path} cannot be made from training.parameters alone ({error}). "
            "Choose a classifier that needs no other estimator."
        ) from error
    for parameter in parameters:
        if parameter not in known:
            close = difflib.get_close_matches(parameter, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}."
            raise ContractViolation(f"training.parameters or tuning.space: {name} has no parameter {parameter}; {hint}")
    settings = {**PACKAGE_DEFAULTS.get(package, {}), **parameters}
    if "random_state" in known:
        settings.setdefault("random_state", seed)
    estimator = estimator_class(**settings)
    if not is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        raise ContractViolation(
            f"training.estimator: {path} gives no probabilities. Choose a classifier that has predict_proba."
        )
    return estimator


class Widening(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers as float64: what follows computes in it, here as in the exported model."""

    def fit(self, inputs: NDArray[np.floating[Any]], label: Any = None) -> Widening:
        """There is nothing to learn but how many columns there are."""
        self.n_features_in_ = inputs.shape[1]
        return self

    def transform(self, inputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The same numbers."""
        return inputs.astype(np.float64)


def build_encoder(features: Sequence[Feature], train: pd.DataFrame, estimator: BaseEstimator) -> ColumnTransformer:
    """An untrained encoder from model inputs to one matrix.

    A number passes as it is where the estimator learns from missing values; else it is imputed by the median and,
    unless the estimator is made of trees, scaled. A category becomes one column for each of its values in the training
    data, as `frequent_values` chooses them; any other value is zero in all of them. The matrix is float32 for trees, as
    the inputs are, and float64 for all others, which compute in it what their exported form computes.

    Args:
        features: The model's inputs, numeric and categorical.
        train: The training part's inputs, which categories are taken from.
        estimator: What the matrix is for.
    """
    numeric = [feature.name for feature in features if feature.type == "numeric"]
    categorical = [feature.name for feature in features if feature.type == "categorical"]
    kind = type(estimator).__name__
    impute = SimpleImputer(strategy="median")
    number: Any = Pipeline([("impute", impute), ("widen", Widening()), ("scale", StandardScaler())])
    if kind in TREES:
        number = "passthrough" if kind in LEARNS_FROM_MISSING else impute
    steps: list[tuple[str, Any, list[str]]] = [("numeric", number, numeric)] if numeric else []
    if categorical:
        values = frequent_values(train, categorical)
        one_hot: Any = OneHotEncoder(categories=values, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        widened = one_hot if kind in TREES else Pipeline([("one_hot", one_hot), ("widen", Widening())])
        steps.append(("categorical", widened, categorical))
    return ColumnTransformer(steps, verbose_feature_names_out=False)


def encoded_columns(encoder: ColumnTransformer, features: Sequence[Feature]) -> dict[str, slice]:
    """Which columns of the encoded matrix each feature became, in the order of the columns."""
    numeric = [feature.name for feature in features if feature.type == "numeric"]
    widths = dict.fromkeys(numeric, 1)
    categorical = [feature.name for feature in features if feature.type == "categorical"]
    if categorical:
        known = _one_hot(encoder).categories_
        widths |= {name: len(values) for name, values in zip(categorical, known, strict=True)}
    ends = np.cumsum(list(widths.values())).tolist()
    return {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}


def frequent_values(train: pd.DataFrame, names: Sequence[str]) -> list[NDArray[np.object_]]:
    """The values that get a column of their own, of each categorical feature: its most frequent `MOST_CATEGORIES`.

    Where that would be more than `MOST_CATEGORY_COLUMNS` in all, those of the most rows among the values of all
    features, and the most frequent one of each.

    Args:
        train: The training part's inputs.
        names: The categorical features.
    """
    # Ties are broken by name, so that the same rows give the same columns.
    ranked = [sorted(train[name].value_counts().items(), key=lambda item: (-item[1], item[0])) for name in names]
    kept = [values[:MOST_CATEGORIES] for values in ranked]
    places = [(at, place) for at, values in enumerate(kept) for place in range(len(values))]
    if len(places) > MOST_CATEGORY_COLUMNS:
        places.sort(key=lambda each: (each[1] > 0, -kept[each[0]][each[1]][1], each))
        counts = np.bincount([at for at, _ in places[: max(MOST_CATEGORY_COLUMNS, len(names))]], minlength=len(names))
        kept = [values[:count] for values, count in zip(kept, counts, strict=True)]
    return [np.array(sorted(value for value, _ in values), dtype=object) for values in kept]


def width_notes(pipeline: Pipeline, train: pd.DataFrame) -> list[str]:
    """What was limited because the table is wide, in sentences; none where nothing was.

    Args:
        pipeline: Encoder and estimator, trained.
        train: The training part's inputs.
    """
    encoder, estimator = pipeline[0], pipeline[-1]
    notes = []
    texts = [name for name in train.columns if train[name].dtype == object]
    if texts:
        known = _one_hot(encoder).categories_
        columns = sum(len(values) for values in known)
        wanted = sum(min(train[name].nunique(), MOST_CATEGORIES) for name in texts)
        if columns < wanted:
            notes.append(
                f"The table is wide: of {wanted:,} values that its {len(texts):,} features of text have often enough, "
                f"the {columns:,} most frequent are told apart, and the rest of a feature's values count as one. "
                "features.leave_out makes room for those that matter."
            )
    width = getattr(estimator, "n_features_in_", 0)
    if width > WIDE_COLUMNS and getattr(estimator, "max_bins", None) == BINS_OF_WIDE:
        notes.append(
            f"The table is wide: boosted trees see its {width:,} columns in {BINS_OF_WIDE} bins each instead of "
            f"{BINS}. training.parameters.max_bins sets another number."
        )
    return notes


def _one_hot(encoder: ColumnTransformer) -> OneHotEncoder:
    found = encoder.named_transformers_["categorical"]
    return found[0] if isinstance(found, Pipeline) else found


def row_weights(part: Part, training: Training) -> NDArray[np.float64] | None:
    """What each training row counts, shape (n,), 1 on average; None where all count the same.

    The product of what is asked for: `weight`, a column of the training set; 0.5 ** (its age / half life) with
    `half_life_days`, its age being the days to the newest row; and with `class_weight: balanced` what lets a class's
    rows share half of the whole weight, as scikit-learn's `balanced` does.

    Args:
        part: The rows that are trained on, both classes present.
        training: `weight`, `half_life_days` and `class_weight`.

    Raises:
        ContractViolation: as `column_weights`.
    """
    given = column_weights(part, training)
    if given is None and training.half_life_days is None and training.class_weight is ClassWeight.none:
        return None
    weight = np.ones(len(part.label)) if given is None else given
    if training.half_life_days is not None:
        moment = part.frame[TIMESTAMP]
        age = ((moment.max() - moment) / pd.Timedelta(days=1)).to_numpy()
        weight = weight * 0.5 ** (age / training.half_life_days)
    if training.class_weight is ClassWeight.balanced:
        for value in (0, 1):
            rows = part.label == value
            weight[rows] /= 2 * weight[rows].sum()
    normalized: NDArray[np.float64] = weight / weight.mean()
    return normalized


def column_weights(part: Part, training: Training) -> NDArray[np.float64] | None:
    """The values of `training.weight`, shape (n,); None where there is none.

    Raises:
        ContractViolation: the training set has no such column, or a value is missing, infinite or not above 0.
    """
    if training.weight is None:
        return None
    name = training.weight.partition(":")[2]
    if name not in part.frame:
        raise ContractViolation(
            f"training.weight: the training set has no column {name}. Run build_training_set again, which joins it."
        )
    weight: NDArray[np.float64] = part.frame[name].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    unusable = ~((weight > 0) & (weight < np.inf))
    if unusable.any():
        raise ContractViolation(
            f"training.weight: {name} is {weight[unusable][0]:g} or as unusable in {unusable.sum():,} of "
            f"{len(weight):,} rows. A weight is a number above 0 in every row: mend its feature view, with a small "
            "number for what should hardly count."
        )
    return weight


def fit(
    estimator: BaseEstimator,
    inputs: NDArray[np.floating[Any]],
    label: NDArray[np.int8],
    weight: NDArray[np.float64] | None = None,
) -> BaseEstimator:
    """Train an estimator on an encoded matrix; the same arguments give the same model, on any number of cores.

    Histogram gradient boosting has `BINS_OF_WIDE` bins instead of its default where the matrix is wide.

    Args:
        estimator: What to train.
        inputs: The encoded features, shape (n, columns).
        label: 0 or 1, shape (n,).
        weight: What each row counts, shape (n,), as `row_weights` gives it.

    Raises:
        ContractViolation: the estimator refuses its parameters or the data, or takes no weights.
    """
    name = type(estimator).__name__
    if weight is not None and not has_fit_parameter(estimator, "sample_weight"):
        raise ContractViolation(
            f"training.estimator: {name} takes no weights. Leave out training.weight, training.class_weight and "
            "training.half_life_days, or choose another estimator."
        )
    weighted = {} if weight is None else {"sample_weight": weight}
    if inputs.shape[1] > WIDE_COLUMNS and getattr(estimator, "max_bins", None) == BINS:
        estimator.set_params(max_bins=BINS_OF_WIDE)
    try:
        # How a sum of floats is divided among BLAS threads shows in its last bits.
        with threadpool_limits(1, user_api="blas"):
            return in_32_bits(estimator.fit(inputs, label, **weighted))
    except Exception as error:
        # LightGBM's own error is a plain Exception; XGBoost's is a ValueError that ends with a trace of C++.
        if not isinstance(error, ValueError | TypeError) and type(error).__name__ != "LightGBMError":
            raise
        raise ContractViolation(
            f"training.estimator: {name} cannot be trained: {str(error).partition('Stack trace')[0].strip()} "
            "Correct training.parameters or tuning.space."
        ) from error


def in_32_bits(estimator: BaseEstimator) -> BaseEstimator:
    """Round the thresholds of trees down to float32; they decide alike, and so does their export.

    scikit-learn and LightGBM split half way between two values, in 64 bits. The exported model has 32, where half way
    may round up to the next value; rounded down, every float32 stays on its side. XGBoost's thresholds are float32.
    """
    if type(estimator).__name__ == "LGBMClassifier":
        from lightgbm import Booster

        # Its text is the one place where a trained model's thresholds can be set; sizes of trees there are optional.
        text = re.sub(r"(?m)^tree_sizes=.*\n", "", estimator.booster_.model_to_string())
        estimator._Booster = Booster(model_str=re.sub(r"(?m)^threshold=(.*)$", _floored_line, text))
        return estimator
    for trees in getattr(estimator, "_predictors", []):
        for tree in trees:
            tree.nodes["num_threshold"] = floored(tree.nodes["num_threshold"])
    for grown in (estimator, *np.ravel(getattr(estimator, "estimators_", []))):
        if isinstance(grown, BaseDecisionTree):
            grown.tree_.threshold[:] = floored(grown.tree_.threshold)
    return estimator


def raw_scores(pipeline: Pipeline, inputs: pd.DataFrame) -> NDArray[np.float64]:
    """The event's probability as the trained pipeline gives it, before calibration, shape (n,).

    XGBoost's own probabilities are float32, which near 1 cannot tell apart what their log-odds do: they are computed
    from these.
    """
    encoder, estimator = pipeline[0], pipeline[-1]
    if getattr(estimator, "objective", "") == "binary:logistic" and type(estimator).__name__ == "XGBClassifier":
        margin = estimator.predict(encoder.transform(inputs), output_margin=True)
        return np.asarray(expit(margin.astype(np.float64)))
    scores: NDArray[np.float64] = pipeline.predict_proba(inputs)[:, 1].astype(np.float64)
    return scores


def _floored_line(found: re.Match[str]) -> str:
    return "threshold=" + " ".join(repr(float(value)) for value in floored(np.array(found[1].split(), dtype=float)))


def floored(exact: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each number."""
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    below: NDArray[np.float32] = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return below
