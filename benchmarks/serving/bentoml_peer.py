"""BentoML around the same model, as its documentation has it: one worker, tensors as JSON.

python -m benchmarks.serving.bentoml_peer MODEL_FOLDER PORT   (in the environment bentoml)
"""

from __future__ import annotations

import os
import sys
from typing import Any

import bentoml
import numpy as np
import onnxruntime

MODEL_VARIABLE = "BENCHMARK_MODEL"


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Churn:
    """The model."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            f"{os.environ[MODEL_VARIABLE]}/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.kinds = {
            item.name: np.float32 if item.type == "tensor(float)" else object for item in self.session.get_inputs()
        }

    @bentoml.api(route="/v2/models/benchmark/infer")
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Score the tensors."""
        feed = {
            tensor["name"]: np.asarray(tensor["data"], self.kinds[tensor["name"]]).reshape(-1, 1) for tensor in inputs
        }
        scores = self.session.run(["probabilities"], feed)[0][:, 1].astype(np.float64)
        outputs = [
            {"name": "score", "shape": [len(scores)], "datatype": "FP64", "data": scores.tolist()},
            {"name": "decision", "shape": [len(scores)], "datatype": "BOOL", "data": (scores >= 0.3).tolist()},
        ]
        return {"model_name": "benchmark", "outputs": outputs}


if __name__ == "__main__":
    os.environ |= {MODEL_VARIABLE: sys.argv[1], "BENTOML_DO_NOT_TRACK": "True"}
    told = ["serve", "benchmarks.serving.bentoml_peer:Churn", "--host", "127.0.0.1", "--port", sys.argv[2]]
    os.execv(
        sys.executable,
        [sys.executable, "-m", "bentoml", *told, "--working-dir", os.environ["PYTHONPATH"].split(":")[1]],
    )
