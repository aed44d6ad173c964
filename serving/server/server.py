"""Model server: `python -m kfp_lifecycle.serving.server.server --model_dir DIR --model_name NAME --version V …`.

One version of one model, v1 and v2 over REST and v2 over gRPC. Run from the `code/` folder of a registered model, whose
modules fit that model whatever the library has become since.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from pathlib import Path

from kfp_lifecycle.config.log_policy import LogFormat, LoggedKey, LogPolicy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_FILE_VARIABLE, SHADOW_TOKEN_VARIABLE

LOGGER = logging.getLogger(__name__)

EVERY_ADDRESS = "0.0.0.0"


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
    parser.add_argument("--shadow_port", type=int, help="Port for copies of another version's REST requests.")
    parser.add_argument("--max_rows", type=int, default=10_000, help="Most rows in one request.")
    parser.add_argument("--max_body_mb", type=int, default=16, help="Largest body of a REST request.")
    parser.add_argument(
        "--shadow_token_file",
        type=Path,
        default=os.environ.get(SHADOW_TOKEN_FILE_VARIABLE) or None,
        help=f"Holds what the header x-shadow must say to be believed; by default {SHADOW_TOKEN_VARIABLE} does.",
    )
    parser.add_argument("--tls_certificate", type=Path, help="Chain of certificates in PEM; read again when renewed.")
    parser.add_argument("--tls_key", type=Path, help="Its private key in PEM.")
    parser.add_argument("--hold_out", type=float, default=0.0, help="Share of entities that nobody is to act upon.")
    access = parser.add_argument_group("access")
    access.add_argument("--api_keys", default="", help="File, or ${VARIABLE}, with a line client:key for each client.")
    access.add_argument("--oidc_issuer", default="", help="Issuer whose tokens are taken (OpenID Connect).")
    access.add_argument("--oidc_audience", default="", help="What such a token must be for.")
    access.add_argument("--oidc_keys", help="Address of its keys (JWKS); by default its discovery document says.")
    access.add_argument("--requests_per_second", type=float, help="Of one client, on average.")
    access.add_argument("--burst", type=int, default=20, help="Requests of one client that may come at once.")
    access.add_argument("--trusted_proxies", type=int, default=0, help="Proxies that add to x-forwarded-for.")
    told = parser.add_argument_group("log and traces")
    told.add_argument("--log_format", type=LogFormat, choices=list(LogFormat), default=LogFormat.text)
    told.add_argument("--log_requests", choices=("yes", "no"), default="no", help="Whether each request is a line.")
    told.add_argument("--traces", default="", help="OpenTelemetry collector that takes OTLP over HTTP.")
    log = parser.add_argument_group("the prediction log")
    log.add_argument("--prediction_log", required=True, help="Folder, or s3://, gs://, minio://, to write them to.")
    log.add_argument("--log", choices=("yes", "no"), default="yes", help="Whether anything is logged.")
    log.add_argument("--log_key", type=LoggedKey, choices=list(LoggedKey), default=LoggedKey.plain)
    log.add_argument("--log_features", choices=("yes", "no"), default="yes", help="Whether values are logged.")
    log.add_argument("--log_retention_days", type=int, default=LogPolicy.retention_days)
    log.add_argument("--log_max_mb", type=int, default=LogPolicy.max_mb)
    return parser


def main() -> None:
    """Serve what the command line says."""
    asked = arguments().parse_args()
    # What a server imports makes many objects and hardly any garbage; looking for it is a fifth of what a start takes.
    gc.disable()
    from kfp_lifecycle.runtime.secret_manager import resolve_references
    from kfp_lifecycle.serving.server.logs import start_logging
    from kfp_lifecycle.serving.server.model_server import serve

    log = start_logging(asked.log_format is LogFormat.json, asked.model_name, asked.version)
    try:
        resolve_references()
        serve(asked)
    except ContractViolation as error:
        LOGGER.critical("The server cannot start: %s", error)
        sys.exit(1)
    finally:
        log.stop()


if __name__ == "__main__":
    main()
