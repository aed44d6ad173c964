"""KServe's own server around the same model, as its documentation has it.

python -m benchmarks.serving.kserve_peer MODEL_FOLDER PORT   (in the environment clients)
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import kserve
import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, ModelServer


class Churn(kserve.Model):
    """The model."""

    def __init__(self, folder: Path) -> None:
        super().__init__("benchmark")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.kinds = {
            item.name: np.float32 if item.type == "tensor(float)" else object for item in self.session.get_inputs()
        }
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Score the tensors."""
        feed = {item.name: np.asarray(item.data, self.kinds[item.name]).reshape(-1, 1) for item in payload.inputs}
        scores = self.session.run(["probabilities"], feed)[0][:, 1].astype(np.float64)
        outputs = [
            InferOutput("score", [len(scores)], "FP64", scores.tolist()),
            InferOutput("decision", [len(scores)], "BOOL", (scores >= 0.3).tolist()),
        ]
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, access_log_format=None).start([Churn(Path(sys.argv[1]))])
