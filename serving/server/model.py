"""A model folder, loaded: rows of feature values in, scores and decisions out. It knows no protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from kfp_lifecycle.runtime.contract import ContractViolation

ONNX_TYPES = {"numeric": "tensor(float)", "categorical": "tensor(string)"}
OUTPUT = "probabilities"

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """One input of the model."""

    name: str
    type: Literal["numeric", "categorical"]


class ScoringModel:
    """The ONNX model of a folder with its threshold."""

    def __init__(self, folder: Path) -> None:
        """Load `model.onnx` and `model.json`.

        Raises:
            ContractViolation: a file is missing or unreadable, or the two do not describe the same inputs.
        """
        self.folder = folder
        try:
            description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            self.features = [Feature(item["name"], item["type"]) for item in description["inputs"]]
            self.threshold = float(description["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ContractViolation(
                f"{folder} is not a model folder: model.json must name the model's inputs and its threshold "
                f"({type(error).__name__}: {error}). Take the output of register_model."
            ) from error
        self._session = self._load(folder / "model.onnx")

    def _load(self, file: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        # A row takes microseconds: threads inside one request only get in the way of other requests.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ContractViolation(f"{file} cannot be loaded: {error}. Train and register the model again.") from error
        found = {item.name: item.type for item in session.get_inputs()}
        described = {feature.name: ONNX_TYPES.get(feature.type) for feature in self.features}
        if found != described or OUTPUT not in [item.name for item in session.get_outputs()]:
            raise ContractViolation(
                f"{file} does not fit model.json: its inputs are {found} with outputs "
                f"{[item.name for item in session.get_outputs()]}, described are {described} with the output "
                f"`{OUTPUT}`. Train and register the model again."
            )
        return session

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Scores:
        """Probability of the event for each row.

        Args:
            rows: For each row the value of every feature: a number or a text, None where it is missing.

        Returns:
            One probability for each row, 0 to 1, shape [N].

        Raises:
            KeyError: a row lacks a feature.
        """
        tensors = {
            feature.name: numeric([row[feature.name] for row in rows])
            if feature.type == "numeric"
            else categorical([row[feature.name] for row in rows])
            for feature in self.features
        }
        (probabilities,) = self._session.run([OUTPUT], tensors)
        return np.asarray(probabilities[:, 1], dtype=np.float64)

    def decide(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Whether to act: the score reaches the threshold that training chose."""
        return np.asarray(scores >= self.threshold)


def numeric(values: Sequence[float | None]) -> npt.NDArray[np.float32]:
    """A numeric input tensor, shape [N, 1]; a missing value is NaN."""
    return np.array([[np.nan if value is None else value] for value in values], dtype=np.float32)


def categorical(values: Sequence[str | None]) -> npt.NDArray[np.object_]:
    """A categorical input tensor, shape [N, 1]; a missing value is the empty text."""
    return np.array([["" if value is None else value] for value in values], dtype=object)
