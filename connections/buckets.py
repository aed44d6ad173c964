"""Buckets by obstore, where PyArrow is not: the command line and what releases models.

What steps of other environments and servers use is `object_store.py`, by Arrow.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from obstore.store import from_url

from kfp_lifecycle.connections.object_store import PROTOCOLS, s3_endpoint, s3_region


def address_of(uri: str) -> tuple[str, str]:
    """The bucket of a URI, as its store's own tools name it, and the path in it."""
    scheme, _, place = uri.partition("://")
    bucket, _, path = place.partition("/")
    return f"{PROTOCOLS.get(scheme, scheme)}://{bucket}", path


def store_of(uri: str) -> tuple[Any, str]:
    """The bucket of a URI, opened, and the path in it."""
    bucket, path = address_of(uri)
    return opened(bucket), path


def opened(url: str) -> Any:
    """A bucket, by the credentials that its own tools would use here."""
    given: dict[str, Any] = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}}
    if url.startswith("s3://"):
        given["region"] = s3_region(os.environ)
        if endpoint := s3_endpoint(os.environ):
            # A store in a cluster has no names for its buckets, and often no certificate.
            given |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
            given["client_options"] = {"allow_http": endpoint.startswith("http:")}
    return from_url(url, **given)
