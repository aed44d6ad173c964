"""TLS: certificate and key of the server, read again when they are renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from kfp_lifecycle.runtime.contract import ContractViolation

LOGGER = logging.getLogger(__name__)


class Tls:
    """What the server shows of itself, over HTTP and gRPC."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read them.

        Args:
            certificate: Chain of certificates in PEM, the server's own first.
            key: Its private key in PEM.

        Raises:
            ContractViolation: they cannot be read, or do not belong together.
        """
        self._certificate, self._key = certificate, key
        self._told = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._pair = self._read()
        except (OSError, ValueError) as error:
            raise ContractViolation(
                f"--tls_certificate {certificate} and --tls_key {key} cannot be used: {error}. Give both as PEM, the "
                "key without a password"
            ) from error

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """The same over gRPC; each new connection is shown the newest."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)

    def renew(self) -> None:
        """Read both again where they have changed; what is not whole yet leaves them as they were."""
        try:
            if (self._certificate.read_bytes(), self._key.read_bytes()) != self._pair:
                self._pair = self._read()
                self._told = ""
                LOGGER.info("the certificate was read again")
        except (OSError, ValueError) as error:
            if str(error) != self._told:
                self._told = str(error)
                LOGGER.error("the certificate stays as it was: %s", error)

    def _read(self) -> tuple[bytes, bytes]:
        pair = self._certificate.read_bytes(), self._key.read_bytes()
        # A context of its own: half of a pair that does not fit would stay in the other.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key, _no_password)
        self.context.load_cert_chain(self._certificate, self._key, _no_password)
        return pair

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = self._pair
        return grpc.ssl_server_certificate_configuration([(key, certificate)])


def _no_password() -> str:
    raise ValueError("the key has a password")
