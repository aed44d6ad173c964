"""The limit: ASGI by hand, orjson and ONNX Runtime, no check of anything and no log.

python -m benchmarks.serving.bare MODEL_FOLDER PORT   (in the environment clients)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

KINDS = {"numeric": np.float32, "categorical": object}
HEADERS = [(b"content-type", b"application/json")]


class Bare:
    """Answers every POST by scoring its tensors."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        inputs = json.loads((folder / "model.json").read_text("utf-8"))["inputs"]
        self.kinds = {item["name"]: KINDS[item["type"]] for item in inputs}

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """One request."""
        body = b""
        if scope["method"] == "POST":
            more = True
            while more:
                message = await receive()
                body += message["body"]
                more = message.get("more_body", False)
            body = self.answer(orjson.loads(body))
        headers = [*HEADERS, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, request: dict[str, Any]) -> bytes:
        """The answer to a v2 request."""
        feed = {
            tensor["name"]: np.array(tensor["data"], self.kinds[tensor["name"]]).reshape(-1, 1)
            for tensor in request["inputs"]
        }
        scores = self.session.run(["probabilities"], feed)[0][:, 1].astype(np.float64)
        outputs = [
            {"name": "score", "datatype": "FP64", "shape": [len(scores)], "data": scores},
            {"name": "decision", "datatype": "BOOL", "shape": [len(scores)], "data": scores >= 0.3},
        ]
        return orjson.dumps({"model_name": "benchmark", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    uvicorn.run(
        Bare(Path(sys.argv[1])),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
