"""Export of what explains a model's scores: arrays from which `modelling/attribution.py` computes them anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.modelling import attribution

Arrays = dict[str, NDArray[Any]]
# Training rows that say what is typical, for models that are explained by comparison.
BACKGROUND_ROWS = 50


def typical_rows(train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Training rows that stand for all, chosen by the seed."""
    return train.sample(min(BACKGROUND_ROWS, len(train)), random_state=seed)


def explainer_arrays(pipeline: Pipeline, features: Sequence[Feature], typical: pd.DataFrame) -> Arrays | None:
    """What explains the scores of a trained pipeline; None for an estimator that is neither trees nor linear, or too
    large.

    Args:
        pipeline: Encoder and estimator.
        features: The model's inputs.
        typical: Of `typical_rows`.
    """
    import shap

    encoder, estimator = pipeline[0], pipeline[-1]
    if shap.explainers.Tree.supports_model_with_masker(estimator, None):
        ensemble = shap.TreeExplainer(estimator).model
        found = _tree_arrays(ensemble)
        # One row of a larger forest would keep a server's thread for longer than a request may.
        if found["column"].size > attribution.MOST_NUMBERS:
            return None
        average = (found["value"] * found["share"].prod(axis=1)).sum()
        found["base"] = np.array(average + float(np.ravel(ensemble.base_offset)[-1]))
        found["unit"] = np.array("log-odds" if ensemble.tree_output == "log_odds" else "probability")
    elif hasattr(estimator, "coef_") and hasattr(estimator, "decision_function"):
        mean = np.asarray(encoder.transform(typical), dtype=np.float64).mean(axis=0)
        coefficient, intercept = np.ravel(estimator.coef_), float(np.ravel(estimator.intercept_)[0])
        found = {"coefficient": coefficient, "typical": mean, "unit": np.array("log-odds")}
        found["base"] = np.array(float(mean @ coefficient) + intercept)
    else:
        return None
    return found | _encoding_arrays(encoder, features)


def _encoding_arrays(encoder: ColumnTransformer, features: Sequence[Feature]) -> Arrays:
    numbers = sum(feature.type == "numeric" for feature in features)
    imputed, mean, scale = np.full(numbers, np.nan), np.zeros(numbers), np.ones(numbers)
    number = encoder.named_transformers_.get("numeric")
    steps = [step for _, step in number.steps] if isinstance(number, Pipeline) else [number]
    for step in steps:
        if hasattr(step, "statistics_"):
            imputed = np.asarray(step.statistics_, dtype=np.float32).astype(np.float64)
        if hasattr(step, "mean_"):
            mean, scale = step.mean_, step.scale_
    categories: list[list[str]] = []
    if numbers < len(features):
        one_hot = encoder.named_transformers_["categorical"]
        known = (one_hot[0] if isinstance(one_hot, Pipeline) else one_hot).categories_
        categories = [[str(name) for name in names] for names in known]
    return {"imputed": imputed, "mean": mean, "scale": scale, "categories": np.array(json.dumps(categories))}


def _tree_arrays(ensemble: Any) -> Arrays:
    """Leaves and paths of shap's form of a tree ensemble, as `attribution.Trees` reads them."""
    nodes: dict[tuple[int, int], int] = {}
    node_column: list[int] = []
    threshold: list[float] = []
    missing_left: list[bool] = []
    leaves: list[tuple[float, dict[int, float], list[tuple[int, int, bool]]]] = []
    for tree in range(len(ensemble.children_left)):
        left, right, default = (
            getattr(ensemble, name)[tree] for name in ("children_left", "children_right", "children_default")
        )
        cover, values = ensemble.node_sample_weight[tree], ensemble.values[tree][:, -1]
        waiting: list[tuple[int, dict[int, float], list[tuple[int, int, bool]]]] = [(0, {}, [])]
        while waiting:
            node, shares, decisions = waiting.pop()
            if left[node] < 0:
                leaves.append((float(values[node]), shares, decisions))
                continue
            column = int(ensemble.features[tree][node])
            number = nodes.setdefault((tree, node), len(nodes))
            if number == len(node_column):
                node_column.append(column)
                threshold.append(float(ensemble.thresholds[tree][node]))
                missing_left.append(bool(default[node] == left[node]))
            for child, goes_left in ((int(left[node]), True), (int(right[node]), False)):
                if cover[child] > 0:
                    share = shares.get(column, 1.0) * float(cover[child] / cover[node])
                    waiting.append((child, {**shares, column: share}, [*decisions, (column, number, goes_left)]))
    longest = max((len(shares) for _, shares, _ in leaves), default=0) or 1
    columns, parts = np.full((len(leaves), longest), -1), np.ones((len(leaves), longest))
    edges: list[tuple[int, int, bool]] = []
    for leaf, (_, shares, decisions) in enumerate(leaves):
        places = {column: place for place, column in enumerate(shares)}
        columns[leaf, : len(shares)], parts[leaf, : len(shares)] = list(shares), list(shares.values())
        edges += [(leaf * longest + places[column], number, goes_left) for column, number, goes_left in decisions]
    edges.sort()
    slots, numbers, lefts = zip(*edges, strict=True) if edges else ((), (), ())
    return {
        "column": columns,
        "share": parts,
        "value": np.array([value for value, _, _ in leaves]),
        "edge_slot": np.array(slots, dtype=np.int64),
        "edge_node": np.array(numbers, dtype=np.int64),
        "edge_left": np.array(lefts, dtype=bool),
        "node_column": np.array(node_column, dtype=np.int64),
        "threshold": np.array(threshold),
        "missing_left": np.array(missing_left, dtype=bool),
    }
