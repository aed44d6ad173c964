"""S3 stand-in: a folder of buckets, as an object store that speaks S3's REST API.

For tests of what uploads to a store that something else reads from the same folder. It knows put, get (of a part,
too), head, delete and the list of a bucket; whoever asks may.
"""

import hashlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from xml.sax.saxutils import escape, unescape

from tests.served import served


def etag(content: bytes) -> str:
    """What S3 calls a version of an object that was put in one part: the digest of its content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def put_whole(folder: Path, place: Path, content: bytes) -> None:
    """An object that is there at once, and never in part, below a folder of buckets."""
    place.parent.mkdir(parents=True, exist_ok=True)
    coming = folder.with_name(f"{folder.name}-{threading.get_ident()}.coming")
    coming.write_bytes(content)
    coming.replace(place)


@contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """Serve a folder, whose folders are the buckets. Gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            place, content = self._place(), self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/"):
                # Some clients mark a folder by an empty object of its name.
                place.mkdir(parents=True, exist_ok=True)
            else:
                put_whole(folder, place, content)
            self._answer(200)

        def do_GET(self) -> None:
            address = urllib.parse.urlsplit(self.path)
            asked = dict(urllib.parse.parse_qsl(address.query))
            if "list-type" in asked:
                self._answer(200, self._listing(asked.get("prefix", "")))
            elif self._place().is_file():
                content = self._place().read_bytes()
                part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
                if part is None or self.command == "HEAD":
                    self._answer(200, content)
                else:
                    first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
                    self._answer(206, content[first : last + 1], content, f"bytes {first}-{last}/{len(content)}")
            else:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        do_HEAD = do_GET

        def do_DELETE(self) -> None:
            self._place().unlink(missing_ok=True)
            self._answer(204)

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if not self.path.endswith("?delete"):
                self._answer(501)
                return
            keys = re.findall("<Key>(.*?)</Key>", asked)
            for key in keys:
                (self._place() / unescape(key)).unlink(missing_ok=True)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

        def _place(self) -> Path:
            return folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")

        def _listing(self, prefix: str) -> bytes:
            bucket = self._place()
            names = sorted(str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file())
            moment = "2026-01-01T00:00:00.000Z"
            contents = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{moment}</LastModified>"
                f"<ETag>{etag((bucket / name).read_bytes())}</ETag>"
                f"<Size>{(bucket / name).stat().st_size}</Size></Contents>"
                for name in names
                if name.startswith(prefix)
            )
            return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()

        def _answer(self, status: int, body: bytes = b"", whole: bytes | None = None, part: str = "") -> None:
            self.send_response(status)
            if part:
                self.send_header("Content-Range", part)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", f'"{etag(body if whole is None else whole)}"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests say nothing where all is well."""

    with served(Handler) as url:
        yield url
