"""Contributions of features to single scores (SHAP values), computed beside the served model and without the libraries
that trained it.

What they need travels with the model as arrays, `explainer.npz`: no pickle, no shap, no scikit-learn. They are the
numbers that evaluation gets from shap's TreeExplainer (path-dependent) and LinearExplainer, of the score before
calibration, on the scale that the estimator adds up on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.runtime.contract import ContractViolation

FILE = "explainer.npz"
# So many numbers are held at once, of leaves x columns on their path x rows.
NUMBERS_AT_ONCE = 500_000
# What one request may ask for, in such numbers: about a second of a thread.
MOST_NUMBERS, MOST_ROWS = 10_000_000, 100

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


class Encoding:
    """The matrix that an estimator sees, made of a model's inputs: numbers first, then a column for each category."""

    def __init__(self, arrays: Arrays) -> None:
        """Take it from an explainer's arrays: `imputed` (NaN: missing stays missing), `mean`, `scale` of each number,
        and `categories` of each text, as JSON."""
        self._imputed, self._mean, self._scale = arrays["imputed"], arrays["mean"], arrays["scale"]
        self._categories: list[list[str]] = json.loads(str(arrays["categories"]))

    @property
    def widths(self) -> list[int]:
        """How many columns each input becomes: numbers, then texts."""
        return [1] * len(self._mean) + [len(names) for names in self._categories]

    def matrix(self, numbers: Floats, texts: Sequence[Sequence[str]]) -> Floats:
        """The matrix, [rows, columns].

        Args:
            numbers: [numbers, rows], NaN where missing.
            texts: A column for each.
        """
        # The model's inputs are float32.
        given = numbers.astype(np.float32).astype(np.float64).T
        known = (np.where(np.isnan(given), self._imputed, given) - self._mean) / self._scale
        columns = [known]
        for names, column in zip(self._categories, texts, strict=True):
            values = np.array(column, dtype=object)[:, np.newaxis]
            columns.append((values == np.array(names, dtype=object)[np.newaxis, :]).astype(np.float64))
        return np.concatenate(columns, axis=1)


class Trees:
    """Path-dependent Shapley values of a sum of trees.

    Of one leaf with value v, whose path asks d different columns, column i gets

        v (o_i - z_i) * integral over t from 0 to 1 of the product over j != i of (z_j (1 - t) + o_j t)

    where o_j says whether the row takes the path at column j, and z_j is the share of training rows that do (Lundberg
    et al. 2020, "From local explanations to global understanding", algorithm 1; its sum over subsets is written as the
    beta integral of their weights). The integrand is a polynomial of degree d - 1, so Gauss-Legendre quadrature with
    d / 2 points is exact.
    """

    def __init__(self, arrays: Arrays) -> None:
        """Take them from an explainer's arrays: of each leaf and each of its path's columns, padded to the longest
        path, `column` (-1: none) and `share`; of each decision on a path `edge_slot` (leaf and column, in order),
        `edge_node` and `edge_left`; of each inner node `node_column`, `threshold` and `missing_left`; of each leaf
        `value`."""
        self._column, self._share, self._value = arrays["column"], arrays["share"], arrays["value"]
        self._edge_node, self._edge_left = arrays["edge_node"], arrays["edge_left"].astype(bool)
        slots = arrays["edge_slot"]
        self._first_edge = np.flatnonzero(np.diff(slots, prepend=-1))
        self._slots = slots[self._first_edge]
        self._node_column, self._threshold = arrays["node_column"], arrays["threshold"]
        self._missing_left = arrays["missing_left"].astype(bool)
        self.numbers = self._column.size
        points, weights = np.polynomial.legendre.leggauss(max(1, -(-self._column.shape[1] // 2)))
        self._points, self._weights = (points + 1) / 2, weights / 2

    def contributions(self, matrix: Floats) -> Floats:
        """Of each column to each row, [rows, columns]."""
        found = np.zeros(matrix.shape)
        step = max(1, NUMBERS_AT_ONCE // self._column.size)
        for start in range(0, len(matrix), step):
            found[start : start + step] = self._of(matrix[start : start + step])
        return found

    def _of(self, matrix: Floats) -> Floats:
        rows, leaves = len(matrix), self._column.shape[0]
        asked = matrix[:, self._node_column]
        left = np.where(np.isnan(asked), self._missing_left, asked <= self._threshold)
        taken = left[:, self._edge_node] == self._edge_left
        # Padding has a share of 1 and is taken: it changes no product, and gets nothing.
        flat = np.ones((rows, self._column.size))
        if len(self._slots):
            flat[:, self._slots] = np.logical_and.reduceat(taken, self._first_edge, axis=1)
        follows = flat.reshape(rows, leaves, -1)
        inner = np.zeros_like(follows)
        for point, weight in zip(self._points, self._weights, strict=True):
            # No factor is 0: a point lies between 0 and 1, and no path is one that no training row took.
            factors = self._share * (1 - point) + follows * point
            inner += weight * factors.prod(axis=2, keepdims=True) / factors
        gained = self._value[:, np.newaxis] * (follows - self._share) * inner
        found = np.zeros(matrix.shape)
        known = self._column >= 0
        for row in range(rows):
            found[row] = np.bincount(self._column[known], gained[row][known], minlength=matrix.shape[1])
        return found


class Linear:
    """Shapley values of a linear model whose inputs are taken as independent: coefficient x (value - mean)."""

    def __init__(self, arrays: Arrays) -> None:
        """Take it from an explainer's arrays: `coefficient` and `typical`, the mean, of each column."""
        self._coefficient, self._typical = arrays["coefficient"], arrays["typical"]
        self.numbers = len(self._coefficient)

    def contributions(self, matrix: Floats) -> Floats:
        """Of each column to each row, [rows, columns]."""
        found: Floats = (matrix - self._typical) * self._coefficient
        return found


class Explainer:
    """What explains the scores of one model."""

    def __init__(self, arrays: Arrays) -> None:
        """Take it from its arrays."""
        self._encoding = Encoding(arrays)
        self._method: Trees | Linear = Trees(arrays) if "share" in arrays else Linear(arrays)
        self.scale = str(arrays["unit"])
        """What contributions add up on: `log-odds` or `probability`."""
        self.base = float(arrays["base"])
        """The score of an average entity."""
        self.most_rows = max(1, min(MOST_ROWS, MOST_NUMBERS // self._method.numbers))
        """How many rows may be explained at once."""

    @classmethod
    def of(cls, model_folder: Path) -> Explainer | None:
        """That of a model; None where its estimator has none.

        Raises:
            ContractViolation: its file is not whole.
        """
        file = model_folder / FILE
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return cls(dict(arrays))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ContractViolation(f"{file} is not whole ({error}). Train and register the model again.") from error

    def contributions(self, numbers: Floats, texts: Sequence[Sequence[str]]) -> Floats:
        """Of each input to each row, [rows, inputs]: numbers first, then texts.

        Args:
            numbers: [numbers, rows], NaN where missing.
            texts: A column for each.
        """
        found = self._method.contributions(self._encoding.matrix(numbers, texts))
        # What one input was encoded as counts together.
        return np.add.reduceat(found, self._starts, axis=1)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *self._encoding.widths[:-1]])
