"""Servers that several tests of the sources share, and data in them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.servers import PASSWORD, Server, mariadb, postgresql


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def maria() -> Iterator[Server]:
    with mariadb() as server:
        yield server


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> str:
    """The servers' password, as `${DB_PASSWORD}` of a source's URL finds it; as it stands in a URL."""
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    return quote(PASSWORD, safe="")
