"""Access: who may ask, how much, what log and traces are told of it; over HTTP and gRPC, in the clear and by TLS."""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import jwt
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kfp_lifecycle.artifacts.prediction_log import hashed_caller
from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.model_server import ModelServer
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Answer, Client, digest
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.server import inference_pb2 as messages
from kfp_lifecycle.serving.server.api_keys import ApiKeys
from kfp_lifecycle.serving.server.model_server import Server
from kfp_lifecycle.serving.server.server import arguments
from tests.devices import GOOD, INFER
from tests.prediction_logs import read_log

BURST = 4
AUDIENCE = "devices"
SHADOW_TOKEN = "shared with releases"
KEYS = {name: f"{name}-0123456789abcdef" for name in ("anna", "ben", "cleo", "dora", "emil", "frida", "gus")}
UNTIL_SECONDS = 60.0


@dataclass
class Issuer:
    """An OIDC issuer, and a collector of traces: what the server asks and tells over HTTP."""

    port: int
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    spans: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def token(self, key: str = "first", **claims: Any) -> str:
        """A good token, but for what is said otherwise."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "tess", "exp": now + 600}
        content = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(content, self.keys[key], "RS256", headers={"kid": key})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/.well-known/openid-configuration":
                self.say({"issuer": known.url, "jwks_uri": f"{known.url}/keys"})
            else:
                self.say({"keys": [published(name, key) for name, key in known.keys.items() if name != "stranger"]})

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
                known.spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.say({})

        def say(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    known = Issuer(server.server_port)
    for name in ("first", "stranger"):
        known.keys[name] = rsa.generate_private_key(65_537, 2048)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


def published(name: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# who may ask\n" + "".join(f"{name}:{key}\n" for name, key in KEYS.items()))
    return file


@pytest.fixture(scope="module")
def guarded(
    model: Path, issuer: Issuer, keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrialServer]:
    """A server as a configuration asks for it."""
    asked = ModelServer.model_validate(
        {
            "api_keys": str(keys_file),
            "oidc": {"issuer": issuer.url, "audience": AUDIENCE},
            "rate_limit": {"per_second": 0.01, "burst": BURST},
            "log_format": "json",
            "log_requests": True,
            "traces": issuer.url,
        }
    )
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(SHADOW_TOKEN)
    # Spans are sent soon, so that the test need not wait for them.
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    try:
        with TrialServer(
            model, "devices", "1", folder / "log", shadow_token_file=folder / "token", **asked.arguments()
        ) as running:
            yield running
    finally:
        del os.environ["OTEL_BSP_SCHEDULE_DELAY"]


def ask(server: TrialServer, **headers: str) -> Answer:
    with server.client() as client:
        return client.post(INFER, GOOD, {name.replace("_", "-"): value for name, value in headers.items()})


def ask_grpc(server: TrialServer, method: str = "ModelInfer", **metadata: str) -> Any:
    request = {
        "ModelInfer": messages.ModelInferRequest(
            model_name="devices",
            inputs=[
                messages.ModelInferRequest.InferInputTensor(
                    name="temperature",
                    datatype="FP64",
                    shape=[1],
                    contents=messages.InferTensorContents(fp64_contents=[1]),
                ),
                messages.ModelInferRequest.InferInputTensor(
                    name="site",
                    datatype="BYTES",
                    shape=[1],
                    contents=messages.InferTensorContents(bytes_contents=[b"north"]),
                ),
            ],
        ),
        "ServerReady": messages.ServerReadyRequest(),
    }[method]
    with grpc.insecure_channel(f"{LOOPBACK}:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(messages, f"{method}Response").FromString,
        )
        return call(request, metadata=[(name.replace("_", "-"), value) for name, value in metadata.items()], timeout=30)


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + UNTIL_SECONDS
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come")


@pytest.mark.parametrize(
    "path", ["/", "/v2/health/live", "/v2/health/ready", "/v2/models/devices/ready", "/v1/models/devices", "/metrics"]
)
def test_probes_and_metrics_need_no_key(guarded: TrialServer, path: str) -> None:
    with guarded.client() as client:
        assert [client.get(path).status for _ in range(2 * BURST)] == [200] * 2 * BURST


@pytest.mark.parametrize("path", ["/v2/models/devices", "/openapi.json", "/v2/models/devices/%72eady", "/nowhere"])
def test_all_else_needs_one_however_the_path_is_written(guarded: TrialServer, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status == 401


def test_a_client_asks_by_its_key(guarded: TrialServer) -> None:
    assert ask(guarded, x_api_key=KEYS["anna"]).status == 200
    assert ask_grpc(guarded, x_api_key=KEYS["anna"]).model_version == "1"


def test_a_client_asks_by_a_token_of_the_issuer(guarded: TrialServer, issuer: Issuer) -> None:
    token = f"Bearer {issuer.token(sub='rest')}"
    assert [ask(guarded, authorization=token).status for _ in range(2)] == [200, 200]
    assert ask_grpc(guarded, authorization=f"bearer {issuer.token(sub='grpc')}").model_version == "1"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"aud": "another"}, "udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://elsewhere"}, "ssuer"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"key": "stranger"}, "signed by a key"),
    ],
)
def test_a_token_that_is_not_for_here_is_not_taken(
    guarded: TrialServer, issuer: Issuer, claims: dict[str, Any], words: str
) -> None:
    answer = ask(guarded, authorization=f"Bearer {issuer.token(**claims)}")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert words in answer.json()["error"]


def test_a_token_signed_by_a_published_key_as_if_it_were_a_password_is_not_taken(
    guarded: TrialServer, issuer: Issuer
) -> None:
    pem = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    body = base64url({"iss": issuer.url, "aud": AUDIENCE, "sub": "eve", "exp": int(time.time()) + 600})
    for algorithm in ("HS256", "none"):
        signed = f"{base64url({'alg': algorithm, 'kid': 'first', 'typ': 'JWT'})}.{body}"
        mac = hmac.digest(pem, signed.encode(), "sha256") if algorithm == "HS256" else b""
        token = f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert ask(guarded, authorization=f"Bearer {token}").status == 401


def base64url(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_api_key": "anna"},
        {"x_api_key": KEYS["anna"] + " x"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer rubbish"},
        {"authorization": "Bearer " + "a." * 2_000},
        {"x_shadow": "guessed"},
    ],
)
def test_whoever_is_nobody_is_not_answered(guarded: TrialServer, headers: dict[str, str]) -> None:
    answer = ask(guarded, **headers)
    assert answer.status == 401
    assert list(answer.json()) == ["error"]
    with pytest.raises(grpc.RpcError) as refused:
        ask_grpc(guarded, **headers)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_probes_over_grpc_need_no_key(guarded: TrialServer) -> None:
    assert ask_grpc(guarded, "ServerReady").ready


def test_a_release_asks_by_the_token_that_it_shares_and_as_much_as_it_likes(guarded: TrialServer) -> None:
    assert {ask(guarded, x_shadow=SHADOW_TOKEN).status for _ in range(3 * BURST)} == {200}
    assert ask_grpc(guarded, x_shadow=SHADOW_TOKEN).model_version == "1"


def test_a_client_that_asks_too_much_is_told_when_to_come_again_and_others_are_answered(guarded: TrialServer) -> None:
    statuses = [ask(guarded, x_api_key=KEYS["ben"]).status for _ in range(BURST + 2)]
    assert statuses == [200] * BURST + [429, 429]
    answer = ask(guarded, x_api_key=KEYS["ben"])
    assert 1 <= int(answer.headers["retry-after"]) <= 100
    with pytest.raises(grpc.RpcError) as refused:
        ask_grpc(guarded, x_api_key=KEYS["ben"])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert {"retry-after", "x-request-id", "x-model-version"} <= dict(refused.value.trailing_metadata()).keys()
    assert ask(guarded, x_api_key=KEYS["cleo"]).status == 200


def test_keys_are_read_again_when_their_file_changes(guarded: TrialServer, keys_file: Path) -> None:
    before, added = keys_file.read_text(), "zoe-0123456789abcdef"
    keys_file.with_suffix(".new").write_text(f"{before}zoe:{added}\n")
    keys_file.with_suffix(".new").rename(keys_file)
    until(lambda: ask(guarded, x_api_key=added).status in (200, 429), "the new key")
    keys_file.write_text("no key at all")
    keys_file.with_suffix(".new").write_text(before)
    keys_file.with_suffix(".new").rename(keys_file)
    until(lambda: ask(guarded, x_api_key=added).status == 401, "the end of the key")
    assert ask(guarded, x_api_key=KEYS["dora"]).status == 200


def test_a_request_is_a_span_of_the_client_s_trace(guarded: TrialServer, issuer: Issuer) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    asked = ask(guarded, x_api_key=KEYS["emil"], traceparent=f"00-{trace}-{parent}-01", x_request_id="traced")
    assert asked.status == 200
    found = until(lambda: [span for span in issuer.spans if span.trace_id.hex() == trace], "the span")
    (span,) = found
    attributes = {item.key: item.value for item in span.attributes}
    assert (span.name, span.parent_span_id.hex()) == ("v2 infer", parent)
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["request.id"].string_value == "traced"
    assert span.end_time_unix_nano > span.start_time_unix_nano


def test_each_request_is_a_line_of_json_with_id_client_and_trace(guarded: TrialServer) -> None:
    for header in ({"x_request_id": "logged"}, {"x_request_id": 'quoted "and broken\\'}):
        assert ask(guarded, x_api_key=KEYS["frida"], **header).status == 200
    ask_grpc(guarded, x_api_key=KEYS["frida"], x_request_id="over grpc")
    ask(guarded, x_request_id="of nobody")

    def lines() -> dict[str, dict[str, Any]] | None:
        whole = guarded.output().rpartition("\n")[0].splitlines()
        found = {line.get("request_id", ""): line for line in map(json.loads, whole)}
        return found if "of nobody" in found else None

    told = until(lines, "the lines")
    good = told["logged"]
    assert (good["client"], good["code"], good["rows"], good["protocol"]) == ("frida", "200", 1, "v2")
    assert (good["model"], good["model_version"], good["level"]) == ("devices", "1", "INFO")
    assert len(good["trace_id"]) == 32
    assert 'quoted "and broken\\' in told
    assert (told["over grpc"]["client"], told["over grpc"]["code"]) == ("frida", "OK")
    assert (told["of nobody"]["client"], told["of nobody"]["code"]) == (LOOPBACK, "401")

    def callers() -> dict[str, str] | None:
        try:
            found = {row["request_id"]: row["caller"] for row in read_log(guarded.prediction_log)}
        except (pa.ArrowException, OSError):
            return None
        return found if {"logged", "over grpc"} <= found.keys() else None

    logged, frida = until(callers, "the predictions"), hashed_caller(digest(SHADOW_TOKEN).encode(), "frida")
    assert (logged["logged"], logged["over grpc"]) == (frida, frida)


def test_without_keys_each_address_is_a_client_as_the_trusted_proxy_saw_it(model: Path, tmp_path: Path) -> None:
    asked = ModelServer.model_validate({"rate_limit": {"per_second": 0.01, "burst": 1}, "trusted_proxies": 1})
    with TrialServer(model, "devices", "1", tmp_path / "log", **asked.arguments()) as running:
        assert ask(running, x_forwarded_for="192.0.2.1").status == 200
        assert ask(running, x_forwarded_for="192.0.2.9, 192.0.2.1").status == 429
        assert ask(running, x_forwarded_for="192.0.2.1, 192.0.2.2").status == 200
        assert ask(running).status == 200
    callers = [row["caller"] for row in read_log(tmp_path / "log")]
    assert len(set(callers)) == len(callers) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_keys": "/nowhere"}, "cannot be read"),
        ({"api_keys": "${NO_SUCH_VARIABLE}"}, "is not set"),
        ({"oidc_issuer": "https://issuer.example"}, "needs --oidc_audience"),
        ({"tls_key": "/nowhere"}, "given together"),
        ({"tls_key": "/nowhere", "tls_certificate": "/nowhere"}, "cannot be used"),
    ],
)
def test_a_setting_that_would_leave_the_door_open_ends_the_server(
    model: Path, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    told = {"model_dir": model, "model_name": "devices", "version": "1", "prediction_log": tmp_path, **settings}
    with pytest.raises(ContractViolation, match=words):
        Server(arguments().parse_args([f"--{name}={value}" for name, value in told.items()]))


@pytest.mark.parametrize("line", ["anna", "anna:short", ":0123456789abcdef", "anna:0123 456789abcdef", "# none"])
def test_a_key_that_could_be_guessed_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"{line}\n")
    with pytest.raises(ContractViolation, match="client:key"):
        ApiKeys(str(tmp_path / "keys"))


def certificate(folder: Path, number: int) -> bytes:
    """A new certificate of this machine's address, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.key").write_bytes(private)
    (folder / "tls.crt").write_bytes(public)
    return public


