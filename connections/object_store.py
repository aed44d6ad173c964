"""Object stores as Arrow's file systems: S3, whatever speaks it, and Cloud Storage, in servers and in steps."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import fs

SCHEMES = ("s3", "minio", "gs")
CONNECT_SECONDS, REQUEST_SECONDS = 10.0, 30.0
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Variables by which a process reaches a store; without, it takes what its machine or its pod's account gives."""


def is_object_store(location: str) -> bool:
    """Whether a location is in an object store."""
    return location.partition("://")[0] in SCHEMES and "://" in location


def file_system(location: str, *, writing: bool = False) -> tuple[fs.FileSystem, str]:
    """The store of a location, with the credentials of this process's environment, and the path in it.

    Args:
        location: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, or `minio://` for a store of one's own that speaks S3.
        writing: Small objects are put by one request, which takes PyArrow 18.
    """
    # It takes a while to import, and most locations are folders.
    from pyarrow import fs

    scheme, _, path = location.partition("://")
    if scheme == "gs":
        patience = timedelta(seconds=REQUEST_SECONDS)
        if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
            kind, _, address = emulator.partition("://")
            there = fs.GcsFileSystem(anonymous=True, scheme=kind, endpoint_override=address, retry_time_limit=patience)
            return there, path.rstrip("/")
        return fs.GcsFileSystem(retry_time_limit=patience), path.rstrip("/")
    given: dict[str, Any] = {"allow_delayed_open": True} if writing else {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        given["endpoint_override"] = endpoint
    # What the service adds by itself to each request is not known to every store that speaks S3.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    store = fs.S3FileSystem(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **given,
    )
    return store, path.rstrip("/")
