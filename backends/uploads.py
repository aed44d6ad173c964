"""Object stores of a cluster: upload of what a compiled pipeline's steps fetch, download of what they wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.exceptions import BaseError

from kfp_lifecycle.backends.backend import BackendError, NotThere
from kfp_lifecycle.compilation.pipeline import Upload
from kfp_lifecycle.connections.buckets import address_of, store_of
from kfp_lifecycle.connections.errors import first_line

AT_ONCE = 8
LONGEST_REASON = 300
# What a store raises that cannot be reached, or refuses.
STORE_ERRORS = (BaseError, OSError, ValueError)
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
    wanted = {
        "/".join(filter(None, (address_of(item.uri)[1], path))): content
        for item in uploads
        for path, content in item.files.items()
    }
    try:
        store, folder = store_of(root)
        there = {item["path"] for page in obstore.list(store, prefix=folder or None) for item in page}
        missing = {path: content for path, content in wanted.items() if path not in there}
        if not missing:
            return 0
        size = sum(map(len, missing.values()))
        say(f"uploading {len(missing)} files, {size / 1024:,.0f} KiB, to {root}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda item: obstore.put(store, item[0], item[1]), missing.items()))
    except STORE_ERRORS as error:
        raise BackendError(
            f"{root} cannot be written ({reason_of(error)}). Steps fetch code and definitions from there: see that "
            f"it is the right upload_root, and that this machine has its credentials: {credentials_of(root)}."
        ) from error
    return size


def object_names(uri: str) -> list[str]:
    """Names of the objects below a URI, without it.

    Raises:
        BackendError: the store cannot be read.
    """
    store, prefix = store_of(uri)
    with _plain_errors(uri, "read"):
        return [item["path"].removeprefix(f"{prefix}/") for page in obstore.list(store, prefix=prefix) for item in page]


def download(uri: str, file: str, folder: Path) -> Path:
    """Bring an object to a folder: `file` below a URI, or what the URI itself names.

    Raises:
        NotThere: there is neither.
        BackendError: the store cannot be read.
    """
    store, path = store_of(uri)
    for candidate in (f"{path}/{file}", path):
        with _plain_errors(uri, "read"):
            try:
                content = obstore.get(store, candidate).bytes()
            except FileNotFoundError:
                continue
        place = folder / Path(candidate).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place
    raise NotThere(f"{uri} has no {file}")


def credentials_of(uri: str) -> str:
    """How this machine is given the credentials of a URI's store."""
    return CREDENTIALS[uri.partition("://")[0]]


def reason_of(error: Exception) -> str:
    """Why a store refused, in a line of bounded length."""
    return first_line(error)[:LONGEST_REASON]


@contextmanager
def _plain_errors(uri: str, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except STORE_ERRORS as error:
        raise BackendError(
            f"{uri} cannot be {what} ({reason_of(error)}): see that this machine has its credentials: "
            f"{credentials_of(uri)}."
        ) from error
