"""Servers that several tests of the sources share, and data in them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.servers import PASSWORD, Server, mariadb, object_store, postgresql, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    yield from running(postgresql())


@pytest.fixture(scope="session")
def maria() -> Iterator[Server]:
    yield from running(mariadb())


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    yield from running(object_store("s3"))


@pytest.fixture(scope="session")
def gs() -> Iterator[str]:
    yield from running(object_store("gs"))


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> str:
    """The servers' password, as `${DB_PASSWORD}` of a source's URL finds it; as it stands in a URL."""
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    return quote(PASSWORD, safe="")
