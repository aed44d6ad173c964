"""Configuration of the model server: who may ask and how much, what it tells of its requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kfp_lifecycle.config.data import SECRET_REFERENCE
from kfp_lifecycle.config.log_policy import LogFormat
from kfp_lifecycle.config.section import Section, text

# The address of a server, without a password in it.
HttpUrl = Annotated[str, text(r"^https?://[^\s@/]+(/[^\s@]*)?$", "an address begins with http:// or https://")]
# Tokens of an issuer that is asked in the clear could be anybody's.
IssuerUrl = Annotated[
    str,
    text(
        r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])[^\s@]+$",
        "an issuer's address begins with https:// (http:// only on this machine itself)",
    ),
]
SecretPlace = Annotated[
    str,
    text(
        r"^(|/[^\0]+|\$\{[A-Za-z_][A-Za-z0-9_]*\})$",
        "a secret is never written here: name a file by its whole path, or a variable such as ${API_KEYS}",
    ),
]


SecretFile = Annotated[str, text(r"^/[^\0]+$", "name a file by its whole path")]


class Oidc(Section):
    """Whose tokens let a client ask (OpenID Connect)."""

    issuer: IssuerUrl
    """The issuer, as its tokens name it in `iss`; its keys are found by `/.well-known/openid-configuration`."""
    audience: str = Field(min_length=1)
    """What `aud` of a token must name."""
    keys: IssuerUrl | None = None
    """Address of its keys (JWKS), where the issuer has no discovery document."""


class Tls(Section):
    """Certificate of the endpoint on this machine."""

    certificate: SecretFile
    """Chain of certificates in PEM, its own first."""
    key: SecretFile
    """Its private key in PEM, without a password."""


class RateLimit(Section):
    """How much one client may ask."""

    per_second: float = Field(gt=0)
    """Requests per second, on average, to one server."""
    burst: int = Field(default=20, gt=0)
    """Requests that may come at once."""


class ModelServer(Section):
    """The server of each version: who may ask, how much, and what it tells."""

    api_keys: SecretPlace = ""
    """File, or `${VARIABLE}`, that holds a line `client:key` for each client; read again when the file changes. Probes,
    metrics and releases need no key."""
    oidc: Oidc | None = None
    """Issuer whose tokens are taken, beside keys or alone."""
    rate_limit: RateLimit | None = None
    """For each client: by its key's or token's name, else by its address; beyond it 429 with `retry-after`."""
    hold_out: float = Field(default=0.0, ge=0, le=0.5)
    """Share of entities that are held out: each answer about one says so (`hold_out`), whatever its score, and whoever
    acts on predictions leaves it alone, so that what acting changes, and how good the model is, can be measured. Chosen
    by a digest of the key and the model's name: the same entities in each version and by each protocol."""
    tls: Tls | None = None
    """Certificate and key that the endpoint on this machine shows, over REST and gRPC, taken up again when they are
    renewed by rename; servers behind it are reached from this machine only. On KServe and Vertex AI the gateway has
    the certificate."""
    trusted_proxies: int = Field(default=0, ge=0, le=8)
    """Proxies in front on a cluster that add to `x-forwarded-for`, by which addresses of clients are known. The front
    on this machine is counted by itself."""
    log_format: LogFormat = LogFormat.text
    """`json`: one object a line."""
    log_requests: bool = False
    """Whether each request is a line of the log: id, client, code, rows, milliseconds."""
    traces: HttpUrl | None = None
    """OpenTelemetry collector that takes OTLP over HTTP, such as http://collector:4318; the variables OTEL_* say the
    rest, such as headers and sampler."""

    def arguments(self) -> dict[str, str]:
        """What a server is told of it, by the names of its arguments; nothing of what is not set."""
        told: dict[str, str | None] = {
            "api_keys": self.api_keys,
            "hold_out": f"{self.hold_out:g}" if self.hold_out else None,
            "trusted_proxies": str(self.trusted_proxies) if self.trusted_proxies else None,
            "log_format": self.log_format.value if self.log_format is not LogFormat.text else None,
            "log_requests": "yes" if self.log_requests else None,
            "traces": self.traces,
        }
        if self.oidc is not None:
            told |= {"oidc_issuer": self.oidc.issuer, "oidc_audience": self.oidc.audience, "oidc_keys": self.oidc.keys}
        if self.rate_limit is not None:
            told |= {
                "requests_per_second": f"{self.rate_limit.per_second:g}",
                "burst": str(self.rate_limit.burst),
            }
        return {name: value for name, value in told.items() if value}

    def variables(self) -> list[str]:
        """Variables that hold its secrets."""
        return SECRET_REFERENCE.findall(self.api_keys)
