"""A stand-in for Azure's Blob service, as far as reading a container needs it, for its real client library."""

from __future__ import annotations

import contextlib
import http.server
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.served import served

ACCOUNT = "devstoreaccount1"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@contextlib.contextmanager
def blobs(content: Mapping[str, bytes], container: str = "shop") -> Iterator[str]:
    """Serve blobs of one container; the connection string that leads to them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            blob = parts.path.removeprefix(f"/{ACCOUNT}/{container}").lstrip("/")
            if query.get("comp") == "list":
                return self._answer(200, _listing(content, container, query), {"Content-Type": "application/xml"})
            if not blob:
                return self._answer(200, b"", {})
            if blob not in content:
                return self._answer(404, b"", {"x-ms-error-code": "BlobNotFound"})
            body = content[blob]
            wanted = self.headers.get("x-ms-range") or self.headers.get("Range")
            headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "text/csv"}
            if not wanted or self.command == "HEAD":
                return self._answer(200, body, headers)
            first, last = wanted.removeprefix("bytes=").split("-")
            part = body[int(first) : int(last or len(body) - 1) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
            return self._answer(206, part, headers)

        def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            common = {"ETag": '"1"', "Last-Modified": DATE, "x-ms-version": "2021-12-02", "x-ms-creation-time": DATE}
            for name, value in {**common, **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with served(Handler) as url:
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey=a2V5;BlobEndpoint={url}/{ACCOUNT};"


def _listing(content: Mapping[str, bytes], container: str, query: Mapping[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    entries, folders = [], set()
    for name, body in sorted(content.items()):
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if delimiter and delimiter in rest:
            folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            continue
        entries.append(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{DATE}</Last-Modified><Etag>1</Etag>"
            f"<Content-Length>{len(body)}</Content-Length><Content-Type>text/csv</Content-Type>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        )
    entries += [f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in sorted(folders)]
    return (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{container}">'
        f"<Blobs>{''.join(entries)}</Blobs><NextMarker /></EnumerationResults>"
    ).encode()
