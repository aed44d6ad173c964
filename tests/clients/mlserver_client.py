"""MLServer's own types and codecs: `python mlserver_client.py URL` describes the model, asks for three rows and prints
their scores."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

import numpy as np
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RepositoryIndexResponse,
)


def answer(url: str, body: str | None = None) -> str:
    """What a server answers."""
    asked = urllib.request.Request(url, None if body is None else body.encode())
    with urllib.request.urlopen(asked) as response:
        return str(response.read().decode())


def refusal(url: str, body: str) -> bytes:
    """What a server answers to what cannot be answered."""
    try:
        raise AssertionError(f"not refused: {answer(url, body)}")
    except urllib.error.HTTPError as refused:
        return refused.read()


def main(url: str) -> None:
    """Ask for all that MLServer has types for."""
    model = MetadataModelResponse.model_validate_json(answer(f"{url}/v2/models/devices"))
    assert [tensor.name for tensor in model.inputs or []] == ["device_id", "temperature", "site"]
    assert MetadataServerResponse.model_validate_json(answer(f"{url}/v2")).name
    index = RepositoryIndexResponse.model_validate_json(answer(f"{url}/v2/repository/index", "{}"))
    assert [item.name for item in index.root] == ["devices"]
    request = InferenceRequest(
        id="mine",
        inputs=[
            NumpyCodec.encode_input("temperature", np.array([30.0, 20.0, np.nan])),
            StringCodec.encode_input("site", ["north", "south", "north"]),
        ],
    )
    text = request.model_dump_json(exclude_none=True)
    found = InferenceResponse.model_validate_json(answer(f"{url}/v2/models/devices/infer", text))
    assert (found.id, found.model_version) == ("mine", "1")
    assert InferenceErrorResponse.model_validate_json(refusal(f"{url}/v2/models/devices/infer", "{}")).error
    scores = {output.name: output for output in found.outputs}["score"]
    print(json.dumps(NumpyCodec.decode_output(scores).ravel().tolist()))


if __name__ == "__main__":
    main(sys.argv[1])
