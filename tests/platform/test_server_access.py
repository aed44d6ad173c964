"""A release to servers that ask who asks, which comes in itself and lets nobody else in who has no key; and one to an
endpoint that shows a certificate."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.empty_pb2 import Empty
from local_release import REQUEST, Load, make_model
from served_place import serving_place

from kfp_lifecycle.cli.inference import infer
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client, scores_in
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.release.local.operations import endpoint_of, release_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]

UNTIL_SECONDS = 60.0
KEY, OTHER, BURST = "0123456789abcdef", "fedcba9876543210", 5


def test_a_release_goes_through_where_people_need_keys_and_may_not_ask_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEOPLE", f"anna:{KEY}\nben:{OTHER}\n")
    server = {"api_keys": "${PEOPLE}", "rate_limit": {"per_second": 0.001, "burst": BURST}}
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1", 1.1), server=server)
        with Load(place.port, clients=1) as nobody:
            record = place.release(make_model(tmp_path / "v2", "2", 1.2), server=server)
        assert {status for status, _ in nobody.answers} == {401}
        assert record["version"] == "2"
        asked = [place.ask(headers={"x-api-key": KEY}).status for _ in range(BURST + 1)]
        assert asked == [200] * BURST + [429]
        assert place.ask(headers={"x-api-key": OTHER, "x-model-version": "2"}).status == 200


def test_people_without_keys_are_told_apart_by_the_address_that_the_front_sees(tmp_path: Path) -> None:
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1"), server={"rate_limit": {"per_second": 0.001, "burst": 1}})
        assert place.ask().status == 200
        assert place.ask(headers={"x-forwarded-for": "192.0.2.1"}).status == 429


def test_what_the_front_itself_refuses_has_the_shape_of_every_error(tmp_path: Path) -> None:
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1"))
        with Client(place.port) as client:
            forbidden = client.post("/v2/repository/models/devices/unload", {})
            too_large = client.get(f"/v2/models/{'x' * 70_000}")
        assert (forbidden.status, list(forbidden.json())) == (403, ["error"])
        assert (too_large.status, list(too_large.json())) == (431, ["error"])


def write_certificate(folder: Path, number: int) -> Path:
    """A certificate of its own for this machine's address, and its key, each put in its place by rename."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "endpoint")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), number)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in (("tls.key", private), ("tls.crt", made.public_bytes(serialization.Encoding.PEM))):
        (folder / f".{file}").write_bytes(content)
        (folder / f".{file}").rename(folder / file)
    return folder / "tls.crt"


def shown(port: int) -> int:
    """The number of the certificate that is shown at a port."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((LOOPBACK, port)).encode()).serial_number


def test_an_endpoint_by_tls_is_released_to_and_asked_by_rest_and_grpc_and_takes_a_renewed_certificate(
    tmp_path: Path,
) -> None:
    certificate = write_certificate(tmp_path, 1)
    server = {"tls": {"certificate": str(certificate), "key": str(tmp_path / "tls.key")}}
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1", 1.1), server=server)
        record = place.release(make_model(tmp_path / "v2", "2", 1.2), server=server)
        assert (record["version"], record["url"]) == ("2", f"https://{LOOPBACK}:{place.port}")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with Client(place.port, tls=trusted) as client:
            assert len(scores_in(client.post("/v2/models/devices/infer", REQUEST))) == 1
        endpoint = endpoint_of(place.serving, release_of(place.serving, "devices"))
        assert endpoint.healthy
        assert infer(endpoint, REQUEST)["model_version"] == "2"
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"{LOOPBACK}:{place.port + 1}", credentials) as channel:
            ready = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerReady",
                request_serializer=Empty.SerializeToString,
                response_deserializer=bytes,
            )
            # `ready: true`.
            assert ready(Empty(), timeout=30) == b"\x08\x01"
        assert place.ask().status == 0
        with pytest.raises(ContractViolation, match=r"answers by TLS.*lifecycle down"):
            place.release(make_model(tmp_path / "v3", "3"))
        write_certificate(tmp_path, 2)
        deadline = time.monotonic() + UNTIL_SECONDS
        while {shown(place.port), shown(place.port + 1)} != {2}:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path, 1)
    (tmp_path / "tls.key").write_text("no key")
    server = {"tls": {"certificate": str(certificate), "key": str(tmp_path / "tls.key")}}
    model = make_model(tmp_path / "v1", "1")
    with serving_place(tmp_path) as place:
        with pytest.raises(ContractViolation, match=r"tls\.key, which cannot be used"):
            place.release(model, server=server)
        assert not (place.serving / "devices" / "endpoint.json").exists()
