"""Model server: `python -m kfp_lifecycle.serving.server.server --model_dir DIR --model_name NAME --version V …`.

One version of one model, v1 and v2 over REST and v2 over gRPC, in one process with one event loop. Run from the `code/`
folder of a registered model, whose modules fit that model whatever the library has become since.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop
from prometheus_client import REGISTRY

from kfp_lifecycle.config.deployment import LoggedKey, LogSettings
from kfp_lifecycle.modelling.scoring import ModelFolder
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.secret_manager import resolve_references
from kfp_lifecycle.serving.client import SHADOW_TOKEN_FILE_VARIABLE, SHADOW_TOKEN_VARIABLE
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.feature_lookup import FeatureLookup
from kfp_lifecycle.serving.server.grpc_service import start_grpc
from kfp_lifecycle.serving.server.http_protocol import Connections, Limits
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.predictor import Predictor
from kfp_lifecycle.serving.server.rest import Rest

EVERY_ADDRESS = "0.0.0.0"
# Seconds a request may still take when the server is told to stop.
GRACE_SECONDS = 10.0
SWITCH_SECONDS = 0.001


def arguments() -> argparse.ArgumentParser:
    """What the server is told."""
    parser = argparse.ArgumentParser(prog="kfp_lifecycle.serving.server.server")
    parser.add_argument("--model_dir", type=Path, required=True, help="Model folder: model.onnx, model.json, …")
    parser.add_argument("--model_name", required=True, help="The model's name, as clients ask for it.")
    parser.add_argument("--version", required=True, help="The model's version, part of every answer.")
    parser.add_argument("--online_store", default="", help="Feast online store; none: requests bring all features.")
    parser.add_argument("--host", default=EVERY_ADDRESS, help="Address to listen on.")
    parser.add_argument("--http_port", type=int, default=8080, help="Port for REST.")
    parser.add_argument("--grpc_port", type=int, default=8081, help="Port for gRPC.")
    parser.add_argument("--max_rows", type=int, default=10_000, help="Most rows in one request.")
    parser.add_argument("--max_body_mb", type=int, default=16, help="Largest body of a REST request.")
    parser.add_argument(
        "--shadow_token_file",
        type=Path,
        default=os.environ.get(SHADOW_TOKEN_FILE_VARIABLE) or None,
        help=f"Holds what the header x-shadow must say to be believed; by default {SHADOW_TOKEN_VARIABLE} does.",
    )
    log = parser.add_argument_group("the prediction log")
    log.add_argument("--prediction_log", required=True, help="Folder, or s3://, gs://, minio://, to write them to.")
    log.add_argument("--log", choices=("yes", "no"), default="yes", help="Whether anything is logged.")
    log.add_argument("--log_key", type=LoggedKey, choices=list(LoggedKey), default=LoggedKey.plain)
    log.add_argument("--log_features", choices=("yes", "no"), default="yes", help="Whether values are logged.")
    log.add_argument("--log_retention_days", type=int, default=LogSettings().retention_days)
    log.add_argument("--log_max_mb", type=int, default=LogSettings().max_mb)
    return parser


class Server:
    """The parts of a server, put together."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """Load the model, and score once.

        Raises:
            ContractViolation: the folder holds no model that can be served, or the log's folder cannot be made.
        """
        self._asked = asked
        model = ModelFolder(asked.model_dir)
        # A row takes microseconds: threads inside one request only get in the way of other requests.
        scorer = model.scorer(threads=1)
        decoder = Decoder(model.features, model.entity_key, asked.max_rows)
        self._features = None
        if asked.online_store:
            kept = model.description.settings
            self._features = FeatureLookup(asked.model_name, model.feature_repo, kept, asked.online_store)
        try:
            self._log = PredictionLog(
                asked.prediction_log,
                asked.model_name,
                asked.version,
                decoder.numeric,
                decoder.categorical,
                LogSettings(
                    enabled=asked.log == "yes",
                    features=asked.log_features == "yes",
                    key=asked.log_key,
                    retention_days=asked.log_retention_days,
                    max_mb=asked.log_max_mb,
                ),
            )
        except OSError as error:
            raise ContractViolation(
                f"the prediction log {asked.prediction_log} cannot be made ({error.strerror}): give --prediction_log a "
                "folder that this server may write to"
            ) from error
        self._predictor = Predictor(
            name=asked.model_name,
            version=asked.version,
            model=scorer,
            threshold=model.threshold,
            decoder=decoder,
            log=self._log,
            features=self._features,
        )
        self._predictor.warm_up()
        REGISTRY.register(self._predictor.metrics)
        limits = Limits(body_bytes=asked.max_body_mb * 2**20)
        self._rest = Rest(self._predictor, limits.body_bytes, _shadow_token(asked.shadow_token_file))
        self._connections = Connections(self._rest, self._rest.refused, limits)

    async def serve(self) -> None:
        """Answer requests until told to stop, then what has begun.

        Raises:
            ContractViolation: a port is taken.
        """
        asked, loop = self._asked, asyncio.get_running_loop()
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        try:
            rest = await loop.create_server(
                self._connections, asked.host, asked.http_port, backlog=2_048, start_serving=False
            )
            grpc = await start_grpc(f"{asked.host}:{asked.grpc_port}", self._rest)
            await rest.start_serving()
        except OSError as error:
            raise ContractViolation(
                f"the server cannot listen on {asked.host}, ports {asked.http_port} (REST) and {asked.grpc_port} "
                f"(gRPC): {error}. Stop what listens there, or choose others (--http_port, --grpc_port)"
            ) from error
        # What stands now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        print(f"{asked.model_name} version {asked.version} answers on ports {asked.http_port} and {asked.grpc_port}")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            self._connections.tick()
            self._log.revive()
        self._rest.is_ready = False
        rest.close()
        await asyncio.gather(self._connections.drain(GRACE_SECONDS), grpc.stop(GRACE_SECONDS))

    def close(self) -> None:
        """End the threads; the log writes what is waiting."""
        self._predictor.close()
        if self._features is not None:
            self._features.close()
        self._log.close()


def _shadow_token(file: Path | None) -> str:
    try:
        return os.environ.get(SHADOW_TOKEN_VARIABLE, "") if file is None else file.read_text("utf-8").strip()
    except OSError as error:
        raise ContractViolation(f"--shadow_token_file {file} cannot be read: {error.strerror}") from error


def serve(asked: argparse.Namespace) -> None:
    """Load the model and answer requests until told to stop.

    Raises:
        ContractViolation: there is no model that can be served, or no address to serve it on.
    """
    server = Server(asked)
    # How long a thread with a large batch may keep the interpreter from the event loop.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvloop.run(server.serve())
    finally:
        server.close()


def main() -> None:
    """Serve what the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        resolve_references()
        serve(arguments().parse_args())
    except ContractViolation as error:
        sys.exit(f"The server cannot start: {error}")


if __name__ == "__main__":
    main()
