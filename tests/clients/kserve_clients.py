"""KServe's own clients: `python kserve_clients.py rest|grpc PORT` asks for three rows and prints their scores."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request() -> InferRequest:
    """Three rows, as raw bytes."""
    inputs = [InferInput("temperature", [3], "FP32"), InferInput("site", [3], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([30.0, 20.0, math.nan], np.float32), binary_data=True)
    inputs[1].set_data_from_numpy(np.array(["north", "south", "north"], object), binary_data=True)
    return InferRequest("devices", inputs)


async def over_rest(url: str) -> Any:
    """By the REST client, which asks first whether the model is ready."""
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "devices")
        answer = await client.infer(url, request(), model_name="devices")
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        rows = {"instances": [{"temperature": 30, "site": "north"}]}
        plain = await client.infer(url, rows, model_name="devices")
        assert plain["predictions"][0]["decision"] is True
    return answer


async def over_grpc(address: str) -> Any:
    """By the gRPC client."""
    async with InferenceGRPCClient(address) as client:
        assert await client.is_model_ready("devices")
        return await client.infer(request())


if __name__ == "__main__":
    asked = (
        over_rest(f"http://127.0.0.1:{sys.argv[2]}") if sys.argv[1] == "rest" else over_grpc(f"127.0.0.1:{sys.argv[2]}")
    )
    outputs = {output.name: output for output in asyncio.run(asked).outputs}
    print(json.dumps(outputs["score"].as_numpy().tolist()))
