"""gRPC service: the Open Inference Protocol (v2), grpc.health.v1 and reflection, by the same code as REST."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, unquote

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kfp_lifecycle.serving.client import MISSING_HEADER, SHADOW_HEADER
from kfp_lifecycle.serving.server import inference_pb2 as messages
from kfp_lifecycle.serving.server.batch import PredictionRequest
from kfp_lifecycle.serving.server.description import EXTENSIONS, PLATFORM, SERVER, inputs_of, outputs
from kfp_lifecycle.serving.server.encoding import Encoder
from kfp_lifecycle.serving.server.errors import InvalidRequest, NotPermitted, Refusal
from kfp_lifecycle.serving.server.identifiers import MOST_ID_CHARACTERS, made_up_id
from kfp_lifecycle.serving.server.predictor import BYTES_AT_ONCE
from kfp_lifecycle.serving.server.request_watch import Answered
from kfp_lifecycle.serving.server.rest import RELEASE, TRACEPARENT, Rest
from kfp_lifecycle.serving.server.tls import Tls

LOGGER = logging.getLogger(__name__)
SERVICE = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
INFER = "ModelInfer"
MESSAGE_BYTES = 8 * 2**20
MOST_CALLS = 1_000

# What probes ask, and what describes the protocol: whoever may not ask the model may ask these.
OPEN = frozenset({"ServerLive", "ServerReady", "ModelReady"})
# Who asks, in the task of a call.
CLIENT: ContextVar[str] = ContextVar("client", default="")

Context = aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Any]]
Metadata = tuple[tuple[str, str], ...]


class GrpcService:
    """Answers gRPC requests for one model."""

    def __init__(self, rest: Rest) -> None:
        """Set up the methods.

        Args:
            rest: The same model over REST: what is ready there is ready here.
        """
        self._rest, self._predictor = rest, rest.predictor
        self._encoder = Encoder(self._predictor.name, self._predictor.version)

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, as a gRPC server takes it."""
        methods: dict[str, Method] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            INFER: self._infer,
            "RepositoryModelLoad": self._repository,
            "RepositoryModelUnload": self._repository,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE.full_name,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._refusing(name, method if name in OPEN else self._admitted(method)),
                    response_serializer=getattr(
                        messages, SERVICE.methods_by_name[name].output_type.name
                    ).SerializeToString,
                )
                for name, method in methods.items()
            },
        )

    def _admitted(self, method: Method) -> Method:
        """A method that only those may ask who have access. A release, which shares the shadow token, has."""
        access = self._rest.access
        if access is None:
            return method

        async def answer(request: Any, context: Context) -> Any:
            began, headers, client = time.perf_counter(), _headers(context), ""
            try:
                if self._rest.is_shadow(headers.get(SHADOW_HEADER.encode())):
                    client = RELEASE
                else:
                    client = access.admit(headers, _address(context)) or await access.admit_later(headers)
            except Refusal as error:
                if method == self._infer:
                    self._count(context, error.grpc_code, began, False)
                raise
            CLIENT.set(client)
            return await method(request, context)

        return answer

    def _refusing(self, name: str, method: Method) -> Method:
        """A method that is given its message read, and whose refusals are gRPC's and name request and version, as every
        answer does. What is no message is the sender's error; gRPC itself would call it its own."""
        kind = getattr(messages, SERVICE.methods_by_name[name].input_type.name)

        async def answer(content: bytes, context: Context) -> Any:
            request, began = None, time.perf_counter()
            try:
                try:
                    request = kind.FromString(content)
                except DecodeError as error:
                    if name == INFER:
                        self._count(context, InvalidRequest.grpc_code, began, False)
                    raise InvalidRequest(f"these bytes are no {kind.DESCRIPTOR.full_name}") from error
                return await method(request, context)
            except Refusal as error:
                given = getattr(request, "id", "") or _headers(context).get(b"x-request-id", b"").decode("latin-1")
                told = [*self._version(), ("x-request-id", quote(given[:MOST_ID_CHARACTERS] or made_up_id()))]
                if error.retry_after is not None:
                    told.append(("retry-after", str(error.retry_after)))
                context.set_trailing_metadata(tuple(told))
                await context.abort(grpc.StatusCode[error.grpc_code], str(error))
            except aio.AbortError:
                raise
            except Exception:
                LOGGER.exception("a request was not answered")
                await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log says why")

        return answer

    async def _live(self, _: object, context: Context) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=self._predictor.log.is_alive)

    async def _ready(self, _: object, context: Context) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=self._rest.is_ready)

    async def _model_ready(self, asked: messages.ModelReadyRequest, context: Context) -> messages.ModelReadyResponse:
        self._rest.check_model(asked.name, asked.version)
        return messages.ModelReadyResponse(ready=self._rest.is_ready)

    async def _server_metadata(self, _: object, context: Context) -> messages.ServerMetadataResponse:
        return messages.ServerMetadataResponse(name=SERVER, version="2", extensions=EXTENSIONS)

    async def _model_metadata(
        self, asked: messages.ModelMetadataRequest, context: Context
    ) -> messages.ModelMetadataResponse:
        self._rest.check_model(asked.name, asked.version)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        return messages.ModelMetadataResponse(
            name=self._predictor.name,
            versions=[self._predictor.version],
            platform=PLATFORM,
            inputs=[tensor(**item) for item in inputs_of(self._predictor)],
            outputs=[tensor(**item) for item in outputs(self._predictor)],
        )

    async def _repository(self, _: object, context: Context) -> None:
        raise NotPermitted("this server serves one version of one model; a release loads and unloads, nobody else")

    async def _infer(self, asked: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        began, code, shadow = time.perf_counter(), "INTERNAL", False
        predictor, identifier, rows = self._predictor, "", 0
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        try:
            self._rest.check_model(asked.model_name, asked.model_version)
            shadow = self._rest.is_shadow(str(metadata.get(SHADOW_HEADER, "")).encode())
            identifier = metadata.get("x-request-id", "")
            if asked.ByteSize() > BYTES_AT_ONCE:
                request = await predictor.elsewhere(lambda: self._decoded(asked, identifier))
            else:
                request = self._decoded(asked, identifier)
            identifier, rows = request.id, request.batch.rows
            request.caller = CLIENT.get() or _address(context)
            prediction = predictor.predict_at_once(request, began, shadow)
            if prediction is None:
                prediction = await predictor.predict_later(request, began, shadow)
            told = [*self._version(), ("x-request-id", quote(request.id))]
            if request.missing is not None:
                told.append((MISSING_HEADER, ",".join(map(quote, request.missing))))
            context.set_trailing_metadata(tuple(told))
            answer = self._encoder.grpc(prediction, raw=bool(asked.raw_input_contents))
            code = "OK"
            return answer
        except Refusal as error:
            code = error.grpc_code
            raise
        finally:
            self._count(context, code, began, shadow, identifier, rows)

    def _count(
        self, context: Context, code: str, began: float, shadow: bool, identifier: str = "", rows: int = 0
    ) -> None:
        seconds = time.perf_counter() - began
        self._predictor.metrics.observe_request("grpc", code, seconds, shadow)
        if self._rest.watches is not None:
            traceparent = _headers(context).get(TRACEPARENT, b"").decode("latin-1")
            client = CLIENT.get() or _address(context)
            self._rest.watches.answered(
                Answered("grpc", code, code == "INTERNAL", seconds, identifier, client, rows, traceparent)
            )

    def _decoded(self, asked: messages.ModelInferRequest, identifier: str) -> PredictionRequest:
        try:
            return self._predictor.decoder.grpc(asked, identifier)
        except Refusal:
            raise
        except Exception as error:
            LOGGER.exception("a request was not understood")
            raise InvalidRequest("the request cannot be read") from error

    def _version(self) -> Metadata:
        return (("x-model-version", quote(self._predictor.version)),)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1."""

    def __init__(self, rest: Rest) -> None:
        """Note whose health it is."""
        self._rest = rest
        self._names = ("", SERVICE.full_name, rest.predictor.name)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """Whether the server, the service or the model may be asked."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such service; there is {SERVICE.full_name}")
        state = health_pb2.HealthCheckResponse
        return state(status=state.SERVING if self._rest.is_ready else state.NOT_SERVING)


