"""Model server: `python -m kfp_lifecycle.serving.server.server --model_dir DIR --model_name NAME --version V …`.

KServe's own server with one model, v1 and v2 over REST and gRPC. Run from the `code/` folder of a registered model,
whose modules fit that model whatever the library has become since.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import aio
from kserve import ModelServer, model_server
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from starlette.requests import Request

from kfp_lifecycle.modelling.scoring import ModelFolder
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.predictor import FeatureLookup, Predictor

EVERY_ADDRESS = "0.0.0.0"
# Seconds a request may still take when the server is told to stop.
GRACE_SECONDS = 10


def arguments() -> argparse.ArgumentParser:
    """KServe's arguments and ours."""
    parser = argparse.ArgumentParser(prog="kfp_lifecycle.serving.server.server", parents=[model_server.parser])
    parser.add_argument("--model_dir", type=Path, required=True, help="Model folder: model.onnx, model.json, …")
    parser.add_argument("--version", required=True, help="The model's version, part of every answer.")
    parser.add_argument("--online_store", default="", help="Feast online store; none: requests bring all features.")
    parser.add_argument("--prediction_log", type=Path, required=True, help="Folder predictions are written to.")
    parser.add_argument("--host", default=EVERY_ADDRESS, help="Address to listen on.")
    parser.add_argument("--max_rows", type=int, default=10_000, help="Most rows in one request.")
    return parser


class LifecycleServer(ModelServer):  # type: ignore[misc]
    """KServe's server on one address, with every malformed request answered as such."""

    def __init__(self, host: str, **settings: Any) -> None:
        super().__init__(**settings, enable_grpc=False, enable_latency_logging=False)
        self.host = host
        self.dataplane = StrictDataPlane(model_registry=self.registered_models)
        self.servers.append(self._serve_grpc())

    async def _serve(self) -> None:
        self._rest_server.config.host = self.host
        await super()._serve()

    async def _serve_grpc(self) -> None:
        # KServe's own gRPC server listens on every address, whatever it is told.
        server = aio.server(ThreadPoolExecutor(self.max_threads), interceptors=(ExceptionToStatusInterceptor(),))
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            InferenceServicer(self.dataplane, self.model_repository_extension), server
        )
        server.add_insecure_port(f"{self.host}:{self.grpc_port}")
        self._grpc_server = StoppableGrpc(server, self.grace_period)
        await server.start()
        await server.wait_for_termination()


class StoppableGrpc:
    """A gRPC server as `ModelServer.stop` expects it."""

    def __init__(self, server: aio.Server, grace_period: int) -> None:
        self._server = server
        self._grace_period = grace_period

    async def stop(self, sig: int | None = None) -> None:
        """Finish what is being answered, and end."""
        await self._server.stop(self._grace_period)


class StrictDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's decoding, where a body that cannot be read is the sender's error and not the server's."""

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Decode a body.

        Raises:
            InvalidInput: it cannot be decoded.
        """
        try:
            return super().decode(*args, **kwargs)
        except InvalidInput:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"the body is no inference request: {type(error).__name__} {error}") from error


async def refuse_malformed(_: Request, error: Exception) -> JSONResponse:
    """What FastAPI could not read, in words."""
    assert isinstance(error, RequestValidationError)
    found = []
    for detail in error.errors():
        if detail["type"] == "json_invalid":
            found.append(f"it is no JSON at character {detail['loc'][-1]} ({detail['ctx']['error']})")
            continue
        # A body may be JSON or binary; what is wrong with it as binary is not what the sender meant.
        place = [str(part) for part in detail["loc"] if part not in ("body", "InferenceRequest")]
        if "bytes" not in place:
            found.append(f"{'.'.join(place) or 'the body'}: {detail['msg']}")
    return JSONResponse(status_code=400, content={"error": "the request cannot be read: " + "; ".join(found)})


def worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record is worth a line: a refused request is not, the metrics count it; a failure is."""
    return not (record.exc_info and isinstance(record.exc_info[1], InvalidInput | ModelNotFound))


def quiet_kserve() -> None:
    """Leave out a line for each request, and the traceback of each refused one."""
    for name in ("kserve.trace", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(worth_a_line)
    # KServe's own choice of a response class, which nobody here can change.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")


def serve(asked: argparse.Namespace) -> None:
    """Load the model and answer requests until told to stop.

    Raises:
        ContractViolation: the folder holds no model that can be served.
    """
    model = ModelFolder(asked.model_dir)
    # A row takes microseconds: threads inside one request only get in the way of other requests.
    scorer = model.scorer(threads=1)
    decoder = Decoder(model.features, model.settings.entity.key, asked.max_rows)
    features = None
    if asked.online_store:
        features = FeatureLookup(asked.model_name, model.feature_repo, model.settings, asked.online_store)
    log = PredictionLog(asked.prediction_log, asked.model_name, asked.version)
    predictor = Predictor(
        name=asked.model_name,
        version=asked.version,
        scorer=scorer,
        threshold=model.threshold,
        decoder=decoder,
        log=log,
        features=features,
    )
    model_server.app.add_exception_handler(RequestValidationError, refuse_malformed)
    server = LifecycleServer(
        asked.host, http_port=asked.http_port, grpc_port=asked.grpc_port, grace_period=GRACE_SECONDS
    )
    quiet_kserve()
    try:
        server.start([predictor])
    finally:
        if features is not None:
            features.close()
        log.close()


def main() -> None:
    """Serve what the command line says."""
    try:
        serve(arguments().parse_args())
    except ContractViolation as error:
        sys.exit(f"The server cannot start: {error}")


if __name__ == "__main__":
    main()
