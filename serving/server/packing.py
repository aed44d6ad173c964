"""Packed bodies: gzip and deflate, unpacked to no more than a body may hold."""

from __future__ import annotations

import zlib

from kfp_lifecycle.serving.server.errors import InvalidRequest, TooLarge, UnsupportedEncoding

_WINDOWS = {b"": None, b"identity": None, b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def unpacked(body: bytes, encoding: bytes, most_bytes: int) -> bytes:
    """A body as it was before it was packed.

    Args:
        body: What came.
        encoding: The header `content-encoding`.
        most_bytes: What it may hold.

    Raises:
        UnsupportedEncoding: it was packed in another way.
        TooLarge: it holds more.
        InvalidRequest: it is cut off, or something else.
    """
    encoding = encoding.strip().lower()
    if encoding not in _WINDOWS:
        raise UnsupportedEncoding("a body may be packed by gzip or deflate")
    window = _WINDOWS[encoding]
    if window is None:
        return body
    unpacker = zlib.decompressobj(window)
    try:
        found = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not what content-encoding says: {error}") from error
    if len(found) > most_bytes:
        raise TooLarge(f"a body may hold {most_bytes:,} bytes when it is unpacked: send several requests")
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequest("the packed body is cut off, or something follows it")
    return found
