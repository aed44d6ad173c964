"""Location of an online store: which of Feast's stores it is, its settings, and how it fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kfp_lifecycle.connections.secrets import reveal
from kfp_lifecycle.runtime.contract import ContractViolation

# Longest that a client tries to connect.
CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Location:
    """Where the values are."""

    name: str
    """For messages: without the password."""
    settings: dict[str, Any] = field(repr=False)
    """Feast's, of the online store; `type` is its kind."""
    failures: tuple[type[Exception], ...]
    """What the store's client raises where the store cannot be used."""
    no_table: Callable[[Exception], bool] = lambda error: False
    """Whether one of them only means that nothing was ever written there."""
    url: str = field(default="", repr=False)
    """With the password in its place; empty for a file."""
    file: Path | None = None
    """The SQLite file, if it is one."""
    hide: Callable[[str], str] = str
    """Takes the password out of a text, such as a client's error."""


def located(location: str) -> Location:
    """Read a location.

    Args:
        location: A SQLite file; `redis://[USER:${NAME}@]HOST:PORT[/DATABASE]` (`rediss://` for TLS);
            `postgresql://USER:${NAME}@HOST[:PORT]/DATABASE`; `bigtable://PROJECT/INSTANCE`; or `feast://TYPE` for any
            other store of Feast whose client is installed. `?SETTING=VALUE&…` gives settings of Feast's own that the
            rest does not, such as `sslmode` of PostgreSQL. Special characters in a name are quoted (%40); a password is
            written `${NAME}`, a variable's name or that of a mounted secret.

    Raises:
        ContractViolation: it cannot be understood, or no such variable is set.
    """
    name = without_password(location)
    if "://" not in location:
        file = Path(location).absolute()
        return Location(
            name, {"type": "sqlite", "path": str(file)}, (OSError, sqlite3.Error), _no_sqlite_table, file=file
        )
    revealed = reveal(location)
    try:
        url = urlsplit(revealed.url)
        return replace(_KINDS[url.scheme](url, name), hide=revealed.hide)
    except (KeyError, ValueError) as error:
        raise ContractViolation(
            f"The online store {name} must be a SQLite file, redis://HOST:PORT, "
            "postgresql://USER:${NAME}@HOST/DATABASE, bigtable://PROJECT/INSTANCE or feast://TYPE?SETTING=VALUE "
            "(online_store of the target)."
        ) from error


def without_password(location: str) -> str:
    """A location as it may be shown."""
    before, separator, after = location.rpartition("@")
    scheme, slashes, credentials = before.partition("://")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{slashes}{user}:***@{after}" if separator and slashes and colon else location


def _redis(url: SplitResult, name: str) -> Location:
    from redis.exceptions import RedisError

    parts = [f"{_given(url.hostname)}:{_given(url.port)}", f"db={url.path.strip('/') or 0}"]
    parts += [f"username={unquote(url.username)}"] if url.username else []
    parts += [f"password={unquote(url.password)}"] if url.password else []
    parts += ["ssl=true"] if url.scheme == "rediss" else []
    parts += [f"socket_connect_timeout={CONNECT_SECONDS}"]
    # Whether older values may be replaced is decided once for a materialization, not by a question for each row.
    settings = {"type": "redis", "connection_string": ",".join(parts), "skip_dedup": True}
    return Location(name, settings, (OSError, RedisError), url=url.geturl())


def _postgresql(url: SplitResult, name: str) -> Location:
    import psycopg

    settings = {
        "type": "postgres",
        "host": _given(url.hostname),
        "port": url.port or 5432,
        "database": _given(url.path.strip("/")),
        "user": unquote(_given(url.username)),
        "password": unquote(url.password or ""),
        **dict(parse_qsl(url.query)),
    }
    return Location(
        name,
        settings,
        (OSError, psycopg.Error),
        lambda error: isinstance(error, psycopg.errors.UndefinedTable),
        url.geturl(),
    )


def _bigtable(url: SplitResult, name: str) -> Location:
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError

    settings = {
        "type": "bigtable",
        "project_id": _given(url.netloc),
        "instance": _given(url.path.strip("/")),
        **dict(parse_qsl(url.query)),
    }
    return Location(
        name,
        settings,
        (OSError, GoogleAPIError, GoogleAuthError),
        lambda error: isinstance(error, NotFound),
        url.geturl(),
    )


def _feast(url: SplitResult, name: str) -> Location:
    # What its client raises is not known here.
    settings = {"type": _given(url.netloc), **dict(parse_qsl(url.query))}
    return Location(name, settings, (Exception,), url=url.geturl())


def _no_sqlite_table(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)


def _given(part: Any) -> Any:
    if not part:
        raise ValueError("a part is missing")
    return part


_KINDS: dict[str, Callable[[SplitResult, str], Location]] = {
    "redis": _redis,
    "rediss": _redis,
    "postgresql": _postgresql,
    "bigtable": _bigtable,
    "feast": _feast,
}
