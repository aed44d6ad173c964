"""Cloud Storage stand-in: a folder of buckets, as a store that speaks the JSON interface that Google's clients speak.

It knows uploads in sessions, get, list and delete; whoever asks may.
"""

import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.control_planes.object_store import put_whole
from tests.served import served

MOMENT = "2026-01-01T00:00:00Z"


@contextmanager
def cloud_storage(folder: Path) -> Iterator[str]:
    """Serve a folder, whose folders are the buckets. Gives the address, for STORAGE_EMULATOR_HOST."""
    sessions: dict[str, Path] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = self._asked()
            session = f"/upload/session/{len(sessions)}"
            sessions[session] = folder / self.path.split("/")[5] / asked["name"]
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, {}, Location=f"http://{self.headers['Host']}{session}")

        def do_PUT(self) -> None:
            place, content = sessions[self.path], self.rfile.read(int(self.headers["Content-Length"]))
            put_whole(folder, place, content)
            self._answer(200, self._described(place))

        def do_GET(self) -> None:
            asked, place = self._asked(), self._place()
            if place is None:
                bucket = folder / self.path.split("/")[4]
                files = sorted(file for file in bucket.rglob("*") if file.is_file())
                found = [self._described(file) for file in files]
                self._answer(200, {"items": [item for item in found if item["name"].startswith(asked["prefix"])]})
            elif not place.is_file():
                self._answer(404, {"error": {"code": 404, "message": "there is none"}})
            elif asked.get("alt") == "media":
                self._answer(200, place.read_bytes())
            else:
                self._answer(200, self._described(place))

        def do_DELETE(self) -> None:
            place = self._place()
            assert place is not None
            place.unlink(missing_ok=True)
            self._answer(204, b"")

        def _asked(self) -> dict[str, str]:
            return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))

        def _place(self) -> Path | None:
            """The object of `/storage/v1/b/BUCKET/o/NAME`."""
            parts = urllib.parse.urlsplit(self.path).path.split("/b/", 1)[1].split("/o/", 1)
            return folder / parts[0] / urllib.parse.unquote(parts[1]) if len(parts) == 2 else None

        def _described(self, file: Path) -> dict[str, str]:
            bucket, _, name = str(file.relative_to(folder)).partition("/")
            size = str(file.stat().st_size)
            numbers = {"generation": "1", "metageneration": "1", "size": size}
            return {"bucket": bucket, "name": name, "timeCreated": MOMENT, "updated": MOMENT, **numbers}

        def _answer(self, status: int, content: Any, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests say nothing where all is well."""

    with served(Handler) as url:
        yield url
