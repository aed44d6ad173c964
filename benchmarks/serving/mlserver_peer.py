"""MLServer around the same model, as its documentation has it.

python -m benchmarks.serving.mlserver_peer MODEL_FOLDER PORT   (in the environment mlserver)
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Churn(MLModel):
    """The model."""

    async def load(self) -> bool:
        """Load it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            f"{sys.argv[1]}/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.kinds = {
            item.name: np.float32 if item.type == "tensor(float)" else object for item in self.session.get_inputs()
        }
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the tensors."""
        feed = {item.name: np.asarray(item.data.root, self.kinds[item.name]).reshape(-1, 1) for item in payload.inputs}
        scores = self.session.run(["probabilities"], feed)[0][:, 1].astype(np.float64)
        outputs = [
            ResponseOutput(name="score", shape=[len(scores)], datatype="FP64", data=scores.tolist()),
            ResponseOutput(name="decision", shape=[len(scores)], datatype="BOOL", data=(scores >= 0.3).tolist()),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main() -> None:
    """Serve until told to stop."""
    port = int(sys.argv[2])
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        use_structured_logging=False,
        debug=False,
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="benchmark", implementation="benchmarks.serving.mlserver_peer.Churn")])


if __name__ == "__main__":
    asyncio.run(main())
