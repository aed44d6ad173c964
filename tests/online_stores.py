"""Every kind of online store, for real: where a test may fill one of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers

KINDS = [
    "sqlite",
    "redis",
    pytest.param("postgresql", marks=pytest.mark.slow),
    pytest.param("bigtable", marks=pytest.mark.slow),
    pytest.param("feast", marks=pytest.mark.slow),
]
_numbers = itertools.count()

Place = Callable[[Path], str]
"""From a test's folder to the location of an empty store."""


@contextlib.contextmanager
def places(kind: str) -> Iterator[Place]:
    """Empty stores of a kind, as many as are asked for; its server runs meanwhile.

    Raises:
        ServerMissing: this machine does not have the server.
    """
    if kind == "sqlite":
        yield lambda folder: str(folder / "online" / "online.db")
    elif kind == "feast":
        # A store that the project knows nothing of but its name and settings.
        yield lambda folder: f"feast://sqlite?path={folder / 'online.db'}"
    elif kind == "redis":
        with servers.redis() as url:
            yield lambda folder: f"{url}/{next(_numbers)}"
    elif kind == "postgresql":
        with servers.postgresql() as server, pytest.MonkeyPatch.context() as environment:
            environment.setenv("ONLINE_STORE_PASSWORD", servers.PASSWORD)
            place = f"postgresql://postgres:${{ONLINE_STORE_PASSWORD}}@127.0.0.1:{server.port}/postgres"
            yield lambda folder: f"{place}?sslmode=disable&db_schema=of_test_{next(_numbers)}"
    elif kind == "bigtable":
        with servers.bigtable() as address, pytest.MonkeyPatch.context() as environment:
            environment.setenv("BIGTABLE_EMULATOR_HOST", address)
            yield lambda folder: f"bigtable://library/instance-{next(_numbers)}"
    else:
        raise ValueError(kind)


@pytest.fixture(scope="session", params=KINDS)
def store_places(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each kind in turn; a kind that this machine has no server for is skipped, saying so."""
    yield from servers.running(places(request.param))


@pytest.fixture
def place(store_places: Place, tmp_path: Path) -> str:
    """An empty store."""
    return store_places(tmp_path)