class TlsServer(TrialServer):
    """A server that is asked by TLS."""

    def client(self) -> Client:
        context = ssl.create_default_context(cafile=str(self.settings["tls_certificate"]))
        return Client(self.http_port, "localhost", timeout=30, tls=context)

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            with self.client() as client:
                return client.get("/v2/health/ready").status == 200

        until(ready, "the server")


def serial(port: int) -> int:
    """Of the certificate that a server shows."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((LOOPBACK, port)).encode()).serial_number


@pytest.mark.slow
def test_tls_over_http_and_grpc_with_a_certificate_that_is_renewed(model: Path, tmp_path: Path) -> None:
    shown = certificate(tmp_path, 1)
    files = {"tls_certificate": tmp_path / "tls.crt", "tls_key": tmp_path / "tls.key"}
    with TlsServer(model, "devices", "1", tmp_path / "log", **files) as running:
        assert ask(running).status == 200
        credentials = grpc.ssl_channel_credentials(shown)
        with grpc.secure_channel(f"localhost:{running.grpc_port}", credentials) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerReady",
                request_serializer=messages.ServerReadyRequest.SerializeToString,
                response_deserializer=messages.ServerReadyResponse.FromString,
            )
            assert call(messages.ServerReadyRequest(), timeout=30).ready
        with Client(running.http_port) as plain:
            assert plain.get("/v2/health/ready").status == 0
        certificate(tmp_path, 2)
        until(lambda: (serial(running.http_port), serial(running.grpc_port)) == (2, 2), "the new certificate")
