"""Ask a served model: v2 inference requests over HTTP."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from kfp_lifecycle.serving.client import unverified
from kfp_lifecycle.serving.release.local.operations import Endpoint

TIMEOUT_SECONDS = 10.0


class InferenceError(Exception):
    """There is no answer; the message says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def entity_request(endpoint: Endpoint, entities: list[str]) -> dict[str, Any]:
    """A v2 request that names entities; their features come from the online store.

    Args:
        endpoint: The endpoint to ask; the first input of its metadata is the entity's key.
        entities: Keys, as typed.

    Raises:
        InferenceError: the endpoint does not answer.
    """
    key = _answer(lambda client: client.get(f"{endpoint.url}/v2/models/{endpoint.model}"))["inputs"][0]
    return {"inputs": [{"name": key["name"], "datatype": "BYTES", "shape": [len(entities)], "data": entities}]}


def read_request(file: Path) -> dict[str, Any]:
    """A v2 request from a file, or from standard input for `-`.

    Raises:
        InferenceError: the file is missing or holds no JSON object.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        request = json.loads(text)
    except OSError as error:
        raise InferenceError(f"{file}: {error.strerror}", 2) from error
    except ValueError as error:
        raise InferenceError(f"{file} holds no JSON: {error}", 2) from error
    if not isinstance(request, dict):
        raise InferenceError(f'{file} must hold a v2 request, {{"inputs": [...]}}, not a {type(request).__name__}', 2)
    return request


def infer(endpoint: Endpoint, request: dict[str, Any]) -> dict[str, Any]:
    """Send a v2 inference request.

    Raises:
        InferenceError: the server refused it, or does not answer.
    """
    return _answer(lambda client: client.post(f"{endpoint.url}/v2/models/{endpoint.model}/infer", json=request))


def _answer(send: Any) -> dict[str, Any]:
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, verify=unverified()) as client:
            response: httpx.Response = send(client)
    except httpx.HTTPError as error:
        raise InferenceError(
            f"the endpoint does not answer ({error or type(error).__name__}): start it with `lifecycle serve`", 1
        ) from error
    if response.is_error:
        raise InferenceError(f"the server refused the request ({response.status_code}): {_words(response)}", 1)
    answer: dict[str, Any] = response.json()
    return answer


def _words(response: httpx.Response) -> str:
    """What a server says of an error: the message in its JSON, or the whole text where it sent none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(response.json()["error"])
    return response.text
