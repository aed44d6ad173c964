"""Imported by every Python that finds it on its path: notes each attempt to reach another machine, and refuses it.

What a library does in C without Python's sockets is not seen.
"""

import os
import sys
from pathlib import Path

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event not in EVENTS:
        return
    address = arguments[0] if event.startswith("socket.get") else arguments[1]
    host = address[0] if isinstance(address, tuple) else address
    # A path or bytes is a socket in the file system; None is this machine.
    if host is None or not isinstance(host, str) or host.startswith(("/", *LOOPBACK)):
        return
    with Path(os.environ["TELEMETRY_WATCH"]).open("a", encoding="utf-8") as seen:
        seen.write(f"{event} {address} by {sys.argv[:1]}\n")
    raise ConnectionRefusedError(f"{host} is another machine")


if "TELEMETRY_WATCH" in os.environ:
    sys.addaudithook(_watch)
