"""Model server: the parts put together, in one process with one event loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from prometheus_client import REGISTRY

from kfp_lifecycle.config.log_policy import LogPolicy
from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_VARIABLE, digest
from kfp_lifecycle.serving.server.access import Access
from kfp_lifecycle.serving.server.api_keys import ApiKeys
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.feature_lookup import FeatureLookup
from kfp_lifecycle.serving.server.grpc_service import start_grpc
from kfp_lifecycle.serving.server.hold_out import HoldOut
from kfp_lifecycle.serving.server.http_protocol import Connections, Limits
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.predictor import Predictor
from kfp_lifecycle.serving.server.rate_limit import RateLimit
from kfp_lifecycle.serving.server.request_watch import RequestLog, Watch, Watches
from kfp_lifecycle.serving.server.rest import Rest
from kfp_lifecycle.serving.server.served_model import ServedModel
from kfp_lifecycle.serving.server.tls import Tls

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.traces import Traces

LOGGER = logging.getLogger(__name__)

# Seconds a request may still take when the server is told to stop.
GRACE_SECONDS = 10.0
SWITCH_SECONDS = 0.001
# Objects after which the collector looks for garbage.
MOST_UNLOOKED_AT = 20_000


class Server:
    """The parts of a server, put together."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """Load the model, and score once.

        Raises:
            ContractViolation: the folder holds no model that can be served, or the log's folder cannot be made.
        """
        self._asked = asked
        self._tls, self._access = _tls(asked), _access(asked)
        model = ServedModel(asked.model_dir)
        scorer = model.scorer()
        explainer = Explainer.of(asked.model_dir)
        most_explained = 0 if explainer is None else explainer.most_rows
        hold_out = HoldOut(asked.hold_out, asked.model_name) if asked.hold_out else None
        decoder = Decoder(
            model.features, model.entity_key, asked.max_rows, most_explained, hold_out, key_type=model.key_type
        )
        self._features = None
        if asked.online_store:
            self._features = FeatureLookup(asked.model_name, model.feature_repo, model.settings, asked.online_store)
        try:
            self._log = PredictionLog(
                asked.prediction_log,
                asked.model_name,
                asked.version,
                decoder.numeric,
                decoder.categorical,
                LogPolicy(
                    enabled=asked.log == "yes",
                    features=asked.log_features == "yes",
                    key=asked.log_key,
                    retention_days=asked.log_retention_days,
                    max_mb=asked.log_max_mb,
                ),
                caller_secret=digest(_shadow_token(asked.shadow_token_file)),
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
            explainer=explainer,
            expected_score=model.expected_score,
        )
        self._predictor.metrics.threshold = model.threshold
        if model.learned_until is not None:
            learned_until = datetime.fromisoformat(model.learned_until)
            self._predictor.metrics.learned_until = learned_until.replace(tzinfo=UTC)
        self._predictor.warm_up()
        REGISTRY.register(self._predictor.metrics)
        limits = Limits(body_bytes=asked.max_body_mb * 2**20)
        self._traces = _traces(asked)
        self._rest = Rest(
            self._predictor,
            limits.body_bytes,
            _shadow_token(asked.shadow_token_file),
            self._access,
            _watches(asked, self._traces),
        )
        self._doors = {asked.http_port: Connections(self._rest, self._rest.refused, limits)}
        if asked.shadow_port is not None:
            self._doors[asked.shadow_port] = Connections(self._rest.copy, self._rest.refused, limits)

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
            rest = [
                await loop.create_server(
                    connections,
                    asked.host,
                    port,
                    backlog=2_048,
                    start_serving=False,
                    ssl=None if self._tls is None else self._tls.context,
                )
                for port, connections in self._doors.items()
            ]
            grpc = await start_grpc(f"{asked.host}:{asked.grpc_port}", self._rest, self._tls)
            for listening in rest:
                await listening.start_serving()
        except OSError as error:
            raise ContractViolation(
                f"the server cannot listen on {asked.host}, ports {asked.http_port} (REST) and {asked.grpc_port} "
                f"(gRPC): {error}. Stop what listens there, or choose others (--http_port, --grpc_port)"
            ) from error
        # What stands now stays, and requests leave hardly any garbage that only the collector finds: it need not look
        # at the one again and again, nor often at what waits for the log.
        gc.freeze()
        gc.set_threshold(MOST_UNLOOKED_AT)
        gc.enable()
        LOGGER.info(
            "%s version %s answers on ports %d and %d",
            asked.model_name,
            asked.version,
            asked.http_port,
            asked.grpc_port,
        )
        # These import what nobody who waits for the server waits for.
        self._log.start()
        if self._features is not None:
            self._features.start()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            for connections in self._doors.values():
                connections.tick()
            self._log.revive()
            if self._access is not None:
                self._access.renew()
            if self._tls is not None:
                self._tls.renew()
        self._rest.is_ready = False
        doors = zip(self._doors.values(), rest, strict=True)
        draining = [connections.drain(GRACE_SECONDS, listening.close) for connections, listening in doors]
        await asyncio.gather(*draining, grpc.stop(GRACE_SECONDS))

    def close(self) -> None:
        """End the threads; the log writes what is waiting."""
        self._predictor.close()
        if self._features is not None:
            self._features.close()
        if self._access is not None:
            self._access.close()
        self._log.close()
        if self._traces is not None:
            self._traces.close()


def _shadow_token(file: Path | None) -> str:
    try:
        return os.environ.get(SHADOW_TOKEN_VARIABLE, "") if file is None else file.read_text("utf-8").strip()
    except OSError as error:
        raise ContractViolation(f"--shadow_token_file {file} cannot be read: {error.strerror}") from error


def _tls(asked: argparse.Namespace) -> Tls | None:
    if asked.tls_certificate is None and asked.tls_key is None:
        return None
    if asked.tls_certificate is None or asked.tls_key is None:
        raise ContractViolation("--tls_certificate and --tls_key are given together, or not at all")
    return Tls(asked.tls_certificate, asked.tls_key)


def _access(asked: argparse.Namespace) -> Access | None:
    keys = ApiKeys(asked.api_keys) if asked.api_keys else None
    limit = RateLimit(asked.requests_per_second, asked.burst) if asked.requests_per_second else None
    tokens = None
    if asked.oidc_issuer:
        if not asked.oidc_audience:
            raise ContractViolation("--oidc_issuer needs --oidc_audience: a token for somebody else is no key to this")
        # Few servers need it, and it takes as long to import as a third of the server.
        from kfp_lifecycle.serving.server.tokens import Tokens

        tokens = Tokens(asked.oidc_issuer, asked.oidc_audience, asked.oidc_keys)
    if keys is None and tokens is None and limit is None and not asked.trusted_proxies:
        return None
    return Access(keys, tokens, limit, asked.trusted_proxies)


def _traces(asked: argparse.Namespace) -> Traces | None:
    if not asked.traces:
        return None
    from kfp_lifecycle.serving.server.traces import Traces

    return Traces(asked.traces, asked.model_name, asked.version)


def _watches(asked: argparse.Namespace, traces: Traces | None) -> Watches | None:
    # The log names the trace, so it comes after.
    told: list[Watch] = [] if traces is None else [traces]
    if asked.log_requests == "yes":
        told.append(RequestLog())
    return Watches(told) if told else None


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
