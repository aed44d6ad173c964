"""Reachability of stores by nothing but Python: HTTP, Redis' PING, a connection, a file in a folder."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from kfp_lifecycle.connections.object_store import PROTOCOLS, s3_endpoint, s3_region

SECONDS = 10.0
PREFIX = "LIFECYCLE_"
STORES = ("tracking_uri", "dataset_remote", "online_store", "prediction_log")
PORTS = {"postgresql": 5432, "ssh": 22, "redis": 6379, "rediss": 6379}
# What a server that wants to know who asks answers with.
UNKNOWN_CALLER = (401, 403)


@dataclass(frozen=True)
class Answer:
    """What came of asking one store."""

    store: str
    reached: bool
    detail: str

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def check_all(variables: Mapping[str, str] = os.environ) -> list[Answer]:
    """Ask every store that the variables name."""
    return [check(name, place, variables) for name in STORES if (place := variables.get(f"{PREFIX}{name.upper()}"))]


def check(store: str, location: str, variables: Mapping[str, str] = os.environ) -> Answer:
    """Ask one store.

    Args:
        store: Which it is: `online_store`.
        location: Where it is; `${NAME}` in it is taken from the variables, and never shown.
        variables: The step's variables.
    """
    missing = sorted(name for name in re.findall(r"\$\{(\w+)\}", location) if name not in variables)
    if missing:
        return Answer(store, False, f"the variable {', '.join(missing)} is not set: name its secret in the target")
    # Whatever characters a password has, it is one.
    place = urlsplit(re.sub(r"\$\{(\w+)\}", lambda match: quote(variables[match[1]], safe=""), location))
    try:
        return Answer(store, True, _ask(place, location, variables))
    except (OSError, ValueError) as error:
        shown = location.partition("?")[0]
        return Answer(store, False, f"{shown} does not answer: {getattr(error, 'reason', None) or error}")


def _ask(place: SplitResult, location: str, variables: Mapping[str, str]) -> str:
    scheme = place.scheme.partition("+")[0]
    scheme = PROTOCOLS.get(scheme, scheme)
    if scheme in ("http", "https"):
        return _ask_http(location)
    if scheme in ("redis", "rediss"):
        return _ping(place)
    if scheme in ("s3", "gs", "bigtable", "postgresql", "ssh"):
        host, port = _address(scheme, place, variables)
        with socket.create_connection((host, port), timeout=SECONDS):
            return f"{host}:{port} takes connections"
    if scheme in ("", "sqlite"):
        return _write(Path(location.removeprefix("sqlite:///")))
    return "it is of a kind that this check does not know"


def _address(scheme: str, place: SplitResult, variables: Mapping[str, str]) -> tuple[str, int]:
    if scheme in ("gs", "bigtable"):
        return ("storage" if scheme == "gs" else "bigtable") + ".googleapis.com", 443
    if scheme == "s3":
        endpoint = urlsplit(s3_endpoint(variables) or f"https://s3.{s3_region(variables)}.amazonaws.com")
        return endpoint.hostname or "", endpoint.port or (80 if endpoint.scheme == "http" else 443)
    return place.hostname or "", place.port or PORTS[scheme]


def _ask_http(address: str) -> str:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=SECONDS) as answer:
            return f"{address} answers {answer.status}"
    except urllib.error.HTTPError as error:
        if error.code in UNKNOWN_CALLER or error.code >= 500:
            raise ValueError(f"{error.code} {error.reason}") from error
        return f"{address} answers {error.code}"


def _ping(place: SplitResult) -> str:
    """Redis' own question, with the password that the location names."""
    host, port = place.hostname or "", place.port or PORTS["redis"]
    user, password = place.username, place.password
    with socket.create_connection((host, port), timeout=SECONDS) as plain:
        secure = place.scheme == "rediss"
        connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
        words = [["AUTH", *filter(None, (unquote(user or ""), unquote(password)))]] if password else []
        for command in [*words, ["PING"]]:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
            connection.sendall(f"*{len(command)}\r\n{parts}".encode())
            said = connection.recv(1024).decode("utf-8", "replace").strip()
            if said.startswith("-"):
                raise ValueError(said.removeprefix("-"))
    return f"{host}:{port} answers {said.removeprefix('+')}"


def _write(place: Path) -> str:
    folder = place if place.is_dir() or not place.suffix else place.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return f"{folder} can be written"
