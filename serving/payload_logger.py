"""KServe's payload logger: what a release tells it, so that whoever collects its CloudEvents can read them.

The logger, a proxy in each of a server's pods, sends what is asked and answered, and of the pod what it is told to: the
headers and annotations that are named here. One annotation says all that a collector has to know of the model.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

from pydantic import BaseModel, ConfigDict, ValidationError

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.deployment import LogSettings
from kfp_lifecycle.config.log_policy import LoggedKey
from kfp_lifecycle.runtime.contract import ContractViolation

ANNOTATION = "kfp-lifecycle/logged"
# By their canonical names, by which alone the logger finds them.
HEADERS = ("Content-Encoding", "Inference-Header-Content-Length", "X-Forwarded-For", "X-Shadow")
# It comes with each event, in a header; whoever takes events takes heads of 32,768 bytes.
MOST_BYTES = 16_384


class LoggedModel(BaseModel):
    """What a collector has to know of a version whose requests and answers it gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...] = ()
    entity_key: str
    key_type: str = ""
    """DuckDB's type of the key; empty where it is not known."""
    threshold: float
    settings: LogSettings = LogSettings()
    shadow: str = ""
    """Digest of the token by which a request is known to be nobody's."""
    hold_out: float = 0.0
    """Share of entities that are held out: a client that asks for the score alone is not answered who is."""
    trusted_proxies: int = 0
    """Proxies that add to `x-forwarded-for`, by which it is known who asked; none: it is not."""

    @property
    def mode(self) -> str:
        """What the logger sends: answers alone, where nothing of a request is logged."""
        return "all" if self.settings.features or self.settings.key is not LoggedKey.none else "response"

    def written(self) -> str:
        """As an annotation, without commas and quotes, which the logger would take apart.

        Raises:
            ContractViolation: there are too many features.
        """
        # The names of features are most of it, and not needed where none is logged and no request is sent.
        needed = self if self.mode == "all" else self.model_copy(update={"features": ()})
        found = urlsafe_b64encode(zlib.compress(needed.model_dump_json(exclude_defaults=True).encode(), 9)).decode()
        if len(found) > MOST_BYTES:
            raise ContractViolation(
                f"the model's {len(self.features)} features take {len(found):,} bytes to name, and KServe's logger "
                f"has to send them with each event, in at most {MOST_BYTES:,}: leave out log_collector, or set "
                "deployment.prediction_log.features to false and key to none"
            )
        return found

    @classmethod
    def read(cls, annotation: str) -> LoggedModel:
        """What was written.

        Raises:
            ValueError: it was not.
        """
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(urlsafe_b64decode(annotation), 2**20)
            return cls.model_validate_json(content)
        except (NotBase64, zlib.error, ValidationError) as error:
            raise ValueError(f"the annotation {ANNOTATION} is none of a release: {error}") from error
