"""Object stores as Arrow's file systems: S3, whatever speaks it, and Cloud Storage, in servers and in steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import fs

# What a URI's scheme speaks. `minio://` is KFP's name for the store that Kubeflow itself brings.
PROTOCOLS = {"s3": "s3", "minio": "s3", "gs": "gs"}
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
    return location.partition("://")[0] in PROTOCOLS and "://" in location


def s3_region(variables: Mapping[str, str]) -> str:
    """The region that a process with these variables asks S3 in."""
    return variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or "us-east-1"


def s3_endpoint(variables: Mapping[str, str]) -> str | None:
    """The URL of what speaks S3 to a process with these variables; None for Amazon's own."""
    return variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or None


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
    if endpoint := s3_endpoint(os.environ):
        given["endpoint_override"] = endpoint
    # What the service adds by itself to each request is not known to every store that speaks S3.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    store = fs.S3FileSystem(
        region=s3_region(os.environ),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **given,
    )
    return store, path.rstrip("/")
