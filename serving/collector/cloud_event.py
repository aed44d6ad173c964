"""CloudEvents in HTTP's binary mode, of the two types that KServe's payload logger sends: a request, and its answer.

What the logger says is known from its source (kserve/kserve, `pkg/logger`): the content type is the request's in both,
there is neither path nor status, only answers with the status 200 are sent, and the `id` is the request's header
`ce-id` where a client sends one, so that it need not be of one request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from kfp_lifecycle.serving.server.errors import InvalidRequest, shown
from kfp_lifecycle.serving.server.http_message import HttpRequest

REQUEST, ANSWER = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


@dataclass(frozen=True, slots=True)
class Half:
    """A request, or its answer."""

    source: str
    """The pod."""
    id: str
    time: datetime
    is_answer: bool
    service: str
    """The InferenceService, which is called as its model."""
    headers: Mapping[str, str]
    """Those of the request that the logger was told to name, in small letters."""
    annotations: Mapping[str, str]
    """Those of the pod."""
    body: bytes


def half_of(request: HttpRequest) -> Half:
    """Read an event.

    Raises:
        InvalidRequest: it is none, or none of KServe's logger.
    """
    if _attribute(request, "specversion") != "1.0":
        raise InvalidRequest("this takes CloudEvents 1.0 in HTTP's binary mode, with ce-… headers")
    kind = _attribute(request, "type")
    if kind not in (REQUEST, ANSWER):
        raise InvalidRequest(f"events of the type {shown(kind)} are not for this: it takes those of KServe's logger")
    source, identifier = _attribute(request, "source"), _attribute(request, "id")
    if not source or not identifier:
        raise InvalidRequest("the event has no source, or no id")
    try:
        time = datetime.fromisoformat(_attribute(request, "time"))
    except ValueError as error:
        raise InvalidRequest(f"the event's time is {shown(_attribute(request, 'time'))}: it must be RFC 3339") from (
            error
        )
    if time.tzinfo is None:
        raise InvalidRequest("the event's time names no zone")
    return Half(
        source,
        identifier,
        time,
        kind == ANSWER,
        _attribute(request, "inferenceservicename"),
        {name.lower(): values[-1] for name, values in _object(request, "metadata", list[str]).items() if values},
        _object(request, "annotations", str),
        request.body,
    )


def _attribute(request: HttpRequest, name: str) -> str:
    """An attribute; the binding has all but printable ASCII in percents."""
    return unquote(request.headers.get(f"ce-{name}".encode(), b"").decode("latin-1"))


def _object(request: HttpRequest, name: str, kind: Any) -> dict[str, Any]:
    try:
        # The logger writes `null` where it was told to name none.
        return msgspec.json.decode(_attribute(request, name) or "{}", type=dict[str, kind] | None) or {}
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the event's {name} are no JSON of the logger's: {error}") from error
