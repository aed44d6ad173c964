"""Tokens of an OIDC issuer (JSON Web Tokens), verified by the issuer's published keys (JWKS)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt

from kfp_lifecycle.serving.server.errors import TooManyRequests, Unauthenticated, Unavailable

LOGGER = logging.getLogger(__name__)
# Signatures by a private key alone: with a shared secret, whoever verifies could sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY_SECONDS = 30
FETCH_SECONDS = 5.0
# Keys are fetched again when they are old, and when a token names another one; never more often than this.
KEYS_SECONDS = 300.0
RETRY_SECONDS = 10.0
MOST_DOCUMENT_BYTES = 2**20
# A token that was verified is believed for so long without another look.
BELIEVED_SECONDS = 60.0
MOST_BELIEVED = 10_000
MOST_WAITING = 256
MOST_TOKEN_BYTES = 16_384


class Tokens:
    """The tokens of one issuer for one audience."""

    def __init__(self, issuer: str, audience: str, keys: str | None) -> None:
        """Begin to fetch the issuer's keys; the server starts without them, too.

        Args:
            issuer: What `iss` must be.
            audience: What `aud` must name.
            keys: Address of the keys; None: the issuer's discovery document names it.
        """
        self._issuer, self._audience, self._address = issuer, audience, keys
        self._keys: dict[str | None, Any] = {}
        self._fetched_at, self._tried_at = -KEYS_SECONDS, -RETRY_SECONDS
        self._believed: dict[bytes, tuple[str, float]] = {}
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")
        self._thread.submit(self._fetch)

    def known(self, token: bytes) -> str | None:
        """Whose token it is, where it was verified a moment ago."""
        found = self._believed.get(hashlib.sha256(token).digest())
        return found[0] if found is not None and found[1] > time.time() else None

    async def verify(self, token: bytes) -> str:
        """Whose token it is.

        Raises:
            Unauthenticated: it is not the issuer's, not for this audience, or too old.
            TooManyRequests: as many tokens as may are waiting.
            Unavailable: the issuer's keys could not be fetched yet.
        """
        if self._waiting >= MOST_WAITING:
            raise TooManyRequests(f"{self._waiting} tokens are waiting to be verified; ask again later")
        self._waiting += 1
        try:
            client, expires = await asyncio.get_running_loop().run_in_executor(self._thread, self._verified, token)
        finally:
            self._waiting -= 1
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[hashlib.sha256(token).digest()] = client, min(expires, time.time() + BELIEVED_SECONDS)
        return client

    def close(self) -> None:
        """End the thread; an issuer that hangs is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verified(self, token: bytes) -> tuple[str, float]:
        if len(token) > MOST_TOKEN_BYTES:
            raise Unauthenticated("the token is too long")
        try:
            head = jwt.get_unverified_header(token)
            key = self._key(head.get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
            client = next((str(claims[name]) for name in ("sub", "client_id", "azp") if claims.get(name)), "")
            return client or self._issuer, float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated(f"the token is not taken: {error}") from error

    def _key(self, name: str | None) -> Any:
        now = time.monotonic()
        wanting = name not in self._keys or now - self._fetched_at > KEYS_SECONDS
        if wanting and now - self._tried_at > RETRY_SECONDS:
            self._fetch()
        if not self._keys:
            raise Unavailable(f"the keys of {self._issuer} could not be fetched; ask again later")
        if name not in self._keys:
            raise Unauthenticated(f"the token is signed by a key that {self._issuer} does not have")
        return self._keys[name]

    def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            if self._address is None:
                found = _document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self._issuer:
                    raise ValueError(f"its discovery document is that of {found.get('issuer')!r}")
                self._address = str(found["jwks_uri"])
            keys = [
                key
                for key in jwt.PyJWKSet.from_dict(_document(self._address)).keys
                if key.public_key_use in (None, "sig") and key.algorithm_name in ALGORITHMS
            ]
            self._keys = {key.key_id: key for key in keys}
            if len(keys) == 1:
                # A token need not name the only key.
                self._keys[None] = keys[0]
            self._fetched_at = time.monotonic()
        except Exception as error:  # its causes are many, and a server must outlive them all
            LOGGER.warning("the keys of %s stay as they were: %s", self._issuer, error)


def _document(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=FETCH_SECONDS) as answer:
        return dict(json.loads(answer.read(MOST_DOCUMENT_BYTES)))