class Reflection(grpc.GenericRpcHandler):
    """gRPC's reflection, imported when it is first asked for: few do, and it takes as long as half the server."""

    NAME = "grpc.reflection.v1alpha.ServerReflection"

    def __init__(self) -> None:
        self._handler: grpc.RpcMethodHandler[Any, Any] | None = None

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """What answers a call; None for one of another service."""
        if call.method != f"/{self.NAME}/ServerReflectionInfo":
            return None
        if self._handler is None:
            from grpc_reflection.v1alpha import reflection, reflection_pb2
            from grpc_reflection.v1alpha._async import ReflectionServicer

            names = (SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            self._handler = grpc.stream_stream_rpc_method_handler(
                ReflectionServicer((*names, reflection.SERVICE_NAME)).ServerReflectionInfo,
                request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        return self._handler


def _headers(context: Context) -> dict[bytes, bytes]:
    """A call's metadata, as headers are."""
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in context.invocation_metadata() or ()
    }


def _address(context: Context) -> str:
    """Where a call comes from, without the port: gRPC says `ipv4:192.0.2.1:50000`, `ipv6:%5B::1%5D:50000`."""
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")


async def start_grpc(address: str, rest: Rest, tls: Tls | None) -> aio.Server:
    """Listen.

    Args:
        address: Host and port.
        rest: The same model over REST.
        tls: The server's certificate; None: connections are in the clear.

    Raises:
        OSError: the address cannot be had.
    """
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # Another server on the same port is a mistake, and would get a part of the requests without a word.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=MOST_CALLS,
    )
    server.add_generic_rpc_handlers((GrpcService(rest).handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(rest), server)
    server.add_generic_rpc_handlers((Reflection(),))
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, tls.grpc_credentials())
    except RuntimeError as error:
        await server.stop(None)
        raise OSError(f"gRPC cannot listen on {address}: is the port taken?") from error
    await server.start()
    return server
