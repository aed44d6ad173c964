"""Score rows with the ONNX model, the only form that is served: in evaluation, in batch scoring and in the server.

It needs numpy and onnxruntime, and no pandas: the server's image has none to spare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    import pandas as pd

Feed = dict[str, NDArray[Any]]
Columns = Mapping[str, Sequence[Any]]
Scores = NDArray[np.floating[Any]]

# The model's one output: [N, 2], of no event and of the event.
OUTPUT = "probabilities"
ONNX_TYPES = {"numeric": "tensor(float)", "categorical": "tensor(string)"}
NUMPY_TYPES = {"numeric": np.float32, "categorical": object}

onnxruntime.disable_telemetry_events()


class Scorer:
    """An ONNX model that takes columns."""

    def __init__(self, model: bytes, features: Sequence[Feature], threads: int = 0) -> None:
        """Load it.

        Args:
            model: The content of `model.onnx`.
            features: Its inputs.
            threads: How many it may use; 0 for one for each core.

        Raises:
            ContractViolation: it cannot be loaded, or has other inputs.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        self.features = list(features)
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ContractViolation(f"model.onnx cannot be loaded: {error}. Train and register the model again.") from (
                error
            )
        found = {item.name: item.type for item in self.session.get_inputs()}
        described = {feature.name: ONNX_TYPES.get(feature.type) for feature in self.features}
        outputs = [item.name for item in self.session.get_outputs()]
        if found != described or OUTPUT not in outputs:
            raise ContractViolation(
                f"model.onnx does not fit model.json: its inputs are {found} with outputs {outputs}, described are "
                f"{described} with the output `{OUTPUT}`. Train and register the model again."
            )

    def score(self, inputs: Columns | pd.DataFrame) -> NDArray[np.float32]:
        """The event's probability for each row of `model_inputs` or `columns_of`, shape (n,), each in [0, 1]."""
        return self.run(self.feed(inputs))

    def feed(self, inputs: Columns | pd.DataFrame) -> Feed:
        """Model inputs as tensors, one [n, 1] for each feature."""
        return tensors(inputs, self.features)

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """The event's probability for tensors, shape (n,)."""
        (probabilities,) = self.session.run([OUTPUT], feed)
        scores: NDArray[np.float32] = np.asarray(probabilities)[:, 1]
        return scores


def tensors(inputs: Columns | pd.DataFrame, features: Sequence[Feature]) -> Feed:
    """Model inputs as tensors, one [n, 1] for each feature."""
    return {item.name: np.asarray(inputs[item.name], dtype=NUMPY_TYPES[item.type])[:, np.newaxis] for item in features}


def columns_of(rows: Sequence[Mapping[str, Any]], features: Sequence[Feature]) -> dict[str, list[Any]]:
    """Rows as the columns that a model takes: a missing number is NaN, a missing text is empty.

    Args:
        rows: For each row the value of every feature, None where it is missing.
        features: The model's inputs.

    Raises:
        KeyError: a row lacks a feature.
    """
    missing = {"numeric": np.nan, "categorical": ""}
    return {
        feature.name: [missing[feature.type] if row[feature.name] is None else row[feature.name] for row in rows]
        for feature in features
    }


def decided(scores: Scores, threshold: float) -> NDArray[np.bool_]:
    """Whether to act: which scores reach the threshold, compared in double precision wherever it is asked."""
    return np.asarray(scores.astype(np.float64) >= threshold)
