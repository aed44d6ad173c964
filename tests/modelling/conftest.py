"""Small data gain nothing from threads, and threads that wait for a busy core lose seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from tests.modelling.candidates import Candidate


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A candidate that meets every rule, in a project whose registry is empty and stays so."""
    # Training and evaluation take seconds to import, and most tests need neither.
    from tests.modelling.candidates import Candidate

    return Candidate(tmp_path_factory.mktemp("good"))
