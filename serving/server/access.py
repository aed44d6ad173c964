"""Access: which client asks, whether it may, and whether it has asked too much, over HTTP and gRPC alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kfp_lifecycle.serving.server.api_keys import ApiKeys
from kfp_lifecycle.serving.server.errors import Unauthenticated
from kfp_lifecycle.serving.server.rate_limit import RateLimit

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.tokens import Tokens

KEY_HEADER = b"x-api-key"
AUTHORIZATION = b"authorization"
FORWARDED = b"x-forwarded-for"
MOST_ADDRESS_BYTES = 64
_BEARER = b"bearer "


class Access:
    """Who may ask one server."""

    def __init__(
        self, keys: ApiKeys | None, tokens: Tokens | None, limit: RateLimit | None, trusted_proxies: int
    ) -> None:
        """Set up.

        Args:
            keys: Clients' keys; without keys and tokens anybody may ask.
            tokens: Clients' tokens.
            limit: How much each may ask.
            trusted_proxies: How many proxies in front of the server add to `x-forwarded-for`.
        """
        self._keys, self._tokens, self._limit, self._proxies = keys, tokens, limit, trusted_proxies

    @property
    def needs_credentials(self) -> bool:
        """Whether not everybody may ask."""
        return self._keys is not None or self._tokens is not None

    def admit(self, headers: Mapping[bytes, bytes], address: str) -> str | None:
        """Let a client ask.

        Args:
            headers: Of its request, by name in small letters.
            address: Where its connection comes from.

        Returns:
            Its name; None where that takes a while: `admit_later` finds out.

        Raises:
            Unauthenticated: it has no key or token, or another's.
            RateLimited: it has asked too much.
        """
        client = self._client(headers, address)
        if client is not None:
            self._count(client)
        return client

    async def admit_later(self, headers: Mapping[bytes, bytes]) -> str:
        """Let a client ask that has brought a token.

        Raises:
            Refusal: as `admit`, or the token cannot be verified now.
        """
        assert self._tokens is not None
        client = await self._tokens.verify(_token(headers))
        self._count(client)
        return client

    def renew(self) -> None:
        """Once a second: keys that have changed, clients that are gone."""
        if self._keys is not None:
            self._keys.renew()
        if self._limit is not None:
            self._limit.forget()

    def close(self) -> None:
        """End what it has begun."""
        if self._tokens is not None:
            self._tokens.close()

    def _client(self, headers: Mapping[bytes, bytes], address: str) -> str | None:
        if not self.needs_credentials:
            return self._address(headers, address)
        key = headers.get(KEY_HEADER, b"")
        if self._keys is not None and key:
            client = self._keys.client_of(key)
            if client is None:
                raise Unauthenticated("the API key is nobody's")
            return client
        token = _token(headers)
        if self._tokens is not None and token:
            return self._tokens.known(token)
        ways = [
            *(["an API key (header x-api-key)"] if self._keys is not None else []),
            *(["a token (header authorization: Bearer …)"] if self._tokens is not None else []),
        ]
        raise Unauthenticated(f"whoever asks must bring {' or '.join(ways)}")

    def _address(self, headers: Mapping[bytes, bytes], address: str) -> str:
        """The client's address: what the farthest of the trusted proxies saw."""
        return forwarded_for(headers.get(FORWARDED, b""), self._proxies) or address

    def _count(self, client: str) -> None:
        if self._limit is not None:
            self._limit.count(client)


def forwarded_for(header: bytes, proxies: int) -> str:
    """The address that the farthest of so many trusted proxies saw; empty where there are none, or it saw none."""
    if not proxies:
        return ""
    seen = header.split(b",")
    return seen[max(-proxies, -len(seen))].strip()[:MOST_ADDRESS_BYTES].decode("latin-1")


def _token(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(AUTHORIZATION, b"")
    return given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else b""
