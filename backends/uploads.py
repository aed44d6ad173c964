"""Uploads to an object store: what a compiled pipeline's steps fetch, each once, by the digest in its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.compilation.pipeline import Upload

# `minio://` is KFP's name for the store that Kubeflow itself brings, which speaks S3.
SCHEMES = {"minio": "s3"}
AT_ONCE = 8
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a store that is not Amazon's, AWS_ENDPOINT_URL",
    "minio": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, the address of Kubeflow's own store",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud auth application-default login",
}


def upload(uploads: Iterable[Upload], root: str, say: Callable[[str], None] = lambda line: None) -> int:
    """Bring what is not there yet to the upload root.

    Names hold a digest of the content, so what is there is right, and nothing is ever written over.

    Args:
        uploads: What a compiled pipeline asks for.
        root: Its `upload_root`: `s3://`, `minio://` or `gs://`.
        say: Called with a line of progress.

    Returns:
        How many bytes were sent.

    Raises:
        BackendError: the store cannot be reached or written; the message says with which credentials.
    """
    scheme, _, place = root.partition("://")
    bucket, _, folder = place.partition("/")
    wanted = {
        "/".join(filter(None, (item.uri.removeprefix(f"{scheme}://{bucket}/"), path))): content
        for item in uploads
        for path, content in item.files.items()
    }
    try:
        store = object_store(f"{SCHEMES.get(scheme, scheme)}://{bucket}")
        there = {item["path"] for page in obstore.list(store, prefix=folder or None) for item in page}
        missing = {path: content for path, content in wanted.items() if path not in there}
        if not missing:
            return 0
        size = sum(map(len, missing.values()))
        say(f"uploading {len(missing)} files, {size / 1024:,.0f} KiB, to {root}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda item: obstore.put(store, item[0], item[1]), missing.items()))
    except (BaseError, OSError, ValueError) as error:
        raise BackendError(
            f"{root} cannot be written ({_first_line(error)}). Steps fetch code and definitions from there: see that "
            f"it is the right upload_root, and that this machine has its credentials: {CREDENTIALS[scheme]}."
        ) from error
    return size


def object_store(url: str) -> Any:
    """A bucket, by the credentials that its own tools would use here."""
    given: dict[str, Any] = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}}
    if url.startswith("s3://"):
        given["region"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            # A store in a cluster has no names for its buckets, and often no certificate.
            given |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
            given["client_options"] = {"allow_http": endpoint.startswith("http:")}
    return from_url(url, **given)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
