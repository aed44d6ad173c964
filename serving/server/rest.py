"""REST routes: the Open Inference Protocol (v2), KServe's v1, probes, metrics and the OpenAPI document."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from urllib.parse import quote, unquote

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY

from kfp_lifecycle.serving.client import MISSING_HEADER, SHADOW_HEADER
from kfp_lifecycle.serving.server.access import Access
from kfp_lifecycle.serving.server.batch import PredictionRequest
from kfp_lifecycle.serving.server.description import (
    EXTENSIONS,
    PLATFORM,
    SERVER,
    inputs_of,
    openapi,
    outputs,
    parameters_of,
)
from kfp_lifecycle.serving.server.encoding import Encoder, refusal
from kfp_lifecycle.serving.server.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotPermitted,
    Refusal,
    Unauthenticated,
)
from kfp_lifecycle.serving.server.http_message import HttpRequest, HttpResponse
from kfp_lifecycle.serving.server.identifiers import header_id, made_up_id, plain_id
from kfp_lifecycle.serving.server.metrics_page import metrics_page
from kfp_lifecycle.serving.server.packing import unpacked
from kfp_lifecycle.serving.server.predictor import BYTES_AT_ONCE, Prediction, Predictor
from kfp_lifecycle.serving.server.request_watch import Answered, Watches

LOGGER = logging.getLogger(__name__)
BINARY = b"application/octet-stream"
JSON_LENGTH = b"inference-header-content-length"
TRACEPARENT = b"traceparent"
# Whom the log calls who knows the shadow token.
RELEASE = "release"
_SHADOW, _MISSING = SHADOW_HEADER.encode(), MISSING_HEADER.encode()
# Of v1, and as which protocol each is counted.
_VERBS = {"predict": "v1", "explain": "explain"}

Answer = HttpResponse | Awaitable[HttpResponse]
_json = msgspec.json.encode


class Rest:
    """Answers HTTP requests for one model."""

    def __init__(
        self,
        predictor: Predictor,
        most_body_bytes: int,
        shadow_token: str,
        access: Access | None = None,
        watches: Watches | None = None,
    ) -> None:
        """Set up the routes.

        Args:
            predictor: The model.
            most_body_bytes: What a body may hold when it is unpacked.
            shadow_token: What the header x-shadow must say for an answer to count as one that nobody acts on; empty:
                whatever it says, it is not believed.
            access: Who may ask, and how much; None: anybody, as much as there is.
            watches: Who is told of each request; None: nobody.
        """
        self.predictor, self.access, self.watches = predictor, access, watches
        self.is_ready = True
        self._most, self._shadow_token = most_body_bytes, shadow_token.encode()
        self._encoder = Encoder(predictor.name, predictor.version)
        self._version_header = b"x-model-version: %b\r\n" % quote(predictor.version).encode()
        name = quote(predictor.name, safe="")
        # Those that are asked for all the time, found by one look.
        self._hot = {
            f"/v2/models/{name}/infer".encode(): "v2",
            f"/v2/models/{name}/versions/{quote(predictor.version, safe='')}/infer".encode(): "v2",
            f"/v1/models/{name}:predict".encode(): "v1",
            f"/v1/models/{name}:explain".encode(): "explain",
        }
        # What probes ask, by this spelling alone: any other one of these paths needs what all others need.
        version = quote(predictor.version, safe="")
        states = (f"/v2/models/{name}/ready", f"/v2/models/{name}/versions/{version}/ready", f"/v1/models/{name}")
        self._open = {path.encode() for path in ("/", "/v2/health/live", "/v2/health/ready", "/metrics", *states)}
        self._metadata = _json(
            {
                "name": predictor.name,
                "versions": [predictor.version],
                "platform": PLATFORM,
                "inputs": inputs_of(predictor),
                "outputs": outputs(predictor),
                "parameters": parameters_of(predictor),
            }
        )
        described = _json(openapi(predictor))
        models = _json({"models": [predictor.name]})
        self._fixed: dict[str, Callable[[], HttpResponse]] = {
            "/": lambda: _plain({"status": "alive"}),
            "/v1/models": lambda: HttpResponse(200, models),
            "/v2": lambda: _plain({"name": SERVER, "version": "2", "extensions": EXTENSIONS}),
            "/v2/models": lambda: HttpResponse(200, models),
            "/v2/health/live": lambda: self._state("live", predictor.log.is_alive),
            "/v2/health/ready": lambda: self._state("ready", self.is_ready),
            "/metrics": lambda: HttpResponse(200, metrics_page(REGISTRY), CONTENT_TYPE_LATEST.encode()),
            "/openapi.json": lambda: HttpResponse(200, described),
        }

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer a request."""
        if self.access is not None and request.target not in self._open:
            return self._admitted(request, self.access)
        return self._answer(request)

    def copy(self, request: HttpRequest) -> Answer:
        """Answer a request that a front gives to this version too, and whose answer goes nowhere."""
        request.is_shadow = True
        return self(request)

    def _admitted(self, request: HttpRequest, access: Access) -> Answer:
        """Answer it where its client may ask. A release, which shares the shadow token, may."""
        try:
            if self.is_shadow(request.headers.get(_SHADOW)):
                client: str | None = RELEASE
            else:
                client = access.admit(request.headers, request.address)
            if client is None:
                return self._admitted_later(request, access)
        except Refusal as error:
            return self._not_admitted(error, request)
        request.client = client
        return self._answer(request)

    async def _admitted_later(self, request: HttpRequest, access: Access) -> HttpResponse:
        try:
            request.client = await access.admit_later(request.headers)
        except Refusal as error:
            return self._not_admitted(error, request)
        except Exception:
            LOGGER.exception("whether %s may ask is not known", request.address)
            return self._not_admitted(_Failure("the server failed; its log says why"), request)
        answer = self._answer(request)
        return answer if isinstance(answer, HttpResponse) else await answer

    def _not_admitted(self, error: Refusal, request: HttpRequest) -> HttpResponse:
        protocol = self._hot.get(request.target)
        response = self.refused(error, request)
        return response if protocol is None else self._counted(response, request, protocol)

    def _answer(self, request: HttpRequest) -> Answer:
        protocol = self._hot.get(request.target)
        if protocol is not None and request.method == b"POST":
            return self._infer(request, protocol)
        try:
            return self._routed(request)
        except Refusal as error:
            return self.refused(error, request)
        except Exception:
            LOGGER.exception("%r was not answered", request.target)
            return self.refused(_Failure("the server failed; its log says why"), request)

    # Everything else.

    def _routed(self, request: HttpRequest) -> Answer:
        path = unquote(request.target.partition(b"?")[0].decode("latin-1"))
        parts = path.removeprefix("/").split("/")
        # By the path as it is meant: no spelling of it leads elsewhere than the plain one.
        if any(part in (".", "..") for part in parts) or ("" in parts and path != "/"):
            raise NotFound("there is no such path")
        fixed = self._fixed.get(path)
        if fixed is not None:
            _expect(request, b"GET", b"HEAD")
            return fixed()
        match parts:
            case ["v2", "repository", *rest]:
                return self._repository(request, rest)
            case ["v2", "models", name, "versions", version, *rest]:
                self.check_model(name, version)
                return self._v2_model(request, rest)
            case ["v2", "models", name, *rest]:
                self.check_model(name)
                return self._v2_model(request, rest)
            case ["v1", "models", name]:
                return self._v1_model(request, name)
        raise NotFound("there is no such path; GET /openapi.json lists what there is")

    def _v1_model(self, request: HttpRequest, name: str) -> Answer:
        model, _, verb = name.partition(":")
        self.check_model(model)
        if verb in _VERBS:
            _expect(request, b"POST")
            return self._infer(request, _VERBS[verb])
        if verb:
            raise NotFound("a model of v1 has the verbs :predict and :explain")
        _expect(request, b"GET", b"HEAD")
        return _plain({"name": self.predictor.name, "ready": self.is_ready})

    def _v2_model(self, request: HttpRequest, rest: list[str]) -> Answer:
        if rest == ["infer"]:
            _expect(request, b"POST")
            return self._infer(request, "v2")
        if rest == ["ready"]:
            _expect(request, b"GET", b"HEAD")
            return self._state("ready", self.is_ready, name=self.predictor.name)
        if rest == []:
            _expect(request, b"GET", b"HEAD")
            return HttpResponse(200, self._metadata, headers=self._version_header)
        raise NotFound("a model has the paths /infer and /ready")

    def _repository(self, request: HttpRequest, parts: list[str]) -> HttpResponse:
        if parts == ["index"]:
            _expect(request, b"POST")
            model = {"name": self.predictor.name, "version": self.predictor.version, "state": "READY", "reason": ""}
            return HttpResponse(200, _json([model]))
        raise NotPermitted("this server serves one version of one model; a release loads and unloads, nobody else")

    def check_model(self, name: str, version: str = "") -> None:
        """Refuse another model or version.

        Raises:
            NotFound: it is not served here.
        """
        if name != self.predictor.name:
            raise NotFound(f"there is no such model here; there is {self.predictor.name}")
        if version and version != self.predictor.version:
            raise NotFound(f"{self.predictor.name} is served here in version {self.predictor.version}, no other")

    def _state(self, state: str, holds: bool, **more: str) -> HttpResponse:
        return HttpResponse(200 if holds else 503, _json({**more, state: holds}), headers=self._version_header)

    # Predictions.

    def _infer(self, request: HttpRequest, protocol: str) -> Answer:
        asked: PredictionRequest | None = None
        try:
            if len(request.body) > BYTES_AT_ONCE or b"content-encoding" in request.headers:
                return self._infer_later(request, protocol, None)
            asked = self._decoded(request, protocol)
            asked.caller = request.client or request.address
            prediction = self.predictor.predict_at_once(asked, request.began, self._is_shadow(request))
            if prediction is None:
                return self._infer_later(request, protocol, asked)
            return self._answered(request, protocol, prediction, self._encoded(protocol, prediction))
        except Exception as error:
            return self._failed(error, request, protocol, asked)

    async def _infer_later(self, request: HttpRequest, protocol: str, asked: PredictionRequest | None) -> HttpResponse:
        """What is large, or has to be looked up."""
        try:
            large = asked is None
            if asked is None:
                asked = await self.predictor.elsewhere(lambda: self._decoded(request, protocol))
                asked.caller = request.client or request.address
            prediction = await self.predictor.predict_later(asked, request.began, self._is_shadow(request))
            if large:
                encoded = await self.predictor.elsewhere(lambda: self._encoded(protocol, prediction))
            else:
                encoded = self._encoded(protocol, prediction)
            return self._answered(request, protocol, prediction, encoded)
        except Exception as error:
            return self._failed(error, request, protocol, asked)

    def _decoded(self, request: HttpRequest, protocol: str) -> PredictionRequest:
        try:
            body = unpacked(request.body, request.headers.get(b"content-encoding", b""), self._most)
            identifier = header_id(request.headers.get(b"x-request-id", b""))
            if protocol != "v2":
                asked = self.predictor.decoder.v1(body, identifier, explain=protocol == "explain")
                request.is_shadow |= self.is_shadow(asked.shadow.encode())
                return asked
            length = request.headers.get(JSON_LENGTH)
            if length is not None and not (length.isdigit() and len(length) < 12):
                raise InvalidRequest("inference-header-content-length must be a number of bytes")
            return self.predictor.decoder.v2(body, None if length is None else int(length), identifier)
        except Refusal:
            raise
        except Exception as error:
            # Nothing was scored yet: whatever it is, the request is what could not be read.
            LOGGER.exception("a request was not understood")
            raise InvalidRequest("the request cannot be read") from error

    def _is_shadow(self, request: HttpRequest) -> bool:
        return request.is_shadow or self.is_shadow(request.headers.get(_SHADOW))

    def is_shadow(self, header: bytes | None) -> bool:
        """Whether nobody acts on the answer: only who knows the token can say so."""
        return header is not None and self._shadow_token != b"" and compare_digest(header, self._shadow_token)

    def _encoded(self, protocol: str, prediction: Prediction) -> tuple[bytes, int | None]:
        if protocol == "v2":
            return self._encoder.v2(prediction)
        if protocol == "v1":
            return self._encoder.v1(prediction), None
        assert self.predictor.explainer is not None
        names = [feature.name for feature in self.predictor.model.features]
        return self._encoder.explanations(prediction, names, self.predictor.explainer), None

    def _answered(
        self, request: HttpRequest, protocol: str, prediction: Prediction, encoded: tuple[bytes, int | None]
    ) -> HttpResponse:
        body, json_length = encoded
        headers = b"x-request-id: %b\r\n%b" % (quote(prediction.request.id).encode(), self._version_header)
        kind = b"application/json"
        if json_length is not None:
            kind, headers = BINARY, headers + b"inference-header-content-length: %d\r\n" % json_length
        if prediction.request.missing is not None:
            headers += b"%b: %b\r\n" % (_MISSING, ",".join(map(quote, prediction.request.missing)).encode())
        self._count(request, protocol, 200, prediction.request.id, prediction.request.batch.rows)
        return HttpResponse(200, body, kind, headers)

    def refused(self, error: Refusal, request: HttpRequest | None) -> HttpResponse:
        """The answer to what is not answered: one shape for all."""
        header = b"" if request is None else request.headers.get(b"x-request-id", b"")
        identifier = error.request_id or plain_id(header_id(header)) or made_up_id()
        headers = b"x-request-id: %b\r\n%b" % (quote(identifier).encode(), self._version_header)
        if error.retry_after is not None:
            headers += b"retry-after: %d\r\n" % error.retry_after
        if isinstance(error, MethodNotAllowed):
            headers += b"allow: %b\r\n" % error.allowed.encode()
        elif isinstance(error, Unauthenticated):
            headers += b"www-authenticate: Bearer\r\n"
        return HttpResponse(
            error.status, refusal(str(error)), headers=headers, closes=error.closes, request_id=identifier
        )

    def _counted(self, response: HttpResponse, request: HttpRequest, protocol: str) -> HttpResponse:
        self._count(request, protocol, response.status, response.request_id, 0)
        return response

    def _count(self, request: HttpRequest, protocol: str, status: int, identifier: str, rows: int) -> None:
        shadow, seconds = self._is_shadow(request), time.perf_counter() - request.began
        self.predictor.metrics.observe_request(protocol, str(status), seconds, shadow)
        if self.watches is not None:
            traceparent = request.headers.get(TRACEPARENT, b"").decode("latin-1")
            client = request.client or request.address
            self.watches.answered(
                Answered(protocol, str(status), status >= 500, seconds, identifier, client, rows, traceparent)
            )

    def _failed(
        self, error: Exception, request: HttpRequest, protocol: str, asked: PredictionRequest | None
    ) -> HttpResponse:
        """The answer to a request for predictions that gets none."""
        if not isinstance(error, Refusal):
            LOGGER.exception("a request was not answered")
            error = _Failure("the server failed; its log says why")
        if asked is not None:
            error.request_id = asked.id
        return self._counted(self.refused(error, request), request, protocol)


class _Failure(Refusal):
    """The server's own fault."""


def _plain(content: object) -> HttpResponse:
    return HttpResponse(200, _json(content))


def _expect(request: HttpRequest, *methods: bytes) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(", ".join(method.decode() for method in methods))
