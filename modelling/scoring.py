"""Score rows with the ONNX model, the only form that is served."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.modelling.dataset import Feature
from kfp_lifecycle.runtime.contract import ContractViolation

Feed = dict[str, NDArray[Any]]

# The model's one output: [N, 2], of no event and of the event.
OUTPUT = "probabilities"

onnxruntime.disable_telemetry_events()


class Scorer:
    """An ONNX model that takes tables."""

    def __init__(self, model: bytes, features: Sequence[Feature], threads: int = 0) -> None:
        """Load it.

        Args:
            model: The content of `model.onnx`.
            features: Its inputs.
            threads: How many it may use; 0 for one for each core.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.features = list(features)
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def score(self, inputs: pd.DataFrame) -> NDArray[np.float32]:
        """The event's probability for each row of `model_inputs`, shape (n,), each in [0, 1]."""
        return self.run(self.feed(inputs))

    def feed(self, inputs: pd.DataFrame) -> Feed:
        """Model inputs as tensors, one [n, 1] for each feature."""
        types = {"numeric": np.float32, "categorical": object}
        return {item.name: inputs[[item.name]].to_numpy(dtype=types[item.type]) for item in self.features}

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """The event's probability for tensors, shape (n,)."""
        (probabilities,) = self.session.run([OUTPUT], feed)
        scores: NDArray[np.float32] = np.asarray(probabilities)[:, 1]
        return scores


class ModelFolder:
    """A `model` artifact."""

    def __init__(self, folder: Path) -> None:
        """Read its description.

        Raises:
            ContractViolation: the folder holds no complete model.
        """
        missing = [name for name in ("model.json", "model.onnx") if not (folder / name).is_file()]
        if missing:
            raise ContractViolation(
                f"{folder} holds no complete model: {', '.join(missing)} is missing. Run train_model again, or give "
                "the step a model that was approved."
            )
        self.folder = folder
        self.description: Mapping[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
        self.features = [Feature(**item) for item in self.description["inputs"]]
        self.threshold = float(self.description["threshold"])

    def scorer(self, threads: int = 0) -> Scorer:
        """The model, loaded."""
        return Scorer((self.folder / "model.onnx").read_bytes(), self.features, threads)
